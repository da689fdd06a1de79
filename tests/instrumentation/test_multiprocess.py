"""Several server processes: what any of them answers is the sum of all, and the dead leave only what they counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from lifepool.instrumentation.metrics import METRICS
from lifepool.instrumentation.process_files import first_process, started_at
from tests.engine.gates import PATIENCE_S
from tests.instrumentation.scrapes import Scrape, check_metrics
from tests.integrations.serving import end, serving

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
SITE = "tests.instrumentation.site:app"


def metrics(url: str) -> Scrape:
    # A connection of its own each time: whichever server process accepts it answers.
    answer = httpx.get(f"{url}/metrics", timeout=PATIENCE_S, verify=False)
    assert answer.is_success, answer.text
    return Scrape(answer.text)


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
            answered.add(httpx.get(f"{server.url}/double", timeout=PATIENCE_S, verify=False).json())
            count += 1
        # A process writes its gauges after its counters: another one may be asked between the two.
        seen = until_seen(server.url, lambda seen: (done(seen), seen.total("lifepool_workers")) == (count, 2))
        assert seen.value("lifepool_task_run_seconds_count", pool="site") == count
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


# --- the folder is taken away -----------------------------------------------------------------------------------------

TAKEN_AWAY = """
import asyncio, os, shutil, sys
from prometheus_client import Counter
from lifepool import Pool
from lifepool.instrumentation.prometheus import PrometheusHook, exposition
from tests.tasks import double
folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
mine = Counter("mine", "The app's own.")
async def main():
    hook = PrometheusHook()
    pool = Pool(max_workers=1, name="a")
    pool.add_hook(hook)
    async with pool:
        await pool.run(double, 1)
        mine.inc()
        await asyncio.to_thread(exposition)
        shutil.rmtree(folder)
        if "again" in sys.argv:
            os.mkdir(folder)
        await pool.run(double, 1)
        await pool.run(abs, -1)
        hook._record_counts()
        for _ in range(2):
            text = (await asyncio.to_thread(exposition, "application/openmetrics-text"))[0].decode()
        assert hook in pool.hooks
    assert hook in pool.hooks
    print(text)
asyncio.run(main())
"""


@pytest.mark.parametrize("again", [[], ["again"]], ids=["gone", "made anew"])
def test_without_its_folder_a_scrape_answers_what_this_process_knows_and_the_log_says_so(
    tmp_path: Path, again: list[str]
) -> None:
    (tmp_path / "metrics").mkdir()
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    ran = subprocess.run(
        [sys.executable, "-c", TAKEN_AWAY, *again],
        capture_output=True, text=True, cwd=ROOT, env=environment, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert not ran.returncode, ran.stderr
    seen = Scrape(ran.stdout)
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 2
    assert seen.value("lifepool_tasks_total", pool="a", task="abs", outcome="completed") == 1
    assert seen.value("lifepool_task_run_seconds_count", pool="a") == 3
    assert seen.total("lifepool_workers") == 1
    assert seen.value("mine_total") == 1
    assert ran.stderr.count("/metrics shows one server process of all") == 1
    assert "restart the server" in ran.stderr


# --- processes start and end while a scrape reads ---------------------------------------------------------------------

MEANWHILE = """
import asyncio, glob, os, sys
from prometheus_client.multiprocess import MultiProcessCollector
from lifepool import Pool
from lifepool.instrumentation.prometheus import PrometheusHook, exposition
from tests.tasks import double
folder = os.environ["PROMETHEUS_MULTIPROC_DIR"]
merge, attempts = MultiProcessCollector.merge, []
def remove_and_merge(files, accumulate=True):
    attempts.append(files)
    for path in glob.glob(folder + "/counter_1_*.db")[:1]:  # listed, and removed by another server before it is read
        os.remove(path)
    return merge(files, accumulate)
async def main():
    pool = Pool(max_workers=1, name="a")
    pool.add_hook(PrometheusHook())
    async with pool:
        await pool.run(double, 1)
        for name in sys.argv[2:]:
            with open(f"{folder}/{name}", "wb") as file:
                file.write(bytes(int(sys.argv[1])))
        MultiProcessCollector.merge = remove_and_merge
        print((await asyncio.to_thread(exposition))[0].decode())
    print(len(attempts), "attempts", file=sys.stderr)
asyncio.run(main())
"""


def scraped_meanwhile(folder: Path, size: int, *names: str) -> tuple[Scrape, str]:
    ran = subprocess.run(
        [sys.executable, "-c", MEANWHILE, str(size), *names], capture_output=True, text=True, cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert not ran.returncode, ran.stderr
    return Scrape(ran.stdout), ran.stderr


def test_a_process_that_has_only_begun_to_make_its_files_or_was_killed_then_spoils_no_scrape(tmp_path: Path) -> None:
    seen, _ = scraped_meanwhile(tmp_path, 0, "counter_1.db", "gauge_livesum_1.db", "histogram_1.db")
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 1
    assert seen.total("lifepool_workers") == 1


def test_files_that_are_removed_while_a_scrape_reads_are_left_out(tmp_path: Path) -> None:
    seen, said = scraped_meanwhile(tmp_path, 64, *(f"counter_1_{number}.db" for number in range(3)))
    assert seen.value("lifepool_tasks_total", pool="a", task="double", outcome="completed") == 1
    assert "4 attempts" in said


# --- what earlier servers have left -----------------------------------------------------------------------------------

SERVER = """
import asyncio, os, sys
from lifepool import Pool
from lifepool.instrumentation.prometheus import PrometheusHook
async def main():
    pool = Pool(backend="inline", name="a")
    pool.add_hook(PrometheusHook())
    async with pool:
        print(os.getpid(), flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


@linux_only
def test_a_server_that_starts_removes_what_ended_servers_have_left_and_nothing_of_those_that_live(
    tmp_path: Path,
) -> None:
    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        )  # fmt: skip

    def owners() -> set[int]:
        return {int(path.stem.rpartition("_")[2]) for path in tmp_path.glob("*.db")}

    with start() as living, start() as ended:
        pids = []
        for server in (living, ended):
            assert server.stdout is not None
            pids.append(int(server.stdout.readline()))
        ended.communicate("", timeout=PATIENCE_S)
        assert owners() == set(pids)
        for path in tmp_path.glob("*.db"):
            os.utime(path, (0, 0))  # as if all this had been long ago
        recent = tmp_path / f"counter_{ended.pid}.db"
        recent.touch()
        os.utime(recent, (time() + 60,) * 2)  # as a sibling that dies after the next server has begun
        (tmp_path / "notes.txt").touch()
        os.utime(tmp_path / "notes.txt", (0, 0))
        with start() as successor:
            assert successor.stdout is not None
            pids.append(int(successor.stdout.readline()))
            assert owners() == set(pids)
            assert list(tmp_path.glob(f"*_{ended.pid}.db")) == [recent]
            assert (tmp_path / "notes.txt").exists()
            successor.communicate("", timeout=PATIENCE_S)
        living.communicate("", timeout=PATIENCE_S)


FIRST = """
import multiprocessing, os
from lifepool.instrumentation.process_files import first_process
def tell(found):
    found.put(first_process())
if __name__ == "__main__":
    found = [first_process()]
    for method in ("fork", "spawn"):
        context = multiprocessing.get_context(method)
        answers = context.SimpleQueue()
        child = context.Process(target=tell, args=(answers,))
        child.start()
        found.append(answers.get())
        child.join()
    reading, writing = os.pipe()
    if not os.fork():  # as gunicorn does, and its child again
        if not os.fork():
            os.write(writing, str(first_process()).encode())
            os._exit(0)
        os.wait()
        os._exit(0)
    found.append(int(os.read(reading, 20)))
    os.wait()
    print(*found, os.getpid())
"""


@linux_only
def test_processes_that_a_server_has_made_are_of_it_and_what_started_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(FIRST)
    run = subprocess.run(
        [sys.executable, tmp_path / "server.py"], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    *found, server = run.stdout.split()
    assert found == [server] * 4


@linux_only
def test_where_nothing_can_be_read_the_leader_of_the_group_is_the_server(tmp_path: Path) -> None:
    assert first_process(tmp_path) == os.getpgrp()


@linux_only
def test_when_a_process_has_started_is_known() -> None:
    started = started_at(os.getpid())
    assert started is not None
    assert abs(started - psutil.Process().create_time()) < 2  # psutil counts from the second of the machine's start


@pytest.mark.parametrize("stat", ["", "12 (a", "12 (name) with (brackets)) S 1 2"])
def test_a_process_of_which_nothing_can_be_read_has_no_start(tmp_path: Path, stat: str) -> None:
    assert started_at(12, tmp_path) is None
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "stat").write_text(stat)
    assert started_at(12, tmp_path) is None
