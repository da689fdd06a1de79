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

import functools
import itertools
import logging
import sys
import weakref
from concurrent.futures import Executor, Future
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from lifepool._core.states import TaskState
from lifepool._pool.pool_thread import PoolThread
from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.naming import ManyCalls
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.context import BaseContext
    from types import TracebackType

    from lifepool._engine.handle import TaskHandle

logger = logging.getLogger("lifepool")

T = TypeVar("T")


class ProcessPoolExecutor(Executor):
    """Run calls in worker processes, with the constructor and methods of the standard library's executor.

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
        self._thread = PoolThread(pool._runtime, pool.submit)
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

    def __init__(self, thread: PoolThread) -> None:
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
