"""``concurrent.futures`` over a pool: change one import.

::

    from lifepool.futures import ProcessPoolExecutor

    with ProcessPoolExecutor() as executor:
        for text, score in zip(texts, executor.map(score_text, texts)):
            ...

What differs from the standard library's executor:

- A worker that dies fails the one future whose task it ran, with ``lifepool.WorkerLost``, and is replaced. There is no
  ``BrokenProcessPool``: the executor never breaks.
- ``Future.cancel()`` also takes back a running task: it is interrupted in its worker. So is what ``map`` had under way
  when its timeout passed. In turn ``Future.running()`` never says True.
- Workers start with the first ``submit``, all at once, and never as copies of this process (no ``fork``).
- ``LIFEPOOL_<NAME>`` settings apply, such as ``LIFEPOOL_TIMEOUT``; the queue has no limit.
- At interpreter exit, work that was not waited for is waited for, as in the standard library, and every 30 s a warning
  says what is left. Ctrl-C cancels it, and so does a program, or a ``with`` block, that is left by Ctrl-C.
  ``LIFEPOOL_DRAIN_TIMEOUT``, if it is set, limits that wait.

On an event loop, use ``lifepool.Pool`` itself: it does without the thread that this executor needs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401 - registers its end at interpreter exit; ours, later, comes before it
import contextlib
import functools
import itertools
import logging
import os
import sys
import threading
import time
import weakref
from collections import Counter, deque
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from lifepool._core.states import TaskState
from lifepool._engine.drain_log import named
from lifepool._engine.failure_log import cause_of
from lifepool._host.forks import at_fork
from lifepool._inside import state as _inside
from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.exceptions import as_raised
from lifepool._transfer.naming import ManyCalls, name_of
from lifepool.errors import PoolClosed, PoolError
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from lifepool._engine.handle import TaskHandle

logger = logging.getLogger("lifepool")

T = TypeVar("T")

#: These two forbid new threads as soon as the script has ended (gh-113964): the pool's must be there before that.
_NO_THREADS_AT_EXIT = sys.version_info[:3] in ((3, 12, 0), (3, 12, 1))
#: Seconds between two warnings that the program has ended and its work has not.
REMIND_S = 30.0
#: Seconds for workers to be stopped once nothing is left to wait for. Killing and reaping takes milliseconds.
END_GRACE_S = 10.0


class ProcessPoolExecutor(Executor):
    """Runs calls in worker processes, with the constructor and methods of the standard library's executor.

    It may be used from several threads. Callbacks of futures run on the thread of its pool: keep them short.

    Args:
        max_workers: Workers there may be. None: as for ``Pool``.
        mp_context: None, or a ``multiprocessing`` context that starts processes cleanly (``"forkserver"`` or
            ``"spawn"``). lifepool starts its workers its own way, always cleanly.
        initializer: Called once in each worker before its first task.
        initargs: Its arguments.
        max_tasks_per_child: Tasks after which a worker is replaced. None: never.

    Raises:
        ValueError: If a value makes no sense, or the context would fork this process.
        TypeError: If an argument has a wrong type.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if mp_context is not None and mp_context.get_start_method() == "fork":
            raise ValueError("mp_context forks this process, which lifepool never does: leave it out, or use 'spawn'")
        given = {"max_workers": max_workers, "initializer": initializer, "max_tasks_per_worker": max_tasks_per_child}
        settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if initializer is not None:
            settings["initargs"] = initargs
        pool = Pool(max_queue=sys.maxsize, **settings)
        self._max_workers = pool.max_workers  # read by dask, joblib and others, as the standard executor has it
        self._thread = _PoolThread(pool)
        weakref.finalize(self, self._thread.end).atexit = False  # forgotten: finish what is there, then end

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue ``fn(*args, **kwargs)``.

        Returns:
            Its future; errors of the pool, such as arguments that can't be pickled, are raised by its ``result()``.

        Raises:
            RuntimeError: After ``shutdown``, or if the system has no thread for the pool.
            OSError: If the system has no descriptors for it.
            PoolClosed: While a worker imports the module: a script without the ``__main__`` guard got here.
        """
        future: Future[T] = _Future(self._thread)
        self._thread.put(future, functools.partial(fn, **kwargs) if kwargs else fn, args)
        return future

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Call ``fn`` with the items of the iterables, which are read at once; the results come in their order.

        Args:
            fn: A function of as many arguments as there are iterables.
            *iterables: The arguments.
            timeout: Seconds from now for all results. What is unfinished then is cancelled.
            chunksize: Items per task.

        Raises:
            ValueError: If ``chunksize`` is below 1.
            TimeoutError: From the iterator, if the timeout passed.
        """
        if chunksize < 1:
            raise ValueError(f"chunksize={chunksize!r}: expected a whole number >= 1")
        if chunksize == 1:
            return super().map(fn, *iterables, timeout=timeout)
        chunks = _chunks(zip(*iterables, strict=False), chunksize)
        return itertools.chain.from_iterable(super().map(_RunAll(fn, chunksize), chunks, timeout=timeout))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Shut down and wait, after Ctrl-C in the block as well; but then what is not done is cancelled first."""
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._thread.break_off()
        self.shutdown()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take nothing new, finish what is there, and end the workers.

        Args:
            wait: Return when that is done; it takes as long as the tasks take.
            cancel_futures: Cancel what no worker has begun.
        """
        self._thread.end(cancel=_is_queued if cancel_futures else None)
        if wait:
            self._thread.join()


class _Future(Future[T]):
    """Its callbacks can't end the pool's thread, whatever they raise."""

    def __init__(self, thread: _PoolThread) -> None:
        super().__init__()
        self._pool_thread = thread

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call ``fn`` with this future when it is done: on the pool's thread or, if that is so now, at once."""
        super().add_done_callback(functools.partial(self._call, fn))

    def _call(self, fn: Callable[[Future[T]], object], future: Future[T]) -> None:
        try:
            fn(future)
        except Exception:
            raise  # the standard library logs it
        except BaseException:
            if not self._pool_thread.is_current:
                raise
            logger.exception("a done-callback of %r raised", future)


class _PoolThread:
    """A pool on an event loop on a thread of its own, from the first call until `end` and the last answer."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._lock = threading.Lock()  # guards _ended, _thread, and that the loop outlives whoever wakes it
        self._ended = False
        self._thread: threading.Thread | None = None
        self._is_up = threading.Event()  # the pool has started, or can't
        self._is_done = threading.Event()  # the thread is at its end
        self._calls: deque[tuple[Future[Any], Callable[..., Any], tuple[Any, ...]]] = deque()
        self._tasks: dict[TaskHandle[Any], Callable[..., Any]] = {}

    # -- any thread -----------------------------------------------------------------------------------------------

    def put(self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Queue a call."""
        is_first = False
        with self._lock:
            if _is_exiting:
                raise RuntimeError("cannot schedule new futures after interpreter shutdown")
            if self._ended:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                _inside.check_start()
                self._start()
                is_first = True
            self._calls.append((future, fn, args))
            self._loop.call_soon_threadsafe(self._wake.set)
        if is_first and _NO_THREADS_AT_EXIT:
            self._is_up.wait(self.pool.config.start_timeout)

    def end(self, cancel: Callable[[TaskHandle[Any]], bool] | None = None) -> None:
        """Take nothing new; end when everything is done. May be called again, to cancel after all."""
        with self._lock:
            self._ended = True
            if self._thread is not None:
                self._tell(self._end, cancel)

    def break_off(self) -> None:
        """End now: cancel what is not done, and say so."""
        if unfinished := self.unfinished():
            logger.warning("Ctrl-C came before these tasks were done, and cancels them: %s", named(unfinished))
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
    def is_current(self) -> bool:
        """Whether this is the thread."""
        return self._thread is threading.current_thread()

    def forget(self) -> None:
        """Forget all in a forked copy: take nothing, and leave the loop alone, whose descriptors the parent uses."""
        self._lock = threading.Lock()  # somebody may have held it
        self._ended, self._thread = True, None

    def _start(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._wake = asyncio.Event()
        # A daemon: at exit _end_all waits for it, says what for, and can be interrupted.
        thread = threading.Thread(target=self._run, name=f"lifepool-{self.pool.config.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # there is no thread for it: this call is refused, and the next one tries again
            self._loop.close()
            raise
        self._thread = thread
        _threads.add(self)

    def _tell(self, function: Callable[..., object], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: everything has its outcome
            self._loop.call_soon_threadsafe(function, *args)

    # -- its own thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._serve())
        finally:
            with self._lock:
                self._ended = True
            while self._calls:  # only if something went wrong here: nobody may wait for ever
                future, _, _ = self._calls.popleft()
                if future.set_running_or_notify_cancel():
                    future.set_exception(PoolClosed("the executor's thread has ended", hint="the log says why"))
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
            await self.pool.aclose()  # workers exit by themselves: they may have a queue to flush, a resource to close
        finally:
            await self.pool.aclose(0)

    async def _send_calls(self) -> None:
        """Send what is queued. If no worker can start, those calls fail; the next ones try again."""
        error: Exception | None = None
        try:
            if self._calls:
                await self.pool.start()
        except Exception as failure:
            error = failure
            self._say_lost(failure)
        self._is_up.set()
        while self._calls:
            self._send(*self._calls.popleft(), error)

    def _say_lost(self, error: Exception) -> None:
        """The calls that wait fail: in the log, because nobody may look at their futures."""
        names = Counter(name_of(fn) for future, fn, _ in self._calls if not future.cancelled())
        if names:
            cause = cause_of(error) if isinstance(error, PoolError) else repr(error)
            logger.warning("pool %r: these calls fail: %s: %s", self.pool.config.name, named(names), cause)

    def _send(
        self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], error: Exception | None
    ) -> None:
        if future.cancelled():
            future.set_running_or_notify_cancel()
            return
        try:
            if error is not None:
                raise error
            handle = self.pool.submit(fn, *args)
        except BaseException as failure:
            if future.set_running_or_notify_cancel():
                future.set_exception(failure)
            return
        self._tasks[handle] = fn
        handle.add_done_callback(functools.partial(self._settle, future))
        future.add_done_callback(functools.partial(self._pass_on_cancel, handle))

    def _settle(self, future: Future[Any], handle: Any) -> None:
        self._tasks.pop(handle, None)
        if handle.cancelled():
            future.cancel()
        if not future.set_running_or_notify_cancel():  # wakes who waits for a cancelled one
            return
        error = handle.exception()
        if error is not None:
            future.set_exception(as_raised(error))
        else:
            future.set_result(handle.result())

    def _pass_on_cancel(self, handle: TaskHandle[Any], future: Future[Any]) -> None:
        if future.cancelled():
            self._tell(handle.cancel)

    def unfinished(self) -> Counter[str]:
        """Count what has no outcome yet, by name."""
        return Counter(name_of(fn) for fn in [*(fn for _, fn, _ in list(self._calls)), *list(self._tasks.values())])

    def _end(self, cancel: Callable[[TaskHandle[Any]], bool] | None) -> None:
        self._wake.set()
        if cancel is None:
            return
        if cancel is _is_anything:
            self.pool._life.give_up_start()
        for future, _, _ in self._calls:
            future.cancel()
        for handle in [task for task in self._tasks if cancel(task)]:
            handle.cancel()


def _is_anything(handle: TaskHandle[Any]) -> bool:
    return True


def _is_queued(handle: TaskHandle[Any]) -> bool:
    return handle.state is TaskState.QUEUED


class _RunAll(ManyCalls):
    """A function to be called with each of many tuples of arguments, each time in a copy of the context."""

    __slots__ = ()

    def __call__(self, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Call it. Runs in a worker."""
        alone = with_own_decimals(self.function)
        return [copy_context().run(alone, *each) for each in arguments]


def _chunks(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while chunk := list(itertools.islice(items, size)):
        yield chunk


_threads: weakref.WeakSet[_PoolThread] = weakref.WeakSet()


_is_exiting = False


def _end_all() -> None:
    """Let everybody finish at interpreter exit, as the standard library does; cancel what a Ctrl-C interrupts."""
    global _is_exiting
    _is_exiting = True
    for thread in list(_threads):
        thread.end()
    try:
        if getattr(sys, "last_type", None) is not KeyboardInterrupt:  # else the program itself was broken off
            _wait_for_all(_limit_at_exit())
    finally:
        _cancel_all()


def _limit_at_exit() -> float:
    """Return the seconds that the wait may take: as many as somebody has asked for, or any number."""
    asked = "LIFEPOOL_DRAIN_TIMEOUT" in os.environ
    return max((thread.pool.config.drain_timeout for thread in list(_threads)), default=0.0) if asked else float("inf")


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
        thread.end(cancel=_is_anything)
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
