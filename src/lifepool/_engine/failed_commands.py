"""What it costs when a command of the scheduler can't be performed: one worker, or one task."""

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


def given_up(backend: Backend, command: Any, error: Exception) -> WorkerExited:
    """End a worker that something failed about, and take it for gone.

    Args:
        backend: Whose worker it is.
        command: What could not be performed. A task that could not be sent is lost: sent anew it might fail anew.
        error: What was raised.

    Returns:
        The end to tell of. What the backend tells later about this worker concerns nobody any more.

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


def end_anyway(handle: TaskHandle[Any], error: Exception) -> None:
    """Give a task an outcome though giving it its own failed: nobody is to wait for ever."""
    logger.error("the outcome of task %d could not be given", handle.id, exc_info=error)
    if not handle.done():
        failure = InternalError(f"the task's outcome could not be given: {error!r}")
        failure.__cause__ = error
        handle.set_exception(failure)


def warn_of_kept_views(command: WarnOfKeptViews) -> None:
    """Log that a worker is replaced because it keeps too many views."""
    message = "worker %d is replaced: it keeps views of the arguments of %d tasks, %d bytes (copy=False)"
    logger.warning(message, command.worker, command.kept.tasks, command.kept.size)


def forked_copy() -> PoolClosed:
    """Make the error that every call gets in a process that was forked from the pool's."""
    return PoolClosed(
        "the pool belongs to the process that this one was forked from",
        hint="start a pool in this process, or have the parent run the task",
    )
