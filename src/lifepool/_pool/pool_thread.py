"""A pool on an event loop in a thread of its own, for ``lifepool.futures``; and what becomes of it at exit."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - registers its end at interpreter exit; ours, later, comes before it
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from lifepool._core.states import TaskState
from lifepool._engine.drain_log import named
from lifepool._engine.failure_log import cause_of
from lifepool._engine.lifecycle import Phase
from lifepool._host.forks import at_fork
from lifepool._inside import state
from lifepool._pool.thread_futures import ThreadFuture, pass_on_cancel, settle
from lifepool._transfer.naming import name_of
from lifepool.errors import PoolClosed, PoolError, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lifepool._engine.handle import TaskHandle
    from lifepool._pool.runtime import PoolRuntime

logger = logging.getLogger("lifepool")

#: These two forbid new threads as soon as the script has ended (gh-113964): the pool's must be there before that.
_NO_THREADS_AT_EXIT = sys.version_info[:3] in ((3, 12, 0), (3, 12, 1))
#: Seconds between two warnings that the program has ended and its work has not.
REMIND_S = 30.0
#: Seconds for workers to be stopped once nothing is left to wait for. Killing and reaping takes milliseconds.
END_GRACE_S = 10.0


class PoolThread:
    """A pool on an event loop in a thread of its own, from the first call until ``end`` and the last answer.

    Args:
        runtime: The pool's.
        submit: The pool's ``submit``.
        as_raised: Turns an error of the pool, or of a task, into what the futures raise.
        first: Called on the thread before anything else there. What goes wrong in it, the pool's start meets as well.
    """

    def __init__(
        self,
        runtime: PoolRuntime,
        submit: Callable[..., TaskHandle[Any]],
        as_raised: Callable[[BaseException], BaseException],
        first: Callable[[], None] = lambda: None,
    ) -> None:
        self._first = first
        self._runtime = runtime
        self._submit = submit
        self._as_raised = as_raised
        self._lock = threading.Lock()  # guards _ended, _thread, and that the loop outlives whoever wakes it
        self._ended = False
        self._thread: threading.Thread | None = None
        self._is_up = threading.Event()  # the pool has started, or can't
        self._is_done = threading.Event()  # the thread is at its end
        self._calls: deque[tuple[ThreadFuture[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._tasks: dict[TaskHandle[Any], Callable[..., Any]] = {}

    # -- any thread -----------------------------------------------------------------------------------------------

    def put(self, future: ThreadFuture[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Queue a call."""
        is_first = False
        with self._lock:
            if _is_exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                state.check_start()
                self._start()
                is_first = True
            self._calls.append((future, fn, args))
            self._loop.call_soon_threadsafe(self._take_calls)
        if is_first and _NO_THREADS_AT_EXIT:
            self._is_up.wait(self._runtime.config.start_timeout)

    def end(self, cancel: Callable[[TaskHandle[Any]], bool] | None = None) -> None:
        """Take nothing new; end when everything is done. May be called again, to cancel after all."""
        with self._lock:
            self._ended = True
            if self._thread is not None:
                self._call_on_loop(self._end, cancel)

    def cancel_waiting(self, futures: Iterable[ThreadFuture[Any]]) -> None:
        """Cancel those whose tasks no worker has been given yet."""
        if self._thread is not None:
            self._call_on_loop(self._cancel_waiting, list(futures))

    def end_workers(self, *, kill: bool) -> None:
        """End now: cancel what no worker was given, lose what they run.

        Args:
            kill: Kill the workers at once; else a task is interrupted first, and may clean up.
        """
        with self._lock:
            self._ended = True
            if self._thread is not None:
                self._call_on_loop(self._end_workers, kill)

    def break_off(self) -> None:
        """End now: cancel what is not done, and say so."""
        if unfinished := self.unfinished():
            logger.warning("Ctrl-C came before these tasks were done, and cancels them: %s", named(unfinished))
        self.cancel_rest()

    def cancel_rest(self) -> None:
        """End, and cancel what is not done."""
        self.end(cancel=_is_anything)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end, but not in a callback on the thread itself. Return whether it has ended."""
        if self._thread is None or self._thread is threading.current_thread():
            return True
        # Not Thread.join() alone: Python 3.11 takes a thread for ended if Ctrl-C interrupts who joins it.
        if not self._is_done.wait(timeout):
            return False
        self._thread.join()
        return True

    @property
    def drain_timeout(self) -> float:
        """Return the pool's setting."""
        return self._runtime.config.drain_timeout

    def is_current(self) -> bool:
        """Return whether this is the thread."""
        return self._thread is threading.current_thread()

    def forget(self) -> None:
        """Take nothing in a forked copy, and leave the loop alone, whose descriptors the parent uses."""
        self._lock = threading.Lock()  # somebody may have held it
        self._ended, self._thread = True, None

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        # A daemon: at exit _end_all waits for it, says what for, and can be interrupted.
        thread = threading.Thread(target=self._run, name=f"lifepool-{self._runtime.config.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there is no thread for it: this call is refused, and the next one tries again
            self._loop.close()
            raise
        self._thread = thread
        _threads.add(self)

    def _call_on_loop(self, function: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has its outcome
            self._loop.call_soon_threadsafe(function, *args)

    # -- its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with contextlib.suppress(Exception):
                self._first()
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            with self._lock:
                self._ended = True
            while self._calls:  # only if something went wrong here: nobody may wait for ever
                future, _, _ = self._calls.popleft()
                settle(future, error=PoolClosed("the executor's thread has ended", hint="the log says why"))
            self._is_up.set()
            self._is_done.set()

    async def _serve(self) -> None:
        try:
            while not self._ended or self._calls:
                await self._wake.wait()
                self._wake.clear()
                await self._send_calls()
            while self._tasks:
                await asyncio.wait(self._tasks)
            await self._runtime.end()  # workers exit by themselves: they may have a queue to flush, a resource to close
        finally:
            await self._runtime.end(0)

    def _take_calls(self) -> None:
        """Send what is queued, without a turn of the loop more if the pool runs; else have it started first."""
        if self._runtime.lifecycle.phase is not Phase.RUNNING:
            self._wake.set()
            return
        while self._calls:
            self._send(*self._calls.popleft(), None)

    async def _send_calls(self) -> None:
        """Send what is queued. If no worker can start, those calls fail; the next ones try again."""
        error: Exception | None = None
        try:
            if self._calls:
                await self._runtime.start()
        except Exception as failure:
            error = failure
            self._log_lost(failure)
        self._is_up.set()
        while self._calls:
            self._send(*self._calls.popleft(), error)

    def _log_lost(self, error: Exception) -> None:
        """Log that the calls that wait fail: nobody may look at their futures."""
        names = Counter(name_of(fn) for future, fn, _ in self._calls if not future.cancelled())
        if names:
            cause = cause_of(error) if isinstance(error, PoolError) else repr(error)
            logger.warning("pool %r: these calls fail: %s: %s", self._runtime.config.name, named(names), cause)

    def _send(
        self, future: ThreadFuture[Any], fn: Callable[..., Any], args: tuple[Any, ...], error: Exception | None
    ) -> None:
        if future.cancelled():
            settle(future)  # wakes those who wait for it
            return
        try:
            if error is not None:
                raise error
            handle = self._submit(fn, *args)
        except BaseException as failure:
            settle(future, error=self._as_raised(failure))
            return
        self._tasks[handle] = fn
        future.handle = handle
        handle.add_done_callback(functools.partial(self._settle, future))
        future.add_done_callback(functools.partial(pass_on_cancel, handle))

    def _settle(self, future: ThreadFuture[Any], handle: Any) -> None:
        self._tasks.pop(handle, None)
        future.handle = None  # it has the result too
        if handle.cancelled():
            future.cancel()
            settle(future)
        elif (error := handle.exception()) is not None:
            settle(future, error=self._as_raised(error))
        else:
            settle(future, handle.result())

    def unfinished(self) -> Counter[str]:
        """Count what has no outcome yet, by name."""
        return Counter(name_of(fn) for fn in [*(fn for _, fn, _ in list(self._calls)), *list(self._tasks.values())])

    def _end(self, cancel: Callable[[TaskHandle[Any]], bool] | None) -> None:
        self._wake.set()
        if cancel is None:
            return
        if cancel is _is_anything:
            self._runtime.lifecycle.give_up_start()
        for future, _, _ in self._calls:
            future.cancel()
        for handle in [task for task in self._tasks if cancel(task)]:
            handle.cancel()

    def _cancel_waiting(self, futures: list[ThreadFuture[Any]]) -> None:
        for future in futures:
            handle = future.handle
            if handle is None:
                future.cancel()  # it is in no pool yet, or done
            elif is_queued(handle):
                handle.cancel()

    def _end_workers(self, kill: bool) -> None:
        lifecycle = self._runtime.lifecycle
        self._end(is_queued)
        lifecycle.give_up_start()
        for handle in list(self._tasks):
            handle.abort(WorkerLost(reason="its executor was told to end its workers"))
        if kill and lifecycle.engine is not None:
            for worker in lifecycle.engine.queries.workers(memory=False):
                with contextlib.suppress(ProcessLookupError):
                    if worker.pid is not None:
                        os.kill(worker.pid, signal.SIGKILL)


def is_queued(handle: TaskHandle[Any]) -> bool:
    """Return whether no worker has been given the task."""
    return handle.state is TaskState.QUEUED


def _is_anything(handle: TaskHandle[Any]) -> bool:
    return True


_threads: weakref.WeakSet[PoolThread] = weakref.WeakSet()


_is_exiting = False


def _end_all() -> None:
    """Let everybody finish at interpreter exit, as the standard library does; cancel what a Ctrl-C interrupts."""
    global _is_exiting
    _is_exiting = True
    for thread in list(_threads):
        thread.end()
    try:
        if getattr(sys, "last_type", None) is not KeyboardInterrupt:  # else Ctrl-C has ended the program itself
            _wait_for_all(_limit_at_exit())
    finally:
        _cancel_all()


def _limit_at_exit() -> float:
    """Return the seconds that the wait may take: as many as somebody has asked for, or any number."""
    asked = "LIFEPOOL_DRAIN_TIMEOUT" in os.environ
    return max((thread.drain_timeout for thread in list(_threads)), default=0.0) if asked else float("inf")


def _wait_for_all(limit: float) -> None:
    until = time.monotonic() + limit
    for thread in list(_threads):
        while not thread.join(max(0.0, min(REMIND_S, until - time.monotonic()))):
            if time.monotonic() >= until:
                return
            logger.warning(
                "the program has ended, its work has not: waiting for %s. Ctrl-C cancels it", named(thread.unfinished())
            )


def _cancel_all() -> None:
    """Cancel what is left, and end the workers."""
    left = [thread for thread in list(_threads) if not thread.join(0)]
    unfinished: Counter[str] = sum((thread.unfinished() for thread in left), Counter())
    if unfinished:
        logger.warning("the program ends before these tasks were done, and cancels them: %s", named(unfinished))
    for thread in left:
        thread.cancel_rest()
    for thread in left:
        thread.join(END_GRACE_S)


def _forget_all() -> None:
    """Forget all in a child that was forked from this process: the pools are the parent's, the threads not there."""
    for thread in list(_threads):
        thread.forget()
    _threads.clear()


at_fork(in_child=_forget_all)

# Ordinary atexit functions run when concurrent.futures has forbidden threads to its executors, and the end of a pool
# needs one. The standard library registers its executors in the same place.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]
