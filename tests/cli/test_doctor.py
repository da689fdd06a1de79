"""`lifepool doctor`: faked machines, broken and sound modules, a real engine."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING

import pytest

from lifepool._host.cpus import cpu_budget
from lifepool.cli.doctor import machine, selftest
from lifepool.cli.doctor.examination import examine_isolated
from lifepool.cli.doctor.findings import Finding, Report, Section, fail, ok, warn
from lifepool.cli.doctor.machine import Machine
from lifepool.cli.doctor.software import check_environment
from lifepool.cli.doctor.target import check_config
from lifepool.config import resolve
from lifepool.pool import Pool
from tests.cli.runner import lifepool
from tests.host.test_cpus import CGROUP2, linux, plant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lifepool._host.cpus import CpuBudget

GIB = 1 << 30


def by_topic(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.topic: finding for finding in findings}


def faked(
    root: Path,
    files: Mapping[str, str] | None = None,
    *,
    limits: Mapping[str, int] | None = None,
    environ: Mapping[str, str] | None = None,
    host_cpus: int = 4,
) -> Machine:
    """Make a machine of four CPUs in a cgroup of version 2, with these files and soft limits."""
    plant(root, linux("0::/", CGROUP2, **{"proc/meminfo": "MemTotal: 8388608 kB\n", **(files or {})}))
    soft = limits or {}

    def budget(**arguments: object) -> CpuBudget:
        return cpu_budget(root=root, environ=environ or {}, argv=("app.py",), host_cpus=host_cpus, affinity=host_cpus)

    return Machine(
        root=root,
        environ=environ or {},
        budget=budget,
        resource_limit=lambda name: (soft[name], soft[name]) if name in soft else (-1, -1),
    )


# --- the machine ------------------------------------------------------------------------------------------------------


def test_a_quota_is_shown_with_its_file_and_makes_the_workers(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/cpu.max": "200000 100000"})
    found = by_topic(machine.check_cpus(here))
    assert found["quota"].found == "2 by cgroup v2 quota 2.00 at /sys/fs/cgroup/cpu.max"
    assert found["workers"].status == "ok"
    assert found["workers"].found.startswith("2 workers")


def test_no_quota_is_reported_as_well(tmp_path: Path) -> None:
    assert by_topic(machine.check_cpus(faked(tmp_path)))["quota"] == ok("quota", "none")


def test_less_than_a_cpu_is_a_warning(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/cpu.max": "50000 100000"})
    assert by_topic(machine.check_cpus(here))["workers"].status == "warn"


def test_more_servers_than_cpus_are_a_warning(tmp_path: Path) -> None:
    found = by_topic(machine.check_cpus(faked(tmp_path, environ={"WEB_CONCURRENCY": "8"})))
    assert "fewer server processes" in (found["workers"].fix or "")


def test_a_file_that_makes_no_sense_is_a_warning_that_names_it(tmp_path: Path) -> None:
    found = by_topic(machine.check_cpus(faked(tmp_path, {"sys/fs/cgroup/cpu.max": "plenty"})))
    assert found["workers"].status == "warn"
    assert "malformed /sys/fs/cgroup/cpu.max" in found["workers"].found


@pytest.mark.parametrize(("throttled", "seen"), [(10, False), (400, True)])
def test_a_container_that_is_stopped_by_its_quota_is_seen(tmp_path: Path, throttled: int, seen: bool) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/cpu.stat": f"usage_usec 5\nnr_periods 1000\nnr_throttled {throttled}\n"})
    assert ("throttling" in by_topic(machine.check_cpus(here))) is seen


def test_the_smallest_memory_limit_is_shared_among_server_and_workers(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/memory.max": str(5 * GIB)})
    assert by_topic(machine.check_memory(here))["memory"] == ok(
        "memory", "5 GiB (cgroup v2, /sys/fs/cgroup/memory.max): 1 GiB each for the server and 4 worker(s)"
    )


def test_without_a_memory_limit_it_is_the_hosts(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/memory.max": "max"})
    assert machine.memory_limit(here) == (8 * GIB, "the host's")


def test_memory_in_which_workers_do_not_fit_is_a_warning(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/memory.max": str(200 << 20)})
    assert by_topic(machine.check_memory(here))["memory"].status == "warn"


@pytest.mark.parametrize(("soft", "status"), [(64, "fail"), (1024, "warn"), (4096, "ok")])
def test_open_files_must_do_for_workers_and_connections(tmp_path: Path, soft: int, status: str) -> None:
    here = faked(tmp_path, limits={"RLIMIT_NOFILE": soft})
    assert by_topic(machine.check_limits(here))["open files"].status == status


@pytest.mark.parametrize(("most", "status"), [("12", "fail"), ("20", "warn"), ("100", "ok"), ("max", "ok")])
def test_processes_must_be_allowed_by_the_cgroup(tmp_path: Path, most: str, status: str) -> None:
    files = {"sys/fs/cgroup/pids.max": most, "sys/fs/cgroup/pids.current": "10"}
    assert by_topic(machine.check_limits(faked(tmp_path, files)))["processes"].status == status


@pytest.mark.parametrize(("name", "soft"), [("RLIMIT_AS", GIB), ("RLIMIT_DATA", 1 << 20)])
def test_a_limit_on_a_process_memory_is_a_warning(tmp_path: Path, name: str, soft: int) -> None:
    found = by_topic(machine.check_limits(faked(tmp_path, limits={name: soft})))["memory limits"]
    assert found.status == "warn"
    assert "remove ulimit" in (found.fix or "")


def test_an_unknown_system_does_not_fail(tmp_path: Path) -> None:
    here = Machine(root=tmp_path / "nowhere", environ={}, resource_limit=lambda name: None)
    found = [*machine.check_cpus(here), *machine.check_memory(here), *machine.check_limits(here)]
    assert all(finding.status == "ok" for finding in found)


# --- variables --------------------------------------------------------------------------------------------------------


def test_each_variable_is_checked_by_itself() -> None:
    environ = {
        "LIFEPOOL_MAX_WORKERS": "3",
        "LIFEPOOL_TIMEOUT": "soon",
        "LIFEPOOL_MAX_WORKER": "2",
        "LIFEPOOL_MIN_WORKERS": "4",
        "LIFEPOOL_COLOUR": "red",  # somebody else's
    }
    found = by_topic(check_environment(environ))
    assert {topic: finding.status for topic, finding in found.items()} == {
        "LIFEPOOL_MAX_WORKERS": "ok",
        "LIFEPOOL_TIMEOUT": "fail",
        "LIFEPOOL_MIN_WORKERS": "fail",  # above max_workers
        "LIFEPOOL_MAX_WORKER": "warn",
    }
    assert found["LIFEPOOL_MAX_WORKER"].fix == "rename it to LIFEPOOL_MAX_WORKERS"


@pytest.mark.parametrize("value", ["dask+tcp://user:hunter2@host", '["hunter2"]'])
def test_what_may_be_a_secret_is_not_shown(value: str) -> None:
    environ = {"LIFEPOOL_BACKEND": value, "LIFEPOOL_INITARGS": value, "LIFEPOOL_INITIALIZER": "json:loads"}
    assert "hunter2" not in repr(list(check_environment(environ)))


# --- the user's pool --------------------------------------------------------------------------------------------------


def test_settings_are_compared_with_the_machine(tmp_path: Path) -> None:
    here = faked(tmp_path, {"sys/fs/cgroup/memory.max": str(GIB)})
    config = resolve({"max_workers": 16, "max_worker_memory": "512MiB"}, {})
    found = by_topic(check_config(config, here.budget(), here))
    assert {topic: finding.status for topic, finding in found.items()} == {
        "max_workers": "warn",
        "timeout": "warn",
        "memory": "warn",
    }
    assert "16 x 512 MiB = 8 GiB, more than 1 GiB" in found["memory"].found


def test_settings_that_fit_are_well(tmp_path: Path) -> None:
    here = faked(tmp_path)
    config = resolve({"max_workers": 4, "max_worker_memory": "512MiB", "timeout": 2.0}, {})
    assert {finding.status for finding in check_config(config, here.budget(), here)} == {"ok"}


SOUND = """
    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    from lifepool import Pool

    pool = Pool(max_workers=1, timeout=2.0, preload=["json"], initializer=print)

    @asynccontextmanager
    async def own(app):
        yield

    @asynccontextmanager
    async def outer(app):
        async with pool:
            yield

    alone = FastAPI(lifespan=pool.lifespan)
    around = FastAPI(lifespan=pool.lifespan(own))
    inside = FastAPI(lifespan=outer)
    in_state = FastAPI()
    in_state.state.pool = pool
    without = FastAPI()
    number = 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "shop.py").write_text(textwrap.dedent(text))
        return tmp_path

    return write


@pytest.mark.parametrize("name", ["pool", "alone", "around", "inside", "in_state"])
def test_a_pool_is_found_and_a_worker_of_it_started(write: Callable[[str], Path], name: str) -> None:
    found = by_topic(examine_isolated(f"shop:{name}", 30.0, write(SOUND)))
    assert {finding.status for finding in found.values()} == {"ok"}
    assert found["start"].found == "a worker started with its preload and initializer and answered"


TWO = """
    from contextlib import asynccontextmanager
    from fastapi import FastAPI
    from lifepool import Pool
    from lifepool.integrations.fastapi import install

    fast, slow = Pool(name="fast", {sizes}), Pool(name="slow", {sizes})
    installed = FastAPI()
    install(installed, fast, slow)
    one_by_one = FastAPI()
    install(one_by_one, fast)
    install(one_by_one, slow)

    @asynccontextmanager
    async def both(app):
        async with fast, slow:
            yield

    by_hand = FastAPI(lifespan=both)
"""


@pytest.mark.parametrize("name", ["installed", "one_by_one", "by_hand"])
def test_all_pools_of_an_app_are_seen(write: Callable[[str], Path], name: str) -> None:
    found = examine_isolated(f"shop:{name}", 30.0, write(TWO.replace("{sizes}", "max_workers=1, timeout=2")))
    assert [finding.found for finding in found if finding.topic == "start"] == [
        "fast: a worker started and answered",
        "slow: a worker started and answered",
    ]
    assert by_topic(found)["pools"].found.startswith("2 pools have 2 workers: 1 (fast) + 1 (slow); there are CPUs for ")


def test_pools_that_have_more_workers_together_than_there_are_cpus_are_a_warning(write: Callable[[str], Path]) -> None:
    folder = write(TWO.replace("{sizes}", "max_workers=500, min_workers=1"))
    found = by_topic(examine_isolated("shop:installed", 30.0, folder))
    assert found["pools"].status == "warn"
    assert "give each its max_workers" in (found["pools"].fix or "")


def test_pools_that_share_the_cpus_are_well(write: Callable[[str], Path]) -> None:
    found = by_topic(examine_isolated("shop:installed", 30.0, write(TWO.replace("{sizes}", "timeout=2"))))
    assert {finding.status for finding in found.values()} == {"ok"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("without", "no pool was found in the lifespan or the state of shop:without"),
        ("number", "shop:number is a int, neither a Pool nor a FastAPI app"),
        ("pol", "module 'shop' has no attribute 'pol'"),
    ],
)
def test_what_is_no_pool_is_reported(write: Callable[[str], Path], name: str, expected: str) -> None:
    (found,) = examine_isolated(f"shop:{name}", 30.0, write(SOUND))
    assert (found.status, found.found) == ("fail", expected)
    assert "shop:pool" in (found.fix or "") or "main:pool" in (found.fix or "")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("import asyncio\nfrom lifepool import Pool\nasyncio.run(Pool(max_workers=1).start())", "starts a pool"),
        ("raise SystemExit(3)", "SystemExit(3)"),
        ("import nothing_like_it", "ModuleNotFoundError"),
        ("print('last words', flush=True)\nimport os; os._exit(3)", "exit code 3\nlast words"),
        ("from lifepool import Pool\npool = Pool(initializer='json:nothing', max_workers=1)", "no attribute 'nothing'"),
        ("from lifepool import Pool\npool = Pool(preload=['nothing'], max_workers=1)", "No module named 'nothing'"),
    ],
)
def test_a_module_that_can_not_be_served_fails_with_a_reason(
    write: Callable[[str], Path], body: str, expected: str
) -> None:
    found = examine_isolated("shop:pool", 30.0, write(body))[-1]
    assert found.status == "fail"
    assert expected in found.found
    assert found.fix


def test_a_module_that_never_ends_is_given_up(write: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lifepool.cli.doctor.examination.GRACE_S", 0.0)
    folder = write("import threading\nthreading.Event().wait()")
    (found,) = examine_isolated("shop:pool", 0.5, folder)
    assert found.status == "fail"
    assert "__main__" in (found.fix or "")


# --- the engine -------------------------------------------------------------------------------------------------------


async def test_the_engine_does_here_what_it_promises(caplog: pytest.LogCaptureFixture) -> None:
    found = [finding async for finding in selftest.check_engine()]
    assert [(finding.topic, finding.status) for finding in found] == [
        ("start", "ok"),
        ("round trip", "ok"),
        ("1 MiB echo", "ok"),
        ("killed worker", "ok"),
        ("hung task", found[-1].status),  # late on a busy machine, which is a warning
    ]
    assert found[-1].status != "fail"
    assert caplog.records == [], "what is made to fail is not warned of"


async def test_an_engine_that_does_not_start_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "plain_pool", lambda **_: Pool(initializer="json:nothing", max_workers=1))
    (found,) = [finding async for finding in selftest.check_engine()]
    assert (found.topic, found.status) == ("start", "fail")
    assert "no attribute 'nothing'" in found.found


async def test_a_step_that_fails_is_reported_and_the_next_ones_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(pool: Pool) -> Finding:
        raise LookupError("something else")

    monkeypatch.setattr(selftest, "_STEPS", {"first": broken, "killed worker": selftest._death})
    found = [finding async for finding in selftest.check_engine()]
    assert [(finding.topic, finding.status) for finding in found[1:]] == [("first", "fail"), ("killed worker", "ok")]
    assert found[1].found == "LookupError: something else"


# --- the command ------------------------------------------------------------------------------------------------------


def test_only_what_fails_makes_the_exit_code() -> None:
    assert Report((Section("a", (ok("x", ""), warn("y", "", "do"))),)).exit_code == 0
    assert Report((Section("a", (ok("x", ""), fail("y", "", "do"))),)).exit_code == 1


def test_the_command_prints_sections_and_a_summary_that_fit_80_columns(write: Callable[[str], Path]) -> None:
    done = lifepool("doctor", "shop:pool", cwd=write(SOUND), COLUMNS="80", LIFEPOOL_MAX_WORKER="2")
    assert done.returncode == 0, done.stdout + done.stderr
    for title in ("CPUs", "Memory", "Limits", "Processes", "Versions", "Variables", "Engine", "shop:pool"):
        assert f"\n{title}\n" in f"\n{done.stdout}"
    assert "fix: rename it to LIFEPOOL_MAX_WORKERS" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout


def test_the_command_prints_json_and_fails_with_1(write: Callable[[str], Path]) -> None:
    done = lifepool("doctor", "shop:number", "--json", cwd=write(SOUND))
    assert done.returncode == 1
    sections = {section["title"]: section["findings"] for section in json.loads(done.stdout)["sections"]}
    assert sections["shop:number"][0]["status"] == "fail"
    assert {"topic", "status", "found", "fix"} == set(sections["CPUs"][0])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["shop"], "names no attribute"),
        (["shop.py:pool"], "names a file"),
        (["shop:1"], "is not MODULE:POOL"),
        (["shop:pool", "--timeout", "0"], "Invalid value for .--timeout."),
    ],
)
def test_wrong_usage_is_refused_before_anything_is_done(arguments: list[str], expected: str) -> None:
    done = lifepool("doctor", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(expected, done.stderr)


async def test_a_template_that_can_not_start_is_reported_with_its_real_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.spawn.get_executable", lambda: b"/nowhere/python")
    (found,) = [finding async for finding in selftest.check_engine()]
    assert (found.topic, found.status) == ("start", "fail")
    assert "No such file or directory: '/nowhere/python'" in found.found
    assert found.fix is not None
    assert "the Python interpreter of this program is not where it was" in found.fix
