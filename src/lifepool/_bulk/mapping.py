"""``Pool.map`` and ``Pool.gather``: many items through the pool, in chunks, in bounded memory.

Theory of operation
    Items are taken in chunks; each chunk is a task, and a few of them are under way at a time. One wait covers all that
    can happen next: a chunk is done, the source has something new, there is room in the queue, time is up.

    A full queue. The first chunk of a call is admitted like any other task: if the pool is overloaded the call is
    refused (``on_full="raise"``), or it waits for room. Once a chunk was admitted, so was the call: the others need
    nothing but room, for which they wait (``lifepool._engine.waiting_queue``) ahead of calls that come later. What is
    done meanwhile is handed on. The time of waiting for room counts: see ``_Clock``. Decision 31 has the reasons.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._bulk.meter import make_meter
from lifepool._bulk.source import Source
from lifepool._engine.scope import current_scope
from lifepool._transfer.exceptions import decode_error
from lifepool._transfer.grouped import Chunk, GroupResult
from lifepool.errors import TaskError, TaskTimeout

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

    from lifepool._bulk.plan import BulkPlan
    from lifepool._engine.engine import Engine
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import TaskOptions


class Entrance(NamedTuple):
    """The way of chunks into a pool.

    Attributes:
        engine: Returns the engine that runs now; raises ``PoolClosed`` if there is none.
        start: Submits a chunk with its arguments and options to that engine.
    """

    engine: Callable[[], Engine]
    start: Callable[[Engine, Chunk, tuple[Any, ...], TaskOptions], TaskHandle[GroupResult]]


async def one_by_one(chunks: AsyncGenerator[list[Any], None]) -> AsyncIterator[Any]:
    """Yield the items of lists. Leaving early ends what makes the lists."""
    async with aclosing(chunks):
        async for results in chunks:
            for result in results:
                yield result


async def map_chunks(
    entrance: Entrance, fn: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], plan: BulkPlan
) -> AsyncGenerator[list[Any], None]:
    """Yield ``fn(item)`` for each item, in lists; exceptions are yielded as values if the plan says so, else raised.

    Args:
        entrance: The way into the pool.
        fn: The user's function.
        items: What to call it with; taken lazily.
        plan: How.
    """
    call = _BulkCall(entrance, fn, items, plan)
    try:
        while not call.is_finished:
            handle = await call.next_done()
            if handle is None:
                continue
            results, failure = await call.results(handle)
            if results:
                yield results
            if failure is not None:
                raise failure
    finally:
        await call.end()


class _Clock:
    """The time that a chunk has left.

    The timeout of a whole call runs from its beginning. That of a chunk runs from when it could have been submitted:
    waiting for room in the queue is waiting as well.
    """

    def __init__(self, plan: BulkPlan) -> None:
        self._now = asyncio.get_running_loop().time
        self._timeout = plan.timeout
        self._end = None if plan.timeout is None or not plan.is_whole else self._now() + plan.timeout
        self._waiting_since: float | None = None

    def note_waiting(self) -> None:
        """Note that a chunk waits for room."""
        if self._waiting_since is None:
            self._waiting_since = self._now()

    def next_chunk(self) -> None:
        """Note that it is the next one's turn."""
        self._waiting_since = None

    def left(self) -> float | None:
        """Return the seconds that the next chunk has; None for no limit."""
        if self._timeout is None:
            return None
        if self._end is not None:
            return self._end - self._now()
        waited = 0.0 if self._waiting_since is None else self._now() - self._waiting_since
        return self._timeout - waited


class _BulkCall:
    """One call of ``map`` or ``gather``, while it lasts."""

    def __init__(
        self,
        entrance: Entrance,
        fn: Callable[[Any], Any],
        items: Iterable[Any] | AsyncIterable[Any],
        plan: BulkPlan,
    ) -> None:
        self._entrance = entrance
        self._fn = fn
        self._plan = plan
        self._options = plan.options  # of the last chunk; most have the same
        self._clock = _Clock(plan)
        self._source = Source(items)
        self._meter = make_meter(plan.on_progress, items, asyncio.get_running_loop())
        self._under_way: deque[asyncio.Future[GroupResult]] = deque()
        self._sizes: dict[asyncio.Future[GroupResult], int] = {}
        self._next: Chunk | None = None  # found no room yet
        self._items: Sequence[Any] = ()  # its items
        self._is_admitted = False  # one chunk was admitted, and so the call

    @property
    def is_finished(self) -> bool:
        """Whether every item has been handed on."""
        return self._source.exhausted and not self._under_way and self._next is None

    async def next_done(self) -> asyncio.Future[GroupResult] | None:
        """Start what can be started, wait for news, and take out the next chunk to hand on; None if it was other news.

        Raises:
            QueueFull: If the queue is full at the beginning, and the call does not wait.
        """
        await self._fill()
        candidates = islice(self._under_way, 1) if self._plan.ordered else self._under_way
        waiting: list[asyncio.Future[Any]] = list(candidates)
        if not waiting and self._next is None and self._source.pending is None:
            return None  # there were no items, or no more
        if not any(handle.done() for handle in waiting):
            await self._wait(waiting)
        done = next((handle for handle in waiting if handle.done()), None)
        if done is not None:
            self._under_way.remove(done)
        return done

    async def results(self, handle: asyncio.Future[GroupResult]) -> tuple[list[Any], BaseException | None]:
        """Return the results of a chunk, and the exception that came after them."""
        size, plan = self._sizes.pop(handle), self._plan
        try:
            chunk = await handle
        except TaskError as error:  # the chunk as a whole: its worker died, or it took too long
            reported = self._of_call(error)
            if not plan.go_on:
                raise reported from reported.__cause__
            return [reported] * size, None
        plan.sizer.learn(len(chunk.values), chunk.run_s)
        results = chunk.values  # nobody else has the list
        for index, encoded in chunk.errors.items():
            results[index] = decode_error(encoded)
        # A chunk that does not go on ends with its first exception.
        failure: BaseException | None = results.pop() if chunk.errors and not plan.go_on else None
        return results, failure

    async def end(self) -> None:
        """Cancel what is under way, and close the source."""
        if self._meter is not None:
            self._meter.finish()
        for handle in self._under_way:
            if not handle.cancel() and not handle.cancelled():
                handle.exception()  # it may have failed too, and the map raises its first exception: no complaint
        await self._source.aclose()

    def _of_call(self, error: TaskError) -> TaskError:
        """Name the time that the caller knows: a chunk was given what the call had left of it."""
        if self._plan.is_whole and self._plan.timeout is not None and isinstance(error, TaskTimeout):
            return error._of(self._plan.timeout)
        return error

    # -- into the pool --------------------------------------------------------------------------------------------

    async def _fill(self) -> None:
        """Start chunks until the window is full, the source has nothing ready, or there is no room."""
        while len(self._under_way) < self._plan.window:
            if self._next is None:
                items = await self._source.take(self._plan.sizer.size)
                if not items:
                    return
                self._next, self._items = Chunk(self._fn, len(items)), items
            handle = self._started(self._next, self._items)
            if handle is None:
                return
            self._sizes[handle] = size = len(self._items)
            self._next, self._items = None, ()
            self._clock.next_chunk()
            self._under_way.append(handle)
            if self._meter is not None:
                self._meter.watch(handle, size)

    def _started(self, chunk: Chunk, items: Sequence[Any]) -> asyncio.Future[GroupResult] | None:
        """Submit a chunk; return None if it must wait for room. One that has no time left has failed already."""
        plan, left = self._plan, self._clock.left()
        if left is not None and left <= 0:
            late: asyncio.Future[GroupResult] = asyncio.get_running_loop().create_future()
            late.set_exception(TaskTimeout(plan.timeout or 0.0, started=False))
            late.exception()  # it is raised when its turn comes; if that never comes, nothing is lost
            return late
        is_judged = not (self._is_admitted and plan.is_whole)
        if plan.waits or self._is_admitted:
            queue = self._entrance.engine().waiting_queue
            if queue.is_needed(left if is_judged else None, chunk.learned_as):
                self._clock.note_waiting()
                return None
        self._options = self._options.within(left, is_admitted=not is_judged)
        handle = self._entrance.start(self._entrance.engine(), chunk, (items, plan.go_on), self._options)
        self._is_admitted = True
        return handle

    async def _wait(self, chunks: list[asyncio.Future[Any]]) -> None:
        """Wait until one of these is done, there is something new and room for it, or the time is up.

        Raises:
            TaskTimeout: If the source had nothing before the time of the call was up.
            ClientDisconnected: If the request that it belongs to has ended.
        """
        if self._next is not None:
            return await self._wait_for_room(chunks)
        pending = self._source.pending if len(self._under_way) < self._plan.window else None
        if pending is None:
            await asyncio.wait(chunks, return_when=asyncio.FIRST_COMPLETED)
            return None
        left = self._clock.left() if self._plan.is_whole and not chunks else None
        done, _ = await asyncio.wait([*chunks, pending], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TaskTimeout(self._plan.timeout or 0.0, started=False)
        return None

    async def _wait_for_room(self, chunks: list[asyncio.Future[Any]]) -> None:
        queue = self._entrance.engine().waiting_queue
        waiter = queue.join()
        scope = current_scope.get()
        if scope is not None:
            scope.add(waiter)
        try:
            left = self._clock.left()
            await asyncio.wait([*chunks, waiter], timeout=left, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            queue.leave(waiter)
            raise
        if not waiter.has_room:
            queue.leave(waiter)
            return waiter.result() if waiter.done() else None
        queue.take(waiter)
        return await self._fill()
