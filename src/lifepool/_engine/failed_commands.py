"""Deal with a command of the scheduler that can't be performed: it costs one worker, or one task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from lifepool._core.commands import SendTask
from lifepool._core.events import WorkerExited
from lifepool.errors import InternalError, PoolClosed

if TYPE_CHECKING:
    from lifepool._core.commands import WarnOfKeptViews
    from lifepool._engine.handle import TaskHandle
    from lifepool.backends.base import Backend

logger = logging.getLogger("lifepool")

CLOSE_HINT = "close a pool before its loop ends, best with 'async with pool'; start it again on the loop that runs now"


def give_up_worker(backend: Backend, command: Any, error: Exception) -> WorkerExited:
    """End the worker that a failed command was about, and treat it as gone.

    Args:
        backend: Whose worker it is.
        command: What could not be performed. A task that could not be sent is lost: sent anew it might fail anew.
        error: What was raised.

    Returns:
        The worker's end, as an event. What the backend reports later about this worker is ignored.

    Raises:
        Exception: ``error`` itself, if the command is about no worker.
    """
    worker = getattr(command, "worker", None)
    if worker is None:
        raise error
    logger.error("lifepool could not perform %s; the worker is ended, the others go on", command, exc_info=error)
    sent = command.task if isinstance(command, SendTask) else None
    unstarted: tuple[int, ...] = ()
    try:
        if backend.capabilities.retract:
            unstarted = tuple(task for task in backend.retract(worker) if task != sent)
        backend.kill_worker(worker)
    except Exception:
        logger.exception("worker %d could not be ended", worker)
    return WorkerExited(worker, unstarted, reason=f"lifepool failed in its dealings with it: {error!r}")


def settle_anyway(handle: TaskHandle[Any], error: Exception) -> None:
    """Fail a task whose own outcome could not be set, so that nobody waits for ever."""
    logger.error("the outcome of task %d could not be given", handle.id, exc_info=error)
    if not handle.done():
        failure = InternalError(f"the task's outcome could not be given: {error!r}")
        failure.__cause__ = error
        handle.set_exception(failure)


def warn_of_kept_views(command: WarnOfKeptViews) -> None:
    """Log that a worker is replaced because it keeps too many views."""
    message = "worker %d is replaced: it keeps views of the arguments of %d tasks, %d bytes (copy=False)"
    logger.warning(message, command.worker, command.kept.tasks, command.kept.size)


def forked_copy_error() -> PoolClosed:
    """Return the error that every call gets in a process that was forked from the pool's."""
    return PoolClosed(
        "the pool belongs to the process that this one was forked from",
        hint="start a pool in this process, or have the parent run the task",
    )
