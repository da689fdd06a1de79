"""Take the items of a ``map`` in chunks, from a plain or an asynchronous iterable."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any


class Source:
    """Items in chunks, from a plain or an asynchronous iterable. A slow asynchronous one gives what it has.

    A ``range`` is cut into ranges: however many numbers they stand for, they are made where they are needed.

    Args:
        items: The iterable.

    Attributes:
        exhausted: Whether all items were taken.
        pending: The item that an asynchronous source is being asked for, while it is.
    """

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self.exhausted = False
        self.pending: asyncio.Task[Any] | None = None
        self._range: range | None = items if type(items) is range else None  # what is left of it
        self._sync: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._sync = iter(items)

    async def take(self, size: int) -> Sequence[Any]:
        """Return up to ``size`` items; none if the source is exhausted, or has none ready: then one is ``pending``."""
        if self.exhausted:
            return ()
        if self._range is not None:
            return self._take_range(self._range, size)
        if self._sync is not None:
            return self._take_sync(self._sync, size)
        return await self._take_async(size)

    def _take_range(self, rest: range, size: int) -> range:
        self._range = rest[size:]
        self.exhausted = not self._range
        return rest[:size]

    def _take_sync(self, source: Iterator[Any], size: int) -> tuple[Any, ...]:
        chunk = tuple(islice(source, size))
        self.exhausted = len(chunk) < size
        return chunk

    async def _take_async(self, size: int) -> tuple[Any, ...]:
        chunk: list[Any] = []
        while len(chunk) < size:
            if self.pending is None:
                self.pending = asyncio.ensure_future(_anext(self._async))
                await asyncio.sleep(0)  # let a source that has an item ready give it
            if not self.pending.done():
                break
            task, self.pending = self.pending, None
            try:
                chunk.append(task.result())
            except StopAsyncIteration:
                self.exhausted = True
                break
        return tuple(chunk)

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
