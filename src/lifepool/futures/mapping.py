"""The results of ``ProcessPoolExecutor.map``, in the order of the items."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.naming import ManyCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from concurrent.futures import Executor

    from lifepool._pool.pool_thread import PoolThread
    from lifepool._pool.thread_futures import ThreadFuture

T = TypeVar("T")


class RunAll(ManyCalls):
    """A function to be called with each of many tuples of arguments, each time in a copy of the context."""

    __slots__ = ()

    def __call__(self, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Call it. Runs in a worker."""
        alone = with_own_decimals(self.function)
        return [copy_context().run(alone, *each) for each in arguments]


def in_chunks(items: Iterator[tuple[Any, ...]], size: int) -> Iterator[tuple[list[tuple[Any, ...]]]]:
    """Join so many calls into one: the arguments of each are the only argument of that."""
    while chunk := list(itertools.islice(items, size)):
        yield (chunk,)


def results_in_order(
    executor: Executor,
    thread: PoolThread,
    fn: Callable[..., T],
    calls: Iterator[tuple[Any, ...]],
    *,
    timeout: float | None,
    buffersize: int | None,
) -> Generator[T, None, None]:
    """Submit the calls now, or as many as the buffer takes, and return an iterator over their results."""
    submit: Any = executor.submit
    futures: deque[ThreadFuture[T]] = deque(submit(fn, *arguments) for arguments in itertools.islice(calls, buffersize))
    until = None if timeout is None else time.monotonic() + timeout
    # The iterator must not keep the executor: one that is forgotten ends.
    more = None if buffersize is None else (weakref.ref(executor), fn, calls)
    return _results(thread, futures, until, more)


def _results(
    thread: PoolThread, futures: deque[ThreadFuture[T]], until: float | None, more: Any
) -> Generator[T, None, None]:
    # No local variable may keep a future that is done, or its result.
    try:
        while futures:
            if more is not None and (executor := more[0]()) is not None:
                if (arguments := next(more[2], None)) is not None:
                    futures.append(executor.submit(more[1], *arguments))
                del executor, arguments
            yield _result(futures, until)
    finally:
        if futures:
            thread.cancel_waiting(futures)


def _result(futures: deque[ThreadFuture[T]], until: float | None) -> T:
    """Wait for the first one, and take it out."""
    future = futures[0]
    try:
        if until is None:
            return future.result()
        return future.result(max(0.0, until - time.monotonic()))
    except TimeoutError:
        if not future.done():  # it is the time of the map that is over, not one of the task's own
            for each in futures:
                each.cancel()
        raise
    finally:
        del future
        futures.popleft()


def one_by_one(chunks: Generator[list[T], None, None]) -> Generator[T, None, None]:
    """Return the results of chunks one by one. Closing it closes those."""
    try:
        for chunk in chunks:
            chunk.reverse()
            while chunk:
                yield chunk.pop()
    finally:
        chunks.close()
