"""Run the same API over any ``concurrent.futures.Executor``: to the scheduler one worker with many slots.

With the standard library's ``ProcessPoolExecutor`` it is what ``Pool`` falls back to where the local backend does not
run. What an executor can't do is made up for as far as possible: a task that passed its timeout is answered at once,
but its slot stays taken until the function returns. When the executor breaks (a process of a ``ProcessPoolExecutor``
died), all it was running is lost, and a new one is made.

An executor that the user made may be shut down by the user, and then runs nothing any more. What it had not started
fails with ``BackendUnavailable``, as does what it is given then; what it runs, it finishes. After that the worker is
gone, and none comes up: the pool says so, and refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import time
from concurrent.futures import BrokenExecutor, Executor, Future
from concurrent.futures.process import ProcessPoolExecutor  # its name one folder up may stand for ours
from functools import partial
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool._transfer.context import call_in_copy
from lifepool._transfer.exceptions import bearable
from lifepool._usercode.display import MAX_REASON_CHARS, cut, text_of
from lifepool._usercode.interrupts import is_from_signal
from lifepool.backends.base import Capabilities, Listener, PlainCall
from lifepool.backends.guard import Guard
from lifepool.backends.serialized_calls import SerializedCall, opened, run_serialized
from lifepool.backends.start_failures import why_not_started
from lifepool.errors import BackendUnavailable, TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._transfer.context import PropagatedContext, WithContext


logger: logging.Logger = logging.getLogger("lifepool")

_GONE_HINT = "close the pool before you shut its executor down, or make a new executor and a new pool"


class ExecutorBackend:
    """Workers of an executor that somebody else wrote.

    Args:
        make_executor: Makes an executor that is ready to use; called at the start and after one broke.
        slots: Tasks given to it at the same time; for a ``ProcessPoolExecutor`` its number of processes.
        owned: Whether the executor is shut down with the pool. One that the user made is the user's to shut down.
        packs: Whether calls and answers go to other processes, and so are given to it as bytes.
    """

    def __init__(
        self, make_executor: Callable[[], Executor], *, slots: int, owned: bool = True, packs: bool = False
    ) -> None:
        self._owned = owned
        self._packs = packs
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._worker: int | None = None
        self._tasks: set[int] = set()
        self._doubt: BaseException | None = None  # what it refused a task with
        self._when_done = Guard(self._failed)(self._done)
        self._endings: list[asyncio.Future[None]] = []
        self.capabilities: Capabilities = Capabilities(
            kill=False,
            interrupt=False,
            retract=False,
            progress=False,
            crash_isolation=False,
            slots=slots,
            max_workers=1,
        )

    @classmethod
    def of_processes(
        cls,
        workers: int,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_tasks_per_child: int | None = None,
    ) -> ExecutorBackend:
        """Make a backend over a ``ProcessPoolExecutor``, whose processes are started cleanly (never forked).

        Args:
            workers: How many processes.
            initializer: Called once in each.
            initargs: Its arguments.
            max_tasks_per_child: Tasks after which a process is replaced.
        """
        import multiprocessing

        context = multiprocessing.get_context("spawn")
        make = partial(
            ProcessPoolExecutor,
            workers,
            mp_context=context,
            initializer=initializer,
            initargs=initargs,
            max_tasks_per_child=max_tasks_per_child,
        )
        return cls(make, slots=workers, packs=True)

    async def open(self, listener: Listener) -> None:
        """Remember the loop to come back to."""
        self._listener = listener
        self._loop = asyncio.get_running_loop()

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Do nothing: this is never called, see the capabilities."""

    def start_worker(self, worker: int) -> None:
        """Make the executor; whether its processes start is seen with the first task."""
        try:
            executor = self._make_executor()
            if self._doubt is not None and not self._owned:
                executor.submit(_nothing)  # it is the same one: does it take anything?
        except BaseException as error:
            if is_from_signal(error):
                raise
            cause, hint = why_not_started(error, "the executor can't run tasks", _GONE_HINT)
            self._listener.exited(WorkerExited(worker, start_error=cause, start_hint=hint))
            return
        self._executor, self._worker, self._doubt = executor, worker, None
        self._listener.ready(worker)

    def stop_worker(self, worker: int) -> None:
        """Shut the idle executor down."""
        self._drop(worker, WorkerExited(worker, exitcode=0))

    def kill_worker(self, worker: int) -> None:
        """Let the executor go without waiting; what it runs, it finishes for nobody."""
        self._drop(worker, WorkerExited(worker, reason="the executor was shut down"))

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> PlainCall | SerializedCall:
        """Pickle the call for an executor of processes; any other one pickles itself, if it has to.

        Raises:
            TaskNotPicklable: If it can't be pickled.
        """
        call = PlainCall(fn, args, propagated)
        return SerializedCall(call) if self._packs else call

    def send(self, worker: int, task: int, payload: PlainCall | SerializedCall) -> None:
        """Submit it."""
        assert self._executor is not None  # noqa: S101 - sent to a worker, so it was started
        try:
            if isinstance(payload, SerializedCall):
                future: Future[Any] = self._executor.submit(run_serialized, payload.pickled)
            else:
                future = self._executor.submit(_timed, payload.fn, payload.args)
        except BrokenExecutor as error:
            self._broke(worker, error, (task,))
            return
        except BaseException as error:  # it was shut down, or there is no thread or process for it
            if is_from_signal(error):
                raise
            self._refused(worker, task, error)
            return
        self._tasks.add(task)
        future.add_done_callback(partial(self._from_any_thread, worker, task))

    def retract(self, worker: int) -> tuple[int, ...]:
        """Do nothing: this is never called, see the capabilities."""
        return ()

    def interrupt(self, worker: int, task: int) -> None:
        """Do nothing: this is never called, see the capabilities."""

    def pid(self, worker: int) -> None:
        """Return None: the processes are the executor's own."""

    def abandon(self) -> None:
        """Let the executor go without waiting."""
        if self._executor is not None and self._owned:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def close(self) -> None:
        """Shut the executor down; wait for that, off the loop, if it runs nothing."""
        if self._worker is not None:
            self.kill_worker(self._worker)
        if self._endings:
            await asyncio.wait(self._endings)

    def _from_any_thread(self, worker: int, task: int, future: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._when_done, worker, task, future)

    def _failed(self, error: Exception) -> None:
        """Let the executor go: something of ours failed about a task that is done, and its outcome is not known."""
        logger.error("lifepool failed in its dealings with the executor, which is let go", exc_info=error)
        if self._worker is not None:
            reason = f"lifepool failed in its dealings with the executor: {error!r}"
            self._drop(self._worker, WorkerExited(self._worker, reason=reason))

    def _done(self, worker: int, task: int, future: Future[Any]) -> None:
        if worker != self._worker or task not in self._tasks:
            return
        if future.cancelled():  # with cancel_futures=True
            self._refused(worker, task, RuntimeError("it was shut down"))
            return
        value, error, run_s = self._outcome(future)
        if isinstance(error, BrokenExecutor):
            self._broke(worker, error)
            return
        self._tasks.discard(task)
        self._listener.returned(worker, task, value, error, run_s=run_s)
        self._drop_if_useless(worker)

    def _outcome(self, future: Future[Any]) -> tuple[object, BaseException | None, float]:
        try:
            error = future.exception()
            if error is None:
                return opened(future.result()) if self._packs else _unwrapped(future.result())
        except Exception as failure:  # it is not the future of our call
            error = failure
        return None, error if isinstance(error, BrokenExecutor) else _faithful(error), 0.0

    def _refused(self, worker: int, task: int, error: BaseException) -> None:
        """Answer for a task that did not start, and will not."""
        self._tasks.discard(task)
        self._doubt = error
        cause, hint = why_not_started(error, "the task did not start, for the executor refused it", _GONE_HINT)
        failure = BackendUnavailable(cause, hint=hint)
        failure.__cause__ = error
        self._listener.returned(worker, task, None, failure, run_s=0.0)
        self._drop_if_useless(worker)

    def _drop_if_useless(self, worker: int) -> None:
        """Drop an executor that refuses tasks, once it has finished what it had."""
        if self._doubt is not None and not self._tasks:
            self._drop(worker, WorkerExited(worker, reason=f"the executor takes no tasks: {self._doubt}"))

    def _broke(self, worker: int, error: BaseException, unstarted: tuple[int, ...] = ()) -> None:
        if worker == self._worker:
            self._doubt = error
            self._drop(worker, WorkerExited(worker, unstarted, reason=f"the executor broke: {error}"))

    def _drop(self, worker: int, event: WorkerExited) -> None:
        if worker != self._worker:
            return
        executor, self._executor, self._worker = self._executor, None, None
        assert executor is not None  # noqa: S101 - it has a worker, so it was started
        if not self._owned:
            pass
        elif self._tasks:
            executor.shutdown(wait=False, cancel_futures=True)  # what it runs may take for ever
        else:
            self._shut_down(executor)
        self._tasks.clear()
        self._listener.exited(event)

    def _shut_down(self, executor: Executor) -> None:
        shutdown = partial(executor.shutdown, cancel_futures=True)
        try:
            self._endings.append(self._loop.run_in_executor(None, shutdown))
        except RuntimeError:  # no thread can be started to wait in
            shutdown(wait=False)


def _nothing() -> None:
    """Do nothing, in the executor's worker, if it still has one."""


def _timed(fn: Callable[..., Any], args: tuple[Any, ...] | WithContext) -> tuple[Any, float]:
    """Call the function and measure its time; this runs in the executor's worker."""
    started = time.perf_counter()
    value = call_in_copy(fn, args)
    return value, time.perf_counter() - started


def _unwrapped(answer: tuple[Any, float]) -> tuple[object, None, float]:
    value, run_s = answer
    return value, None, run_s


def _faithful(error: BaseException) -> BaseException:
    """Return what a coroutine can raise without meaning something else by it."""
    if issubclass(type(error), TaskNotPicklable):
        return error
    if issubclass(type(error), (pickle.PicklingError, AttributeError, TypeError)) and "pickle" in text_of(error):
        return TaskNotPicklable("arguments", "the call", cut(text_of(error), MAX_REASON_CHARS))
    return bearable(error)
