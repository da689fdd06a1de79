"""Random kills of servers, workers and connections while jobs run, and an accountant: ``python -m tests.jobs.chaos``.

What was accepted must end: succeeded, cancelled, or failed for the reason that it was made to fail for. None may be
lost. A job may run to its end twice only if it was started twice: that is the window of "at least once".
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lifepool.jobs import Jobs, JobState
from tests.jobs import postgresql, tasks

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
LEASE_S = 1.0
#: More than a job can be hit by chance.
MAX_ATTEMPTS = 100
#: Seconds for all of it, beside those that the jobs take; less than what pytest gives a test.
PATIENCE_S = 40.0
STOPS_WITHIN_S = 10.0
#: Of a server in the store, when it is killed at each of them.
MAX_STEPS = 500


@dataclass
class Plan:
    """How much of it.

    Attributes:
        url: The store.
        folder: Where jobs write down that they have run.
        jobs: How many.
        servers: Processes that run them.
        pause: Seconds between two kills.
        kills: How many there are at least.
        random: Decides.
        kill_connections: Ends the connections to the store, if it has any.
    """

    url: str
    folder: Path
    jobs: int
    servers: int
    pause: float
    kills: int
    random: random.Random
    kill_connections: Callable[[], object] | None = None


@dataclass
class Report:
    """What came of it."""

    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    twice: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Servers:
    """Processes that run jobs; one that is killed is started anew."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self.running: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.jobs.server", self._plan.url, str(LEASE_S),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        self.running.append(process)
        if process.stdout is not None:
            await process.stdout.readline()

    async def kill_one(self) -> None:
        process = self._plan.random.choice(self.running)
        self.running.remove(process)
        process.kill()
        await process.wait()
        await self.start()

    def kill_a_worker(self) -> bool:
        process = self._plan.random.choice(self.running)
        with suppress(psutil.Error, ProcessLookupError):
            workers = [each for each in psutil.Process(process.pid).children(recursive=True) if not each.children()]
            if workers:
                os.kill(self._plan.random.choice(workers).pid, signal.SIGKILL)
                return True
        return False

    async def end(self) -> None:
        for process in self.running:
            if process.stdin is not None:
                process.stdin.close()
        for process in self.running:
            try:
                async with asyncio.timeout(STOPS_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def chaos(plan: Plan) -> Report:
    """Submit jobs, kill at random, wait for all, and compare."""
    report, began = Report(), time.monotonic()
    servers = Servers(plan)
    async with Jobs(None, store=plan.url) as jobs:
        killing = asyncio.create_task(_kill(plan, servers, report))
        try:
            async with asyncio.timeout(PATIENCE_S + plan.jobs / 20):
                expected = await _submit(plan, jobs, report)
                for job_id, ends in expected.items():
                    done = await jobs.wait(job_id)
                    report.ends[str(done.state)] += 1
                    if done.state not in ends:
                        report.wrong.append(f"{job_id} is {done.state}: {done.failure}")
                await killing
        except TimeoutError:
            report.wrong.append(f"it took too long: {await jobs.counts()}")
        finally:
            killing.cancel()
            await asyncio.gather(killing, return_exceptions=True)
            await servers.end()
        await _compare(plan, jobs, report)
    report.seconds = time.monotonic() - began
    return report


async def _submit(plan: Plan, jobs: Jobs, report: Report) -> dict[str, set[JobState]]:
    """Submit them all, and cancel some; which end each may have."""
    expected: dict[str, set[JobState]] = {}
    for number in range(plan.jobs):
        draw = plan.random.random()
        if draw < 0.1:
            job = await jobs.submit(tasks.fail, "as it should", name="fails")
            expected[job.id] = {JobState.FAILED}
        else:
            seconds = plan.random.random() * 0.02
            job = await jobs.submit(
                tasks.work, str(plan.folder), number, seconds, name=f"work{number}", max_attempts=MAX_ATTEMPTS
            )
            expected[job.id] = {JobState.SUCCEEDED}
            if draw < 0.15:
                await jobs.cancel(job.id)
                expected[job.id] = {JobState.SUCCEEDED, JobState.CANCELLED}
        report.accepted += 1
    return expected


async def _kill(plan: Plan, servers: Servers, report: Report) -> None:
    """Start the servers, then kill: each kind in turn, who of it and when at random."""
    await asyncio.gather(*(servers.start() for _ in range(plan.servers)))
    for kind in itertools.cycle(["servers", "workers", *(["connections"] if plan.kill_connections else [])]):
        if report.kills.total() >= plan.kills:
            return
        await asyncio.sleep(plan.random.random() * 2 * plan.pause)
        if kind == "servers":
            await servers.kill_one()
            report.kills[kind] += 1
        elif kind == "workers":
            report.kills[kind] += servers.kill_a_worker()
        elif plan.kill_connections is not None:
            await asyncio.to_thread(plan.kill_connections)
            report.kills[kind] += 1


async def _compare(plan: Plan, jobs: Jobs, report: Report) -> None:
    """Compare with what the jobs themselves have written down."""
    ran = Counter(line for file in plan.folder.glob("ran*") for line in file.read_text().split())
    cursor = None
    while True:
        page = await jobs.list(cursor=cursor, limit=500)
        for job in page.jobs:
            count = ran[job.name.removeprefix("work")]
            if job.state is JobState.SUCCEEDED and not count:
                report.wrong.append(f"{job.id} has succeeded, and never ran")
            if count > job.attempts:
                report.wrong.append(f"{job.id} ran to its end {count} times in {job.attempts} attempts")
            report.twice += count > 1
        cursor = page.next
        if cursor is None:
            break
    if sum(report.ends.values()) != report.accepted:
        report.wrong.append(f"{report.accepted} accepted, {sum(report.ends.values())} ended")


def main() -> int:
    """Run it on SQLite and on PostgreSQL."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs.chaos", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pause", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--store", choices=("sqlite", "postgresql", "both"), default="both")
    options = parser.parse_args()
    wrong = False
    for kind in ("sqlite", "postgresql"):
        if options.store not in (kind, "both"):
            continue
        report = _run(kind, options)
        print(f"{kind}, seed {options.seed}: {json.dumps(report.__dict__)}", flush=True)
        wrong |= bool(report.wrong)
    if options.store != "sqlite":
        asyncio.run(_crash_points())
    return int(wrong)


async def _crash_points() -> None:
    """Kill a server at each of its steps on PostgreSQL; the suite has time for some of them, and for all on SQLite."""
    from tests.jobs.test_crash_points import check, crash_at_each

    with tempfile.TemporaryDirectory(prefix="lp-crash-") as name, postgresql.server() as server:
        urls = [server.new_store() for _ in range(MAX_STEPS)]
        folders = await crash_at_each(Path(name), 1, 1, *urls)
        twice = sum([await check(folder) for folder in folders])
    print(f"postgresql, killed at each of {len(folders)} steps in turn: nothing lost, {twice} ran twice", flush=True)


def _run(kind: str, options: Any) -> Report:
    with tempfile.TemporaryDirectory(prefix="lp-chaos-") as name:
        folder = Path(name)
        amount = (folder, options.jobs, options.servers, options.pause, options.kills, random.Random(options.seed))
        if kind == "sqlite":
            return asyncio.run(chaos(Plan(f"sqlite:///{folder}/jobs.db", *amount)))
        with postgresql.server() as server:
            url = server.new_store()
            return asyncio.run(chaos(Plan(url, *amount, server.kill_connections)))


if __name__ == "__main__":
    sys.exit(main())
