"""Carry calls by Celery: tasks of a Celery queue, which real Celery workers take; outcomes come home beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["register"]


def register(app: Any, *, allow: Iterable[str], queue: str | None = None) -> None:
    """Have the workers of an existing Celery app run the calls of pools, beside the app's own tasks.

    Call it where the app is made. Pools reach these workers by ``Pool(backend="celery+redis://...?workers=celery")``,
    with ``&queue=`` and the queue's name. They can do what Celery can: there is no progress, and a task that passes
    its timeout or is cancelled is ended with its process, without an exception before.

    Args:
        app: The app. Its broker must be Redis, and its workers must use Celery's ``prefork`` pool.
        allow: Modules and functions that pools may call, as ``lifepool worker --allow`` takes them.
        queue: A queue that the workers read; by default the app's default queue.

    Raises:
        BackendUnsupported: If the broker is another one, or one beyond this machine and there is no
            ``LIFEPOOL_SECRET``.
    """
    from lifepool.backends.celery.prefork import register as registered

    registered(app, allow=allow, queue=queue)
