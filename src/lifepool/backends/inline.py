"""Run tasks in the caller's process, on the event loop: for tests and for a debugger.

The answer is there before ``submit`` returns. Nothing is pickled, nothing is isolated, and a task blocks the loop for
as long as it runs: timeouts of running tasks can't be kept, and there is never a queue.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool._inside import state
from lifepool._transfer.context import call_in_copy
from lifepool._transfer.exceptions import bearable
from lifepool._usercode.display import reason_of
from lifepool._usercode.interrupts import is_from_signal, passed_on
from lifepool.backends.base import Capabilities, Listener, PlainCall
from lifepool.errors import TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._transfer.context import PropagatedContext


class InlineBackend:
    """One worker that is the caller itself.

    Args:
        initializer: Called once, when the pool starts.
        initargs: Its arguments.
    """

    capabilities: Capabilities = Capabilities(
        kill=False,
        interrupt=False,
        retract=False,
        progress=True,
        crash_isolation=False,
        views=True,
        logs=True,
        max_workers=1,
    )

    def __init__(self, *, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()) -> None:
        self._initializer = initializer
        self._initargs = initargs

    async def open(self, listener: Listener) -> None:
        """Remember the listener and its event loop."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Do nothing: what tasks log is logged here."""

    def start_worker(self, worker: int) -> None:
        """Run the initializer; there is nothing else to start."""
        try:
            if self._initializer is not None:
                self._initializer(*self._initargs)
        except BaseException as error:
            passed_on(error, self._loop)
            failed = WorkerExited(worker, start_error=reason_of(error), start_hint="the initializer failed")
            self._listener.exited(failed)
        else:
            self._listener.ready(worker)

    def stop_worker(self, worker: int) -> None:
        """Report the end at once: nothing runs between tasks."""
        self._listener.exited(WorkerExited(worker, exitcode=0))

    def kill_worker(self, worker: int) -> None:
        """Do what ``stop_worker`` does."""
        self._listener.exited(WorkerExited(worker, exitcode=0))

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> PlainCall:
        """Wrap the call; without ``copy`` the function gets read-only views of what is the caller's.

        Raises:
            TaskNotPicklable: If there are to be views, and the arguments can't be pickled.
        """
        return PlainCall(fn, args if copy else _viewed(args), propagated)

    def send(self, worker: int, task: int, payload: PlainCall) -> None:
        """Run it now."""
        value: object = None
        error: BaseException | None = None
        reports = _Reports(partial(self._listener.progressed, worker, task))
        sink, state.progress_sink = state.progress_sink, reports.report
        started = time.perf_counter()
        try:
            value = call_in_copy(payload.fn, payload.args)
        except BaseException as raised:
            passed_on(raised, self._loop)
            error = bearable(raised)
        finally:
            state.progress_sink = sink
            reports.end()
        self._listener.returned(worker, task, value, error, run_s=time.perf_counter() - started)

    def retract(self, worker: int) -> tuple[int, ...]:
        """Return nothing: what was sent has run."""
        return ()

    def interrupt(self, worker: int, task: int) -> None:
        """Do nothing: this is never called, see the capabilities."""

    def pid(self, worker: int) -> None:
        """Return None: the worker has no process of its own."""

    def abandon(self) -> None:
        """Do nothing: there is nothing to release."""

    async def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _Reports:
    """The progress of one task. Threads that it has started may report too; the engine hears of it on its own thread.

    Args:
        notify: Notifies the engine.
    """

    def __init__(self, notify: Callable[[object], None]) -> None:
        self._notify = notify
        self._loop_thread = threading.current_thread()
        self._others = frozenset(threading.enumerate()) - {self._loop_thread}  # they belong to nobody or to other tasks
        self._late: list[object] = []

    def report(self, value: object) -> None:
        """Pass it on, at once or at the end."""
        thread = threading.current_thread()
        if thread is self._loop_thread:
            self._late.clear()
            self._notify(value)
        elif thread not in self._others:
            self._late[:] = [value]

    def end(self) -> None:
        """Pass on what other threads reported last."""
        for value in self._late:
            self._notify(value)


def _viewed(args: tuple[Any, ...]) -> Any:
    buffers: list[pickle.PickleBuffer] = []
    try:
        pickled = pickle.dumps(args, 5, buffer_callback=buffers.append)
        return pickle.loads(pickled, buffers=[buffer.raw().toreadonly() for buffer in buffers])
    except BaseException as error:
        if is_from_signal(error):
            raise
        raise TaskNotPicklable("arguments", "args", reason_of(error)) from error
