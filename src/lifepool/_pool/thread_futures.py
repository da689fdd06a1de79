"""Settle the futures that threads wait for, on the event loop."""

from __future__ import annotations

import contextlib
import functools
import logging
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from lifepool._core.states import TaskState

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool._engine.handle import TaskHandle

logger = logging.getLogger("lifepool")

T = TypeVar("T")


class ThreadFuture(Future[T]):
    """The outcome of a task for other threads. Its callbacks can't end the pool's thread, whatever they raise.

    Args:
        is_pools_thread: Returns whether it is called on the pool's thread.

    Attributes:
        handle: The task's, from when the pool has it until it is settled.
    """

    def __init__(self, is_pools_thread: Callable[[], bool]) -> None:
        super().__init__()
        self.handle: TaskHandle[T] | None = None
        self._is_pools_thread = is_pools_thread

    def running(self) -> bool:
        """Return whether a worker has the task now."""
        handle = self.handle
        return handle is not None and not self.done() and handle.state is TaskState.RUNNING

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn`` with this future when it is done: on the pool's thread or, if that is so now, at once."""
        super().add_done_callback(functools.partial(self._call, fn))

    def _call(self, fn: Callable[[Future[T]], object], future: Future[T]) -> None:
        try:
            fn(future)
        except Exception:
            raise  # the standard library logs it
        except BaseException:
            if not self._is_pools_thread():
                raise
            logger.exception("a done-callback of %r raised", future)


def settle(future: Future[T], value: T | None = None, error: BaseException | None = None) -> None:
    """Give a future its outcome, unless it was cancelled: then wake those who wait for it."""
    if not future.set_running_or_notify_cancel():
        return
    if error is None:
        future.set_result(value)  # type: ignore[arg-type]  # None is the value of a function that returns nothing
    else:
        future.set_exception(error)


def pass_on_cancel(source: asyncio.Future[Any], future: Future[Any]) -> None:
    """Cancel the task on the event loop whose outcome the thread's future waits for, if that was cancelled."""
    if future.cancelled():
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has its outcome
            source.get_loop().call_soon_threadsafe(source.cancel)
