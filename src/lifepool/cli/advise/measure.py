"""Measure a function inline and through a pool, in a process of its own and within a budget of time."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import inspect
import pickle
import time
from statistics import median
from typing import TYPE_CHECKING, Any

from lifepool._host.cpus import cpu_budget
from lifepool._pool.decorated import PoolBatch, PoolTask
from lifepool.cli.advise.arguments import Arguments, BadArguments
from lifepool.cli.advise.judgement import Mapped, Measurement, least_gain, locate
from lifepool.cli.doctor.findings import describe_error
from lifepool.cli.doctor.selftest import plain_pool
from lifepool.cli.importing import NotFound, import_target
from lifepool.cli.summary import Spread
from lifepool.errors import QueueFull, TaskTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.pool import Pool

LEAST_CALLS = 3
MOST_CALLS = 200
ITEMS_PER_WORKER = 1000
ITEMS_BYTES = 16 << 20
SHORT_S = 0.005
"""A call below this is also measured in chunks: a longer one is worth a task of its own."""


class TooSlow(Exception):
    """Raised when one call takes more than the time there is.

    Attributes:
        gain: The least that `Measurement.gain` can be.
    """

    def __init__(self, gain: float) -> None:
        super().__init__(gain)
        self.gain = gain


def measure(request: dict[str, Any]) -> dict[str, Any]:
    """Measure what the request asks for.

    Args:
        request: ``target``, ``positional``, ``keywords``, ``sizes`` (or None), ``repeat`` (or None) and ``budget`` in
            seconds.

    Returns:
        ``measurements``, ``break_even``, ``too_slow`` (a size, or True), or ``error`` and ``hint``.
    """
    try:
        function = plain_function(import_target(request["target"]), request["target"])
        return asyncio.run(_Run(function, request).all())
    except NotFound as error:
        return {"error": str(error), "hint": error.hint}
    except BadArguments as error:
        return {"error": str(error), "hint": "write them as between the parentheses of a call"}
    except Exception as error:  # of the user's function, or what the pool says of it
        message, hint = describe_error(error)
        mine = hasattr(error, "hint")
        return {"error": message, "hint": hint if mine else "the function raised it with these arguments"}


def plain_function(found: object, target: str) -> Callable[..., Any]:
    """Return the function to measure; of ``@pool.task`` and ``@pool.batch`` the one inside.

    Raises:
        NotFound: If it is none, or one for the event loop.
    """
    if isinstance(found, (PoolTask, PoolBatch)):
        return found.function
    if inspect.iscoroutinefunction(found):
        raise NotFound(f"{target} is async", "it belongs on the event loop: name the plain function that it calls")
    if not callable(found):
        raise NotFound(f"{target} is a {type(found).__name__}, not a function", "name a function")
    return found


class _Run:
    """One function, and the time that is left for it."""

    def __init__(self, function: Callable[..., Any], request: dict[str, Any]) -> None:
        self._function = function
        self._arguments = Arguments(request["positional"], request["keywords"])
        self._sizes: list[int | None] = request["sizes"] or [None]
        self._repeat: int | None = request["repeat"]
        self._module = request["target"].partition(":")[0]
        self._budget: float = request["budget"]
        self._end = time.monotonic() + self._budget
        self._is_first = True

    async def all(self) -> dict[str, Any]:
        workers = cpu_budget().workers
        measured: list[Measurement] = []
        too_slow: int | bool | None = None
        at_least: dict[int, float] = {}
        # Preloaded: the time of its import is not that of its first call.
        pool = plain_pool(max_workers=workers, min_workers=workers, preload=(self._module,), name="advise")
        async with pool:
            self._end = time.monotonic() + self._budget
            # With sizes, a part is kept back to look around the break-even.
            left = len(self._sizes) + (4 if len(self._sizes) > 1 else 0)
            for index, size in enumerate(self._sizes):
                share = max(0.1, (self._end - time.monotonic()) / (left - index))
                try:
                    measured.append(await self._one(pool, size, share))
                except TooSlow as slow:
                    too_slow = True if size is None else size
                    at_least = {size or 0: slow.gain} if slow.gain >= 1 else {}
                    break
            found = await asyncio.to_thread(self._locate, pool, asyncio.get_running_loop(), measured, at_least)
        return {
            "measurements": [dataclasses.asdict(each) for each in sorted(measured, key=lambda each: each.size or 0)],
            "break_even": found,
            "too_slow": too_slow,
        }

    def _locate(
        self, pool: Pool, loop: asyncio.AbstractEventLoop, measured: list[Measurement], at_least: dict[int, float]
    ) -> dict[str, Any] | None:
        """Look around the break-even; in a thread, since the search is plain code and measures on the loop."""
        if len(self._sizes) == 1 or not (measured or at_least):
            return None

        def gain(size: int) -> float | None:
            left = self._end - time.monotonic()
            if left <= 0:
                return None
            one = asyncio.run_coroutine_threadsafe(self._one(pool, size, max(0.1, left / 3)), loop)
            try:
                measured.append(one.result())
            except TooSlow:
                return None
            return measured[-1].gain

        return dataclasses.asdict(locate({each.size or 0: each.gain for each in measured} | at_least, gain))

    async def _one(self, pool: Pool, size: int | None, share: float) -> Measurement:
        args, kwargs = self._arguments.make(size)
        function = functools.partial(self._function, **kwargs) if kwargs else self._function
        blob = pickle.dumps((function, args), protocol=5)
        result, first = await self._warm(pool, function, args, share)
        calls = self._calls(first, share)
        inline, pooled, added, loop = await _alternate(pool, function, args, blob, calls)
        answer = pickle.dumps(result, protocol=5)
        mapped = await _mapped(pool, function, blob, inline.median, share) if len(args) == 1 else None
        return Measurement(
            size=size,
            inline=inline,
            pooled=pooled,
            added=added,
            loop=loop,
            pickling=_time_pickling(args, answer),
            arguments_bytes=len(pickle.dumps(args, protocol=5)),
            result_bytes=len(answer),
            mapped=mapped,
        )

    async def _warm(
        self, pool: Pool, function: Callable[..., Any], args: tuple[Any, ...], share: float
    ) -> tuple[Any, float]:
        """Have every worker run it, the first time in a worker alone: a call that hangs must not hang this process.

        Returns:
            The result, and the seconds of one warm call.
        """
        bound = max(share, self._budget / 2) if self._is_first else share
        cpu = time.thread_time()
        try:
            # The first call of all may load something that the others find there.
            await pool.run(function, *args, timeout=bound)
            self._is_first = False
            bound = share
            before, cpu = time.perf_counter(), time.thread_time()
            result = await pool.run(function, *args, timeout=share)
            took = time.perf_counter() - before
            if took * pool.max_workers < share / 4:
                await asyncio.gather(*(pool.run(function, *args) for _ in range(pool.max_workers)))
        except QueueFull:  # it was not even tried
            raise TooSlow(0.0) from None
        except TaskTimeout:
            raise TooSlow(least_gain(bound, time.thread_time() - cpu)) from None
        return result, took

    def _calls(self, first: float, share: float) -> int:
        if self._repeat is not None:
            return self._repeat
        # Half of the share for calls, each inline and pooled.
        return max(LEAST_CALLS, min(MOST_CALLS, int(share / 4 / max(first, 1e-6))))


async def _alternate(
    pool: Pool, function: Callable[..., Any], args: tuple[Any, ...], blob: bytes, calls: int
) -> tuple[Spread, Spread, float, float]:
    """Call inline and pooled in turns, so that a drift of the machine hits both; also the delay, and the loop's CPU."""
    inline, pooled, loop = [], [], 0.0
    for _ in range(calls):
        # A function may change its arguments: each inline call gets its own, as a pooled one does.
        own, own_args = pickle.loads(blob)
        before = time.perf_counter()
        own(*own_args)
        inline.append(time.perf_counter() - before)
        before, cpu = time.perf_counter(), time.thread_time()
        await pool.run(function, *args)
        loop += time.thread_time() - cpu
        pooled.append(time.perf_counter() - before)
    added = max(0.0, median(late - soon for soon, late in zip(inline, pooled, strict=True)))
    return Spread.of(inline), Spread.of(pooled), added, loop / calls


async def _mapped(pool: Pool, function: Callable[..., Any], blob: bytes, inline: float, share: float) -> Mapped | None:
    """Measure an item of many at once: in chunks in the pool, and one after the other in this process."""
    if inline > SHORT_S:
        return None
    bound = min(ITEMS_PER_WORKER * pool.max_workers, ITEMS_BYTES // len(blob), int(share / 8 / max(inline, 1e-6)))
    # Each its own copy: pickle would send a thing that is there twice once.
    items = [pickle.loads(blob)[1][0] for _ in range(max(10, bound))]
    await pool.gather(function, items)  # it learns the size of chunks
    before, cpu = time.perf_counter(), time.thread_time()
    await pool.gather(function, items)
    pooled, loop = time.perf_counter() - before, time.thread_time() - cpu
    own, _ = pickle.loads(blob)
    # Last, for it may change its argument.
    return Mapped(_time_in_a_row(own, items), pooled / len(items), loop / len(items))


def _time_in_a_row(function: Callable[[Any], Any], items: list[Any]) -> float:
    """Measure seconds of a call among many.

    A single one pays for the clock, and for what another's work threw out of the CPU's caches.
    The median of ten parts, because a wait for the CPU hits one of them.
    """
    took = []
    for first in range(10):
        part = items[first::10]
        before = time.perf_counter()
        for item in part:
            function(item)
        took.append((time.perf_counter() - before) / len(part))
    return median(took)


def _time_pickling(args: tuple[Any, ...], answer: bytes) -> float:
    """Measure seconds to pickle the arguments and to unpickle the result, the best of three."""
    best = []
    for _ in range(3):
        before = time.perf_counter()
        pickle.dumps(args, protocol=5)
        pickle.loads(answer)
        best.append(time.perf_counter() - before)
    return min(best)
