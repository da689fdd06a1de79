"""``Pool.map`` and ``Pool.gather``: many items through the pool, in chunks, in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

from lifepool.carrying import decode_error
from lifepool.chunks import MAX_CHUNK, ChunkResult, ChunkSizer, run_chunk
from lifepool.errors import QueueFull, TaskError
from lifepool.metering import make_meter

if TYPE_CHECKING:
    from lifepool._engine.handle import TaskHandle
    from lifepool.progress import ProgressHook

Submit = Callable[..., "TaskHandle[ChunkResult]"]

#: Chunks under way for each worker: one runs, one waits behind it, and two more hide the consumer's own pauses.
CHUNKS_PER_WORKER = 4
#: The longest sleep between two tries when the queue is full of other people's tasks.
_MAX_RETRY_S = 1.0


def bulk_size(chunksize: int | Literal["auto"], buffer: int | None, workers: int) -> tuple[ChunkSizer, int]:
    """How large chunks may be, and how many may be under way.

    Raises:
        ValueError: If either argument makes no sense.
    """
    if chunksize != "auto" and not _is_count(chunksize):
        raise ValueError(f"chunksize={chunksize!r}: expected 'auto' or a whole number >= 1")
    if buffer is not None and not _is_count(buffer):
        raise ValueError(f"buffer={buffer!r}: expected None or a whole number >= 1")
    window = CHUNKS_PER_WORKER * workers
    if buffer is None:
        most = MAX_CHUNK
    else:
        window = min(window, buffer)
        most = buffer // window
    return ChunkSizer(None if chunksize == "auto" else chunksize, most), window


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


async def map_chunks(
    submit: Submit,
    fn: Callable[[Any], Any],
    items: Iterable[Any] | AsyncIterable[Any],
    sizer: ChunkSizer,
    window: int,
    *,
    ordered: bool,
    go_on: bool,
    on_progress: ProgressHook | None = None,
) -> AsyncGenerator[list[Any], None]:
    """Yield ``fn(item)`` for each item, in lists; exceptions are yielded as values if ``go_on``, else raised.

    Args:
        submit: Starts ``run_chunk`` with (fn, chunk, go_on) in the pool.
        fn: The user's function.
        items: What to call it with; taken lazily.
        sizer: Gives the size of each chunk.
        window: Chunks under way at most.
        ordered: Whether results come in the order of the items.
        go_on: Whether an item's exception is its result.
        on_progress: Is told how far it is, or None.
    """
    source = _Source(items)
    meter = make_meter(on_progress, items, asyncio.get_running_loop())
    under_way: deque[TaskHandle[ChunkResult]] = deque()
    sizes: dict[TaskHandle[ChunkResult], int] = {}

    def start(chunk: list[Any]) -> TaskHandle[ChunkResult]:
        handle = submit(run_chunk, fn, tuple(chunk), go_on)
        sizes[handle] = len(chunk)
        if meter is not None:
            meter.watch(handle, len(chunk))
        return handle

    try:
        while True:
            await _fill(source, under_way, window, sizer, start)
            if not under_way:
                if source.exhausted:
                    return
                continue
            handle = await _next_done(under_way, source, ordered=ordered, window=window)
            if handle is None:
                continue
            results, failure = await _results(handle, sizes.pop(handle), sizer, go_on=go_on)
            if results:
                yield results
            if failure is not None:
                raise failure
    finally:
        if meter is not None:
            meter.finish()
        _call_off(under_way)
        await source.aclose()


async def one_by_one(chunks: AsyncGenerator[list[Any], None]) -> AsyncIterator[Any]:
    """The items of lists. Leaving early ends what makes the lists."""
    async with aclosing(chunks):
        async for results in chunks:
            for result in results:
                yield result


def _call_off(under_way: Iterable[TaskHandle[ChunkResult]]) -> None:
    for handle in under_way:
        if not handle.cancel() and not handle.cancelled():
            handle.exception()  # it may have failed too, and the map raises its first exception: no complaint


async def _results(
    handle: TaskHandle[ChunkResult], size: int, sizer: ChunkSizer, *, go_on: bool
) -> tuple[list[Any], BaseException | None]:
    """The results of a chunk of ``size`` items, and the exception that came after them."""
    try:
        chunk = await handle
    except TaskError as error:  # the chunk as a whole: its worker died, or it took too long
        if not go_on:
            raise
        return [error] * size, None
    sizer.learn(len(chunk.values), chunk.run_s)
    results = list(chunk.values)
    for index, carried in chunk.errors.items():
        results[index] = decode_error(carried)
    # A chunk that does not go on ends with its first exception.
    failure: BaseException | None = results.pop() if chunk.errors and not go_on else None
    return results, failure


async def _fill(
    source: _Source,
    under_way: deque[TaskHandle[ChunkResult]],
    window: int,
    sizer: ChunkSizer,
    start: Callable[[list[Any]], TaskHandle[ChunkResult]],
) -> None:
    """Start chunks until the window is full or the source has nothing ready."""
    while len(under_way) < window:
        chunk = await source.take(sizer.size, wait=not under_way)
        if not chunk:
            return
        while True:
            try:
                under_way.append(start(chunk))
                break
            except QueueFull as full:
                # Other tasks fill the queue. Ours wait for their own to be done, or for better times.
                if under_way:
                    await asyncio.wait([under_way[0]], timeout=_MAX_RETRY_S)
                    if under_way[0].done():
                        source.put_back(chunk)
                        return
                else:
                    await asyncio.sleep(min(full.retry_after, _MAX_RETRY_S))


async def _next_done(
    under_way: deque[TaskHandle[ChunkResult]], source: _Source, *, ordered: bool, window: int
) -> TaskHandle[ChunkResult] | None:
    """Take out the next chunk to hand on; None if the source has something new first and there is room for it."""
    candidates: list[asyncio.Future[Any]] = [under_way[0]] if ordered else list(under_way)
    if not any(handle.done() for handle in candidates):
        news = source.pending if len(under_way) < window else None
        waiting = candidates if news is None else [*candidates, news]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for handle in list(under_way):
        if handle.done():
            under_way.remove(handle)
            return handle
        if ordered:
            break
    return None


class _Source:
    """Items in chunks, from a plain or an asynchronous iterable. A slow asynchronous one gives what it has."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.exhausted = False
        #: The item that an asynchronous source is being asked for, while it is.
        self.pending: asyncio.Task[Any] | None = None
        self._kept: list[Any] = []
        self._sync: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._sync = iter(items)

    def put_back(self, chunk: list[Any]) -> None:
        """Give these first, the next time."""
        self._kept = chunk

    async def take(self, size: int, *, wait: bool) -> list[Any]:
        """Up to ``size`` items. Empty when the source is exhausted or, without ``wait``, has none ready."""
        if self._kept:
            kept, self._kept = self._kept, []
            return kept
        if self.exhausted:
            return []
        if self._sync is not None:
            return self._take_sync(self._sync, size)
        return await self._take_async(size, wait=wait)

    def _take_sync(self, source: Iterator[Any], size: int) -> list[Any]:
        chunk = list(islice(source, size))
        self.exhausted = len(chunk) < size
        return chunk

    async def _take_async(self, size: int, *, wait: bool) -> list[Any]:
        chunk: list[Any] = []
        while len(chunk) < size:
            if self.pending is None:
                self.pending = asyncio.ensure_future(_anext(self._async))
                await asyncio.sleep(0)  # let a source that has an item ready give it
            if not self.pending.done():
                if chunk or not wait:
                    break
                await asyncio.wait([self.pending])
            task, self.pending = self.pending, None
            try:
                chunk.append(task.result())
            except StopAsyncIteration:
                self.exhausted = True
                break
        return chunk

    async def aclose(self) -> None:
        """Stop asking, and close a generator."""
        if self.pending is not None:
            self.pending.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self.pending
        close = getattr(self._async, "aclose", None)
        if close is not None:
            with contextlib.suppress(Exception):
                await close()


async def _anext(source: AsyncIterator[Any] | None) -> Any:
    assert source is not None  # noqa: S101 - only asked of asynchronous sources
    return await anext(source)
