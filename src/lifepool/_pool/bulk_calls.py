"""``Pool.map`` and ``Pool.gather``, as users call them."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal, Never, TypedDict, TypeVar, Unpack, overload

from lifepool._bulk.mapping import Entrance, map_chunks, one_by_one
from lifepool._bulk.plan import plan_bulk
from lifepool._pool.decorated import plain_function
from lifepool._pool.life import PoolLife
from lifepool._usercode.callables import refuse_keywords

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable

    from lifepool._bulk.plan import OnFull
    from lifepool._engine.engine import Engine
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.options import TaskOptions
    from lifepool.progress import ProgressHook

R = TypeVar("R")
X = TypeVar("X")


class BulkOptions(TypedDict, total=False):
    """The keywords of ``Pool.gather``; see there."""

    chunksize: int | Literal["auto"]
    timeout: float | None
    retries: int
    priority: int
    on_full: OnFull
    on_progress: ProgressHook | None


class MapOptions(BulkOptions, total=False):
    """The keywords of ``Pool.map``; see there."""

    ordered: bool
    buffer: int | None


class PoolBulk(PoolLife):
    """Call a function with many items, as few tasks, in bounded memory."""

    _options: TaskOptions

    @overload
    def map(
        self,
        fn: Callable[[X], Coroutine[Any, Any, R]],
        items: Iterable[X] | AsyncIterable[X],
        **options: Unpack[MapOptions],
    ) -> AsyncIterator[R]: ...

    @overload
    def map(
        self, fn: Callable[[X], R], items: Iterable[X] | AsyncIterable[X], **options: Unpack[MapOptions]
    ) -> AsyncIterator[R]: ...

    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        ordered: bool = True,
        chunksize: int | Literal["auto"] = "auto",
        buffer: int | None = None,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        on_full: OnFull = "wait",
        on_progress: ProgressHook | None = None,
        **keywords: Never,
    ) -> AsyncIterator[Any]:
        """Call ``fn`` with each item, many at a time: ``async for result in pool.map(fn, items)``.

        Items are taken only as results are consumed, so memory is bounded also for an endless iterable.

        Args:
            fn: A function of one argument.
            items: A plain or an asynchronous iterable.
            ordered: Results in the order of the items; else as they come.
            chunksize: Items per task. "auto" learns it, aiming at 10 ms a task.
            buffer: The most items that may be taken and not yet handed back. None: as many chunks as keep all
                workers busy.
            timeout: Seconds per chunk, from when it could be submitted: waiting for room in the queue included. None:
                the pool's default. ``math.inf``: no limit.
            retries: Per chunk, as for ``run``.
            priority: As for ``run``.
            on_full: What a full queue means for the first chunk. ``"wait"``: wait for room. ``"raise"``: ``QueueFull``
                at once; right in a request, where a client waits. The chunks that follow wait for room in any case.
            on_progress: Called on the event loop with a ``MapProgress``: at the beginning, then at most ten times a
                second, and once at the end. What it raises is logged once, and hurts nobody.
            **keywords: None: those of the function go through ``functools.partial``.

        Raises:
            TypeError: If the function is async or a generator function.
            Exception: The first exception of ``fn``; the rest is cancelled. And everything that ``run`` raises.

        Cancellation:
            Leaving the loop, by ``break`` too, cancels what is under way.
        """
        refuse_keywords("map", keywords, PoolBulk.map)
        chunks = self._in_chunks(
            fn,
            items,
            ordered=ordered,
            chunksize=chunksize,
            buffer=buffer,
            timeout=timeout,
            retries=retries,
            priority=priority,
            on_full=on_full,
            on_progress=on_progress,
        )
        return one_by_one(chunks)

    @overload
    async def gather(
        self,
        fn: Callable[[X], Coroutine[Any, Any, R]],
        items: Iterable[X] | AsyncIterable[X],
        *,
        return_exceptions: Literal[False] = False,
        **options: Unpack[BulkOptions],
    ) -> list[R]: ...

    @overload
    async def gather(
        self,
        fn: Callable[[X], Coroutine[Any, Any, R]],
        items: Iterable[X] | AsyncIterable[X],
        *,
        return_exceptions: bool,
        **options: Unpack[BulkOptions],
    ) -> list[R | BaseException]: ...

    @overload
    async def gather(
        self,
        fn: Callable[[X], R],
        items: Iterable[X] | AsyncIterable[X],
        *,
        return_exceptions: Literal[False] = False,
        **options: Unpack[BulkOptions],
    ) -> list[R]: ...

    @overload
    async def gather(
        self,
        fn: Callable[[X], R],
        items: Iterable[X] | AsyncIterable[X],
        *,
        return_exceptions: bool,
        **options: Unpack[BulkOptions],
    ) -> list[R | BaseException]: ...

    async def gather(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        return_exceptions: bool = False,
        chunksize: int | Literal["auto"] = "auto",
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        on_full: OnFull = "raise",
        on_progress: ProgressHook | None = None,
        **keywords: Never,
    ) -> list[Any]:
        """Call ``fn`` with each item and return the results as a list, in order.

        One call is admitted as one: if there is no room for its first chunk it is refused at once, with ``QueueFull``;
        once that is admitted, the others follow as there is room, before tasks that come later.

        Args:
            fn: A function of one argument.
            items: A finite iterable, plain or asynchronous.
            return_exceptions: Return what an item raised as its result, instead of raising it. If the worker of a
                chunk dies or the time is up, that error is the result of each of its items.
            chunksize: As for ``map``.
            timeout: Seconds for the whole call, waiting included. None: the pool's default. ``math.inf``: no limit.
            retries: Per chunk, as for ``run``.
            priority: As for ``run``.
            on_full: As for ``map``. ``"wait"`` suits jobs that nobody waits for.
            on_progress: As for ``map``.
            **keywords: None: those of the function go through ``functools.partial``.

        Raises:
            Exception: As for ``map``.

        Cancellation:
            Cancels what is under way.
        """
        refuse_keywords("gather", keywords, PoolBulk.gather)
        results: list[Any] = []
        chunks = self._in_chunks(
            fn,
            items,
            is_whole=True,
            go_on=return_exceptions,
            chunksize=chunksize,
            timeout=timeout,
            retries=retries,
            priority=priority,
            on_full=on_full,
            on_progress=on_progress,
        )
        async with aclosing(chunks):
            async for chunk in chunks:
                results += chunk
        return results

    def _in_chunks(
        self, fn: Callable[[Any], Any], items: Iterable[Any] | AsyncIterable[Any], **how: Any
    ) -> AsyncGenerator[list[Any], None]:
        """Begin a ``map`` or ``gather``; see ``plan_bulk`` for how."""
        plan = plan_bulk(self._options, self.max_workers, **how)
        return map_chunks(Entrance(self._runtime.running_engine, self._start), plain_function(fn), items, plan)

    def _start(
        self, engine: Engine, fn: Callable[..., Any], args: tuple[Any, ...], options: TaskOptions, *, lent: bool = False
    ) -> TaskHandle[Any]:
        """Queue a task; see ``Pool``."""
        raise NotImplementedError
