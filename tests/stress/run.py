"""The stress run: clients that want everything at once, faults from outside, and the accountant beside them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from lifepool import Pool, QueueFull
from tests.leaks import Snapshot, leaks_since
from tests.stress import workload
from tests.stress.accountant import PATIENCE_S, Accountant, Entry
from tests.stress.chaos import Chaos
from tests.stress.footprint import Footprint
from tests.stress.jobs import MIB, WORKER_MEMORY, Job, draw
from tests.stress.lag import LagMeter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

#: Seconds that a task without a timeout of its own has: long enough never to pass but on a stopped worker.
DEFAULT_TIMEOUT_S = 20.0
#: Bytes of large arguments and answers that are under way at most.
LARGE_BYTES = 96 * MIB
#: Seconds that a closing pool waits for its tasks.
DRAIN_S = 30.0
CANCELLED_SHARE = 0.08
#: Bytes that the C allocator may keep for the threads that start workers and copy big payloads: 64 MiB each.
IDLE_MARGIN = 3 * 64 * MIB


@dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        seconds: How long tasks are submitted.
        seed: Of everything random.
        workers: In the pool.
        clients: Coroutines that submit one task after another.
        mappers: Coroutines that use ``map`` and ``gather``.
        fault_every_s: Mean seconds between two faults from outside.
        rss_margin: Bytes of resident memory that the server may have more at the end.
    """

    seconds: float
    seed: int
    workers: int = 4
    clients: int = 64
    mappers: int = 2
    fault_every_s: float = 1.0
    rss_margin: int = 48 * MIB


class Run:
    """One stress run against one pool.

    Args:
        plan: What to do.
        folder: For the log of starts and for marks.
    """

    def __init__(self, plan: Plan, folder: str) -> None:
        self._plan = plan
        self._folder = folder
        self._log = os.path.join(folder, "log")
        self._random = Random(plan.seed)
        self._large = 0
        self._deadline = 0.0
        self.seconds = 0.0
        self.bulk = 0

    async def go(self) -> None:
        """Start the pool, do everything at once, come to rest, close."""
        plan = self._plan
        pool = self._pool = Pool(
            max_workers=plan.workers,
            max_queue=plan.clients * 4,
            timeout=DEFAULT_TIMEOUT_S,
            max_tasks_per_worker=500,
            max_worker_memory=WORKER_MEMORY,
            drain_timeout=DRAIN_S,
            initializer=workload.open_log,
            initargs=(self._log,),
            name="stress",
        )
        async with pool:
            self.chaos = Chaos(pool, Random(self._random.random()), plan.fault_every_s)
            self.lag = LagMeter()
            self.accountant = Accountant(self.chaos, self.lag)
            beside = [asyncio.create_task(self.chaos.run()), asyncio.create_task(self.lag.run())]
            began = time.monotonic()
            self._deadline = began + plan.seconds
            await asyncio.gather(
                *(self._client(Random(self._random.random())) for _ in range(plan.clients)),
                *(self._mapper(Random(self._random.random())) for _ in range(plan.mappers)),
            )
            self.seconds = time.monotonic() - began
            await _end(beside)
            self.statistics = await self._rest(pool)
        self.accountant.balance(self._log)

    async def _rest(self, pool: Pool) -> Any:
        """Check that the pool is at rest when everything has ended."""
        patience = time.monotonic() + DEFAULT_TIMEOUT_S + PATIENCE_S
        while (now := pool.statistics()).queued or now.running or now.workers.get("busy"):
            if time.monotonic() > patience:
                self.accountant.complain(f"the pool does not come to rest: {now}")
                break
            await asyncio.sleep(0.05)
        return pool.statistics()

    # -- single tasks ---------------------------------------------------------------------------------------------

    async def _client(self, random: Random) -> None:
        while time.monotonic() < self._deadline:
            await self._one(random)
            if random.random() < 0.05:
                await asyncio.sleep(random.expovariate(100))

    async def _one(self, random: Random) -> None:
        accountant = self.accountant
        number = accountant.next_number()
        job = draw(number, random, self._folder)
        if self._large + job.payload > LARGE_BYTES:
            job = Job("quick", workload.double, (number,), 2 * number)
        self._large += job.payload
        entry = accountant.opened(number, job, job.options.get("timeout", DEFAULT_TIMEOUT_S))
        options = dict(job.options)
        is_cancelled = random.random() < CANCELLED_SHARE
        if is_cancelled and job.kind in ("quick", "slow"):
            options["on_cancel"] = random.choice(("interrupt", "abandon"))
        try:
            handle = self._pool.submit(job.fn, *job.args, **options)
        except Exception as error:
            accountant.closed(number, entry, error=error)
            await asyncio.sleep(error.retry_after if isinstance(error, QueueFull) else 0)
        else:
            if is_cancelled:
                await asyncio.sleep(random.choice((0.0, random.expovariate(100))))
                entry.cancelled = True
                handle.cancel()
            await self._end_of(number, entry, handle)
        finally:
            self._large -= job.payload

    async def _end_of(self, number: int, entry: Entry, handle: asyncio.Future[Any]) -> None:
        bound = entry.timeout + PATIENCE_S
        done, _ = await asyncio.wait([handle], timeout=entry.began + bound - time.monotonic())
        accountant = self.accountant
        if not done:
            accountant.hangs(number, entry)
            entry.cancelled = True
            handle.cancel()
            await asyncio.wait([handle])
        if handle.cancelled():
            accountant.closed(number, entry, error=asyncio.CancelledError())
        elif (error := handle.exception()) is not None:
            accountant.closed(number, entry, error=error)
        else:
            accountant.closed(number, entry, handle.result())

    # -- many at a time -------------------------------------------------------------------------------------------

    async def _mapper(self, random: Random) -> None:
        while time.monotonic() < self._deadline:
            use = random.choice((self._whole_gather, self._broken_map, self._cancelled_gather))
            began = time.monotonic()
            try:
                async with asyncio.timeout(DEFAULT_TIMEOUT_S * 3 + PATIENCE_S):
                    await use(random)
            except TimeoutError as error:
                if not self._is_explained(error, began):
                    self.accountant.hung += 1
                    self.accountant.complain(f"{use.__name__} did not end: {error!r}")
            except Exception as error:
                if not self._is_explained(error, began):
                    self.accountant.complain(f"{use.__name__} got {error!r:.300}")
            self.bulk += 1

    def _is_explained(self, error: BaseException, began: float) -> bool:
        return not self.accountant.is_plausible(error, began, 0.0, may_time_out=False)

    def _check(self, number: int, divisor: int, result: Any, began: float) -> None:
        """Check the result of one item of a map, or the exception instead of it."""
        if result == 2 * number and not isinstance(result, BaseException):
            self.accountant.item_answered(number)
            return
        is_expected = divisor and number % divisor == 0 and type(result) is ValueError and result.args == (number,)
        if not is_expected and not (isinstance(result, BaseException) and self._is_explained(result, began)):
            self.accountant.complain(f"item {number} of a map gave {result!r:.200}")

    async def _whole_gather(self, random: Random) -> None:
        numbers = self.accountant.next_numbers(random.randrange(1, 400))
        divisor, began = random.choice((0, 7)), time.monotonic()
        items = [(number, divisor) for number in numbers]
        results = await self._pool.gather(workload.fail_for_multiples, items, return_exceptions=True)
        if len(results) != len(numbers):
            self.accountant.complain(f"gather gave {len(results)} results for {len(numbers)} items")
        for number, result in zip(numbers, results, strict=False):
            self._check(number, divisor, result, began)

    async def _broken_map(self, random: Random) -> None:
        """Leave an endless map after some results."""
        wanted, began = random.randrange(1, 200), time.monotonic()
        ordered = random.random() < 0.5
        taken: list[int] = []
        source = self._endless(taken)
        results = self._pool.map(workload.fail_for_multiples, source, ordered=ordered)
        seen = 0
        async with contextlib.aclosing(results):  # type: ignore[type-var]
            async for result in results:
                if ordered:
                    self._check(taken[seen], 0, result, began)
                elif result % 2 or result // 2 not in taken:
                    self.accountant.complain(f"an unordered map gave {result!r}")
                seen += 1
                if seen == wanted:
                    break

    async def _endless(self, taken: list[int]) -> AsyncIterator[tuple[int, int]]:
        while True:
            (number,) = self.accountant.next_numbers(1)
            taken.append(number)
            yield number, 0

    async def _cancelled_gather(self, random: Random) -> None:
        numbers = self.accountant.next_numbers(random.randrange(100, 3000))
        items = [(number, 0) for number in numbers]
        gathering = asyncio.ensure_future(self._pool.gather(workload.fail_for_multiples, items))
        await asyncio.wait([gathering], timeout=random.expovariate(50))
        gathering.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await gathering


async def _end(beside: list[asyncio.Task[None]]) -> None:
    """Cancel what runs beside the clients; if it failed, fail."""
    for task in beside:
        task.cancel()
    for result in await asyncio.gather(*beside, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError):
            raise RuntimeError("the stress run itself is at fault") from result


async def stress(plan: Plan) -> dict[str, Any]:
    """Run a plan; returns the report, in which ``wrong``, ``hung`` and ``leaked`` must be 0."""
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        warm_up = Run(Plan(min(5.0, plan.seconds / 5), plan.seed + 1, plan.workers, plan.clients), folder)
        await warm_up.go()
    before, baseline = Footprint.settled(), Snapshot.take()
    with tempfile.TemporaryDirectory(prefix="stress-") as folder:
        run = Run(plan, folder)
        await run.go()
    leaked = leaks_since(baseline)
    after = Footprint.settled()
    return _report(plan, run, before, after, str(leaked).splitlines())


def _report(plan: Plan, run: Run, before: Footprint, after: Footprint, leaked: list[str]) -> dict[str, Any]:
    accounts = run.accountant
    if after.shared_maps > before.shared_maps:
        leaked.append(f"{after.shared_maps - before.shared_maps} mapping(s) of shared memory")
    grown = {
        "of memory": after.resident - before.resident,
        "given out by the allocator": after.used - before.used,
        "kept by the allocator": after.idle - before.idle - IDLE_MARGIN,
    }
    leaked += [f"{size / MIB:.1f} MiB {what}" for what, size in grown.items() if size > plan.rss_margin]
    return {
        "seed": plan.seed,
        "seconds": round(run.seconds, 1),
        "tasks": accounts.tasks,
        "tasks_per_s": round(accounts.tasks / run.seconds),
        "maps_and_gathers": run.bulk,
        "items_of_maps": accounts.items,
        "faults_from_outside": dict(run.chaos.injected),
        "kinds": dict(accounts.kinds.most_common()),
        "outcomes": dict(accounts.outcomes.most_common()),
        "workers_replaced": dict(run.statistics.restarts),
        "latest_timeout_ms": round(accounts.latest_timeout_s * 1e3, 1),
        "worst_loop_lag_ms": round(run.lag.worst_s * 1e3, 1),
        "wrong": accounts.wrong,
        "hung": accounts.hung,
        "leaked": len(leaked),
        "examples": accounts.examples + leaked,
        "before": vars(before),
        "after": vars(after),
    }
