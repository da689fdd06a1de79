"""Several server processes: what any of them answers is the sum of all, and the dead leave only what they counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import httpx
import psutil

from lifepool.instrumentation.metrics import METRICS
from tests.engine.gates import PATIENCE_S
from tests.instrumentation.scrapes import Scrape, check_metrics
from tests.integrations.serving import end, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

ROOT = Path(__file__).parents[2]
SITE = "tests.instrumentation.site:app"


def metrics(url: str) -> Scrape:
    # A connection of its own each time: whichever server process accepts it answers.
    return Scrape(httpx.get(f"{url}/metrics", timeout=PATIENCE_S).text)


def until_seen(url: str, condition: Callable[[Scrape], bool]) -> Scrape:
    """Scrape until it shows what it must within a second or two."""
    deadline = monotonic() + PATIENCE_S
    while not condition(seen := metrics(url)):
        assert monotonic() < deadline, seen.text
    return seen


def done(seen: Scrape) -> float:
    return seen.total("lifepool_tasks_total", pool="site", task="double", outcome="completed")


def test_two_server_processes_are_added_up_and_the_dead_are_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, promtool: str
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    with serving(SITE, "--workers", "2") as server:
        answered: set[int] = set()
        count = 0
        while len(answered) < 2 or count < 20:
            answered.add(httpx.get(f"{server.url}/double", timeout=PATIENCE_S).json())
            count += 1
        seen = until_seen(server.url, lambda seen: done(seen) == count)
        assert seen.value("lifepool_task_run_seconds_count", pool="site") == count
        assert seen.total("lifepool_workers") == 2
        assert 0 <= seen.value("lifepool_worker_utilisation_ratio", pool="site") <= 1
        assert {metric.name for metric in METRICS} == {
            line.split()[2] for line in seen.text.splitlines() if line.startswith("# TYPE lifepool_")
        }
        assert check_metrics(promtool, seen.text) == ""

        victim = psutil.Process(answered.pop())
        victim.kill()
        seen = until_seen(server.url, lambda seen: str(victim.pid) not in gauge_owners(tmp_path))
        assert done(seen) == count, "what it had counted stays"
        until_seen(server.url, lambda seen: seen.total("lifepool_workers") == 2)  # uvicorn has started another one
        assert end(server, signal.SIGTERM) == []
    assert set(gauge_values(tmp_path).values()) == {0.0}, "who ends in order leaves no gauges"


def gauge_owners(folder: Path) -> set[str]:
    return {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*")}


READ = """
import sys
from prometheus_client.multiprocess import MultiProcessCollector
for family in MultiProcessCollector(None, sys.argv[1]).collect():
    if family.type == "gauge":
        for sample in family.samples: print(sample.name, *sample.labels.values(), sample.value)
"""


def gauge_values(folder: Path) -> dict[str, float]:
    read = subprocess.run(
        [sys.executable, "-c", READ, str(folder)], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in read.stdout.splitlines())}


RESTARTED = """
import asyncio, os
from lifepool import Pool
from lifepool.instrumentation.prometheus import PrometheusHook, exposition, is_multiprocess
from tests.tasks import double
assert is_multiprocess()
async def main():
    pool = Pool(max_workers=1, name="a")
    pool.add_hook(PrometheusHook())
    for _ in range(2):
        async with pool, Pool(max_workers=1, name="a") as namesake:
            namesake.add_hook(PrometheusHook())
            await pool.run(double, 1)
            await namesake.run(double, 1)
            text = (await asyncio.to_thread(exposition))[0].decode()
    print(text)
asyncio.run(main())
"""


def test_pools_of_one_name_and_a_pool_started_again_share_their_values(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", RESTARTED],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert not ran.returncode, ran.stderr
    seen = Scrape(ran.stdout)
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 4
    assert seen.value("lifepool_task_wait_seconds_count", pool="a") == 4
    assert seen.total("lifepool_workers") == 2
    assert set(gauge_values(tmp_path).values()) == {0.0}
