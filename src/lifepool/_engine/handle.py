"""Define the handle of a submitted task."""

from __future__ import annotations

import asyncio
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from lifepool._core.states import TaskState
from lifepool._usercode.attributes import mro_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.base import Payload
    from lifepool.errors import PoolError
    from lifepool.hooks import TaskRecord

T = TypeVar("T")


class TaskOwner(Protocol):
    """Whoever runs the task of a handle, as the handle needs it: the engine.

    Attributes:
        loop: The event loop that the handle belongs to.
        thread: The identifier of the thread that runs the loop.
    """

    loop: asyncio.AbstractEventLoop
    thread: int

    def is_here(self) -> bool:
        """Return whether the calling thread runs the event loop."""

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task without an outcome."""

    def cancel(self, handle: TaskHandle[Any]) -> None:
        """Drop or interrupt the task of a handle that was cancelled."""


class TaskHandle(asyncio.Future[T]):
    """A task that was submitted; await it for its answer.

    It is an ``asyncio.Future``: it works with ``asyncio.wait``, ``gather``, ``timeout`` and callbacks, and an error
    nobody looked at is logged. Only the pool sets its result.

    Like any future it belongs to its event loop: ``await`` it and add callbacks there. ``cancel``, ``abort``, ``id``,
    ``state``, ``progress`` and ``done`` may be used from any thread.

    Cancellation:
        ``cancel()``, or cancelling the coroutine that awaits the handle, drops a queued task at once and interrupts a
        running one: first by an exception in the worker, then, after a short grace, by ending the worker. With
        ``on_cancel="abandon"`` a running task goes on and its answer is dropped.
    """

    # One object per task, and no dict: a pool may hold 100,000 of them.
    __slots__ = (
        "_abandon", "_error", "_name", "_outcome", "_owner", "_payload", "_progress", "_record", "_retry_on", "_task",
        "_value",
    )  # fmt: skip

    def __init__(
        self,
        owner: TaskOwner,
        task: int,
        name: str,
        payload: Payload | None,
        retry_on: tuple[type[BaseException], ...],
        *,
        abandon: bool,
    ) -> None:
        super().__init__(loop=owner.loop)
        self._owner = owner
        self._task = task
        self._name = name
        self._payload = payload
        self._retry_on = retry_on
        self._abandon = abandon
        self._value: Any = None
        self._error: BaseException | None = None
        self._outcome: TaskState | None = None
        self._progress: object = None
        self._record: TaskRecord | None = None  # for hooks, while there are any

    @property
    def id(self) -> int:
        """Return the task's number, unique within the pool."""
        return self._task

    @property
    def state(self) -> TaskState:
        """Return where the task is now."""
        state = self._outcome or self._owner.task_state(self._task)
        if state is None:  # its outcome is on the way: it was cancelled just now, or another thread asks in between
            return TaskState.CANCELLED if self.done() else TaskState.RUNNING
        return state

    @property
    def progress(self) -> object:
        """Return what the function last passed to ``lifepool.report_progress``, or None."""
        return self._progress

    def _is_retried_on(self, error: BaseException) -> bool:
        """Return whether ``retry_on`` names it: as an ``except`` clause decides it, without asking any class."""
        bases = mro_of(type(error))
        return any(each is base for each in self._retry_on for base in bases)

    def abort(self, error: PoolError) -> None:
        """Take the task back, as ``cancel`` does, but raise ``error`` where it is awaited."""
        if get_ident() != self._owner.thread:
            self._on_loop(self.abort, error)
        elif not self.done():
            self.set_exception(error)
            self.exception()  # whoever awaits it gets it; if nobody does, nothing is lost
            self._owner.cancel(self)

    def cancel(self, msg: Any | None = None) -> bool:
        """Take the task back; see the class for what that does. From another thread it is done a moment later.

        Returns:
            Whether it was not done yet.
        """
        if get_ident() != self._owner.thread:
            return not self.done() and self._on_loop(self.cancel, msg)
        if not super().cancel(msg):
            return False
        self._owner.cancel(self)
        return True

    def _on_loop(self, function: Callable[[Any], object], argument: Any) -> bool:
        """Have the event loop's thread call a function; return whether there is a loop that can."""
        if self._owner.is_here():  # the loop has moved to this thread
            return bool(function(argument))
        try:
            self._owner.loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # it is closed, and the task with it
            return False
        return True
