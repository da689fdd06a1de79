"""Notice callbacks of the event loop that fail: a callback that raises is logged by asyncio, and nobody acts on it.

Each callback about one worker goes through that worker's ``Guard``: an unexpected exception ends the worker, and so its
tasks get their outcomes. A callback about no worker in particular is ``logged``, and all goes on.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")

logger: logging.Logger = logging.getLogger("lifepool")


class Guard:
    """Stand between the event loop and the callbacks about one worker.

    Args:
        on_failure: Called with what a callback raised. Callbacks that are called for each frame have a ``try`` of their
            own, which costs nothing, and call ``failed``.
    """

    __slots__ = ("failed",)

    def __init__(self, on_failure: Callable[[Exception], None]) -> None:
        self.failed: Callable[[Exception], None] = on_failure

    def __call__(self, callback: Callable[P, object]) -> Callable[P, None]:
        """Wrap the callback: what it raises is reported to the worker's owner."""

        def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except Exception as error:
                self.failed(error)

        return guarded


def logged(callback: Callable[P, object], what: str) -> Callable[P, None]:
    """Wrap the callback: what it raises is logged.

    Args:
        callback: About no worker in particular.
        what: What it does, for the log.
    """

    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            callback(*args, **kwargs)
        except Exception:
            logger.exception("lifepool failed to %s; it goes on", what)

    return guarded
