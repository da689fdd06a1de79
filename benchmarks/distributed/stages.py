"""Where the time of one call on Celery and Redis goes: ``python -m benchmarks.distributed.stages``.

Client and node put stamps of one clock around what they do, one call after the other; printed are medians, in
milliseconds since the call was made. The stamps cost some microseconds each, so figures are for shares and not for
comparisons with other programs.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.distributed.contenders import LifepoolOnCelery
from benchmarks.environment import ROOT

CALLS = 400
START, END = "the call is made", "the caller has the answer"
STAMPS_FILE = "BENCHMARK_STAMPS"

Stamp = tuple[float, str]
stamps: list[Stamp] = []


def stamp_at(owner: Any, name: str, stage: str, after: str = "") -> None:
    """Have a method, async or not, put a stamp before it does its work, and perhaps one after it."""
    original: Any = getattr(owner, name)

    def stamped(*args: Any, **options: Any) -> Any:
        stamps.append((time.perf_counter(), stage))
        result = original(*args, **options)
        return finished(result) if after else result

    async def finished(result: Any) -> Any:
        value = await result
        stamps.append((time.perf_counter(), after))
        return value

    setattr(owner, name, stamped)


class Stamped(LifepoolOnCelery):
    """lifepool on Celery, with stamps on both sides."""

    def _start_node(self, url: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.distributed.stages", "worker", "--backend", url]
        command += ["--max-workers", str(self.workers), "--allow", "builtins"]
        environment = {**os.environ, "CELERY_CUSTOM_WORKER_POOL": "lifepool.nodes.celery_pool:TaskPool"}
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def stamp_client() -> None:
    """Put stamps into this process."""
    from lifepool.backends.celery.transport import CeleryTransport
    from lifepool.backends.remote.backend import RemoteBackend

    stamp_at(RemoteBackend, "send", "the client sends it")
    stamp_at(CeleryTransport, "send", "it is signed")
    stamp_at(CeleryTransport, "heard", "the client hears of it")


def run_node() -> None:
    """Run a node with stamps, which are written to a file at its end."""
    from lifepool.backends.celery.outlet import RedisOutlet
    from lifepool.backends.remote import node
    from lifepool.cli.subcommands import app
    from lifepool.nodes.celery_pool import TaskPool

    stamp_at(TaskPool, "on_apply", "Celery hands it to the node's pool")
    stamp_at(node.NodeAgent, "take", "the node's thread has it")
    stamp_at(RedisOutlet, "claim", "the node asks whether it may run it", after="it may")
    stamp_at(node, "outcome_of", "it has run")
    stamp_at(RedisOutlet, "post", "the answer leaves the node")
    try:
        app()
    finally:
        Path(os.environ[STAMPS_FILE]).write_text(json.dumps(stamps), encoding="utf-8")


def medians(of: list[Stamp]) -> list[tuple[str, float]]:
    """Return the stages in their order, with the median of the milliseconds at which each is reached."""
    reached: defaultdict[str, list[float]] = defaultdict(list)
    start, seen = 0.0, set[str]()
    for instant, stage in sorted(of):
        if stage == START:
            start, seen = instant, set()
        elif start and stage not in seen:
            seen.add(stage)
            reached[stage].append(1000 * (instant - start))
    found = [(stage, statistics.median(times)) for stage, times in reached.items() if len(times) > CALLS / 2]
    return sorted(found, key=lambda each: each[1])


def read(file: Path) -> list[Stamp]:
    """Return what a node has written."""
    return [(instant, stage) for instant, stage in json.loads(file.read_text(encoding="utf-8"))]


async def measure() -> None:
    """Make calls one after the other, and print the stages."""
    stamp_client()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "stamps.json")
        os.environ[STAMPS_FILE] = str(file)
        contender = Stamped(2)
        await contender.start()
        try:
            for number in range(CALLS + 50):
                if number == 50:
                    stamps.clear()
                stamps.append((time.perf_counter(), START))
                await contender.run(abs, -1)
                stamps.append((time.perf_counter(), END))
        finally:
            mine = list(stamps)
            await contender.close()
        since = mine[0][0]
        theirs = read(file)
    for stage, at in medians(mine + [each for each in theirs if since <= each[0] <= mine[-1][0]]):
        print(f"{at:8.3f} ms  {stage}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["worker"]:
        run_node()
    else:
        asyncio.run(measure())
