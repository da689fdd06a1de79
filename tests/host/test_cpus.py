"""How many workers fit: fake cgroup trees, fake command lines, and real servers that ask."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._host.cpus import CpuBudget, cpu_budget, may_poll

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

CGROUP2 = "35 24 0:30 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
CGROUP1 = "33 24 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
ROOT_FS = "24 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw"


def plant(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def linux(cgroup: str, *mounts: str, **files: str) -> dict[str, str]:
    return {
        "proc/self/cgroup": cgroup + "\n",
        "proc/self/mountinfo": "\n".join([ROOT_FS, *mounts]) + "\n",
        **files,
    }


def budget(
    root: Path,
    *,
    argv: Sequence[str] = ("app.py",),
    environ: Mapping[str, str] | None = None,
    host_cpus: int = 64,
    affinity: int = 64,
    process: object = None,
) -> CpuBudget:
    return cpu_budget(
        root=root,
        argv=argv,
        environ=environ or {},
        host_cpus=host_cpus,
        affinity=affinity,
        process=process,
    )


# --- the control groups ---------------------------------------------------------------------------

TREES = {
    "docker on cgroup v2: the container's own files lie in the mount": (
        linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": "200000 100000\n"}),
        2.0,
        "cgroup v2 quota 2.00 at /sys/fs/cgroup/cpu.max",
    ),
    "docker on cgroup v2 without a namespace: the host's path does not exist in here": (
        linux("0::/docker/4f1e", CGROUP2, **{"sys/fs/cgroup/cpu.max": "300000 100000\n"}),
        3.0,
        "cgroup v2 quota 3.00 at /sys/fs/cgroup/cpu.max",
    ),
    "a path out of the namespace falls back to the mount": (
        linux("0::/../../other", CGROUP2, **{"sys/fs/cgroup/cpu.max": "300000 100000\n"}),
        3.0,
        "cgroup v2 quota 3.00 at /sys/fs/cgroup/cpu.max",
    ),
    "no quota on cgroup v2": (
        linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": "max 100000\n"}),
        64.0,
        "no limit set",
    ),
    "a systemd service with CPUQuota=": (
        linux(
            "0::/system.slice/shop.service",
            CGROUP2,
            **{
                "sys/fs/cgroup/system.slice/cpu.max": "max 100000\n",
                "sys/fs/cgroup/system.slice/shop.service/cpu.max": "150000 100000\n",
            },
        ),
        1.5,
        "cgroup v2 quota 1.50 at /sys/fs/cgroup/system.slice/shop.service/cpu.max",
    ),
    "a tighter ancestor wins on cgroup v2": (
        linux(
            "0::/a.slice/b.slice/c.scope",
            CGROUP2,
            **{
                "sys/fs/cgroup/a.slice/cpu.max": "400000 200000\n",
                "sys/fs/cgroup/a.slice/b.slice/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a.slice/b.slice/c.scope/cpu.max": "800000 100000\n",
            },
        ),
        2.0,
        "cgroup v2 quota 2.00 at /sys/fs/cgroup/a.slice/cpu.max",
    ),
    "a kubernetes pod on cgroup v2, seen from the node's namespace": (
        linux(
            "0::/kubepods.slice/kubepods-pod7.slice/cri-1.scope",
            CGROUP2,
            **{
                "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cri-1.scope/cpu.max": ("500000 100000\n"),
            },
        ),
        2.5,
        "cgroup v2 quota 2.50 at /sys/fs/cgroup/kubepods.slice/kubepods-pod7.slice/cpu.max",
    ),
    "cgroup v1": (
        linux(
            "4:cpu,cpuacct:/batch\n3:memory:/elsewhere\n1:name=systemd:/x",
            CGROUP1,
            **{
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/batch/cpu.cfs_quota_us": "150000\n",
                "sys/fs/cgroup/cpu,cpuacct/batch/cpu.cfs_period_us": "50000\n",
            },
        ),
        3.0,
        "cgroup v1 quota 3.00 at /sys/fs/cgroup/cpu,cpuacct/batch/cpu.cfs_quota_us",
    ),
    "docker on cgroup v1: the mount shows the container's own cgroup": (
        linux(
            "4:cpu,cpuacct:/docker/4f1e/worker",
            CGROUP1.replace(" / ", " /docker/4f1e ", 1),
            **{
                "sys/fs/cgroup/cpu,cpuacct/worker/cpu.cfs_quota_us": "800000",
                "sys/fs/cgroup/cpu,cpuacct/worker/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
        ),
        4.0,
        "cgroup v1 quota 4.00 at /sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us",
    ),
    "half a pair of cgroup v1 files is no quota": (
        linux(
            "4:cpu,cpuacct:/",
            CGROUP1,
            **{"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000"},
        ),
        64.0,
        "no limit set",
    ),
    "a hybrid hierarchy: the quota is in v1, the processes are in v2 as well": (
        linux(
            "4:cpu,cpuacct:/shop\n0::/shop",
            CGROUP1,
            CGROUP2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
            **{
                "sys/fs/cgroup/unified/shop/cgroup.procs": "1\n",
                "sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_quota_us": "500000\n",
                "sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_period_us": "100000\n",
            },
        ),
        5.0,
        "cgroup v1 quota 5.00 at /sys/fs/cgroup/cpu,cpuacct/shop/cpu.cfs_quota_us",
    ),
    "a mount point with a space in it": (
        linux(
            "0::/",
            CGROUP2.replace("/sys/fs/cgroup", r"/sys/my\040groups"),
            **{"sys/my groups/cpu.max": "100000 100000\n"},
        ),
        1.0,
        "cgroup v2 quota 1.00 at /sys/my groups/cpu.max",
    ),
    "no /proc at all": ({}, 64.0, "no limit set"),
    "control groups that are not mounted": (linux("0::/"), 64.0, "no limit set"),
    "nonsense in /proc": (
        linux("\n:\nfour\n4:cpu", "x - cgroup2", " - ", "1 2 3 / /sys/fs/cgroup - cgroup cgroup"),
        64.0,
        "no limit set",
    ),
}


@pytest.mark.parametrize(("files", "cpus", "source"), TREES.values(), ids=TREES)
def test_the_tightest_quota_is_found_and_named(
    tmp_path: Path, files: Mapping[str, str], cpus: float, source: str
) -> None:
    found = budget(plant(tmp_path, files))

    assert found.cpus == cpus
    assert found.workers == int(cpus)
    assert f"({source}; host has 64)" in found.source
    assert "ignored" not in found.source


@pytest.mark.parametrize(
    "text",
    ["", "lots 100000", "200000", "1 2 3", "0 100000", "200000 0", "-5 7", "\0", "9" * 400 + " 1"],
)
def test_a_malformed_quota_is_left_out_and_the_source_says_so(tmp_path: Path, text: str) -> None:
    found = budget(plant(tmp_path, linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": text})))

    assert found.workers == 64
    assert "; ignored malformed /sys/fs/cgroup/cpu.max (" in found.source


def test_an_unreadable_quota_is_left_out_and_the_source_says_so(tmp_path: Path) -> None:
    plant(tmp_path, linux("0::/", CGROUP2))
    (tmp_path / "sys/fs/cgroup/cpu.max").mkdir(parents=True)

    found = budget(tmp_path)

    assert found.workers == 64
    assert "; ignored unreadable /sys/fs/cgroup/cpu.max (IsADirectoryError)" in found.source


def test_a_malformed_quota_does_not_hide_a_sound_one_above_it(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "200000 100000", "sys/fs/cgroup/a/cpu.max": "broken"}

    found = budget(plant(tmp_path, linux("0::/a", CGROUP2, **files)))

    assert found.workers == 2
    assert "ignored malformed /sys/fs/cgroup/a/cpu.max ('broken')" in found.source


# --- polling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "quota", "expected"),
    [
        (2, "max 100000", True),
        (1, "max 100000", False),
        (2, "200000 100000", True),
        (2, "150000 100000", False),
        (64, "800000 100000", False),
    ],
)
def test_processes_poll_where_no_quota_takes_it_from_their_work(
    tmp_path: Path, cpus: int, quota: str, expected: bool
) -> None:
    files = linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": quota})
    assert may_poll(root=plant(tmp_path, files), cpus=cpus) is expected


# --- affinity and rounding ------------------------------------------------------------------------


def test_affinity_below_the_quota_wins(tmp_path: Path) -> None:
    files = linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": "800000 100000"})

    found = budget(plant(tmp_path, files), affinity=3)

    assert (found.workers, found.cpus) == (3, 3.0)
    assert found.source == "3 CPUs (scheduler affinity; host has 64)"


@pytest.mark.parametrize(
    ("quota", "servers", "workers"),
    [(20, 1, 1), (100, 1, 1), (150, 1, 1), (199, 1, 1), (250, 1, 2), (350, 2, 1), (400, 8, 1)],
)
def test_a_fraction_is_left_to_the_event_loop_and_there_is_always_one_worker(
    tmp_path: Path, quota: int, servers: int, workers: int
) -> None:
    files = linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": f"{quota}000 100000"})

    found = budget(plant(tmp_path, files), environ={"WEB_CONCURRENCY": str(servers)})

    assert found.workers == workers
    assert found.server_processes == servers


def test_this_machine_gives_what_its_scheduler_gives() -> None:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    found = cpu_budget(environ={}, argv=["app.py"])

    assert 1 <= found.workers <= (allowed or 1)
    assert found.host_cpus == (os.cpu_count() or 1)


def test_one_worker_where_the_system_cannot_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: None)

    assert cpu_budget(environ={}, argv=[]).workers == 1


def test_every_cpu_counts_where_the_system_knows_no_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "process_cpu_count", raising=False)

    found = cpu_budget(root=tmp_path, environ={}, argv=[], host_cpus=12)

    assert found.describe() == "12 workers: 12 CPUs (no limit set; host has 12)"


@pytest.mark.parametrize(("answer", "workers"), [(5, 5), (None, 64)])
def test_the_process_cpu_count_of_newer_pythons_is_honored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: int | None, workers: int
) -> None:
    monkeypatch.setattr(os, "process_cpu_count", lambda: answer, raising=False)

    assert budget(tmp_path).workers == workers


# --- the server processes -------------------------------------------------------------------------

COMMAND_LINES = [
    # command line, environment, server processes, how the source names it
    ("uvicorn app:app", {}, 1, ""),
    ("/venv/bin/uvicorn app:app --workers 2", {}, 2, "--workers 2"),
    ("uvicorn app:app --workers=4", {}, 4, "--workers 4"),
    ("uvicorn app:app --workers 4 --workers 2", {}, 2, "--workers 2"),
    ("/lib/uvicorn/__main__.py app:app --workers 2", {}, 2, "--workers 2"),
    ("uvicorn.exe app:app --workers 2", {}, 2, "--workers 2"),
    ("uvicorn app:app", {"WEB_CONCURRENCY": "3"}, 3, "WEB_CONCURRENCY=3"),
    ("uvicorn app:app --workers 2", {"WEB_CONCURRENCY": "8"}, 2, "--workers 2"),
    ("uvicorn app:app --workers 1", {"WEB_CONCURRENCY": "8"}, 1, ""),
    ("uvicorn app:app", {"UVICORN_WORKERS": "2", "WEB_CONCURRENCY": "8"}, 2, "UVICORN_WORKERS=2"),
    ("uvicorn app:app", {"WEB_CONCURRENCY": ""}, 1, ""),
    ("fastapi run --workers 2 app.py", {"WEB_CONCURRENCY": "8"}, 2, "--workers 2"),
    ("gunicorn -w 4 -k uvicorn_worker.UvicornWorker app:app", {}, 4, "--workers 4"),
    ("gunicorn -w4 app:app", {}, 4, "--workers 4"),
    ("gunicorn -w=4 app:app", {}, 4, "--workers 4"),
    ("gunicorn --workers 4 app:app", {"GUNICORN_CMD_ARGS": "-w 8"}, 4, "--workers 4"),
    ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "--name 'my shop' -w 8"}, 8, "--workers 8"),
    ("gunicorn app:app", {"WEB_CONCURRENCY": "3"}, 3, "WEB_CONCURRENCY=3"),
    ("hypercorn -w 2 app:app", {}, 2, "--workers 2"),
    ("hypercorn app:app", {"WEB_CONCURRENCY": "8"}, 1, ""),
    ("granian --workers 2 app:app", {}, 2, "--workers 2"),
    ("granian app:app", {"GRANIAN_WORKERS": "2", "WEB_CONCURRENCY": "8"}, 2, "GRANIAN_WORKERS=2"),
    ("app.py", {"WEB_CONCURRENCY": "2"}, 2, "WEB_CONCURRENCY=2"),
    ("app.py --workers 4 -w 4", {}, 1, ""),
    ("", {"WEB_CONCURRENCY": "2"}, 2, "WEB_CONCURRENCY=2"),
]


@pytest.mark.parametrize(("line", "environ", "servers", "named"), COMMAND_LINES)
def test_the_cpus_are_divided_by_the_server_processes(
    tmp_path: Path, line: str, environ: Mapping[str, str], servers: int, named: str
) -> None:
    found = budget(tmp_path, argv=line.split(), environ=environ)

    assert found.server_processes == servers
    assert found.workers == 64 // servers
    division = f", divided by {servers} server processes ({named})" if named else ""
    assert found.source == f"64 CPUs (no limit set; host has 64){division}"


@pytest.mark.parametrize(
    ("line", "environ", "ignored"),
    [
        ("uvicorn app:app", {"WEB_CONCURRENCY": "two"}, "WEB_CONCURRENCY='two'"),
        ("uvicorn app:app", {"WEB_CONCURRENCY": "0"}, "WEB_CONCURRENCY='0'"),
        ("uvicorn app:app", {"WEB_CONCURRENCY": "9" * 5000}, "WEB_CONCURRENCY='999"),
        ("gunicorn app:app -w -3", {}, "--workers '-3'"),
        ("uvicorn app:app --workers", {}, "--workers ''"),
        ("gunicorn app:app", {"GUNICORN_CMD_ARGS": "-w '4"}, "malformed GUNICORN_CMD_ARGS"),
    ],
)
def test_a_malformed_number_of_servers_is_left_out_and_the_source_says_so(
    tmp_path: Path, line: str, environ: Mapping[str, str], ignored: str
) -> None:
    found = budget(tmp_path, argv=line.split(), environ=environ)

    assert found.workers == 64
    assert f"; ignored {ignored}" in found.source


def server_configuration(package: str, **values: object) -> object:
    return type("Config", (), {"__module__": f"{package}.config", **values})()


@pytest.mark.parametrize(
    ("config", "servers"),
    [
        (server_configuration("uvicorn", workers=4, should_reload=False), 4),
        (server_configuration("uvicorn", workers=4, should_reload=True), 1),
        (server_configuration("hypercorn", workers=2), 2),
        (server_configuration("hypercorn", workers=0), 1),
        (server_configuration("uvicorn", workers=None), 8),
        (server_configuration("somebody", workers=4), 8),
        (None, 8),
    ],
)
def test_the_configuration_that_a_server_hands_to_its_processes_is_believed_first(
    tmp_path: Path, config: object, servers: int
) -> None:
    process = multiprocessing.Process(kwargs={"config": config})

    found = budget(tmp_path, argv=["uvicorn", "--workers", "8"], process=process)

    assert found.server_processes == servers


def test_a_process_without_multiprocessing_has_no_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delitem(sys.modules, "multiprocessing.process")

    assert budget(tmp_path).server_processes == 1


def test_the_description_is_one_readable_line(tmp_path: Path) -> None:
    files = linux("0::/", CGROUP2, **{"sys/fs/cgroup/cpu.max": "200000 100000"})

    found = budget(plant(tmp_path, files), argv=["uvicorn", "app:app", "--workers", "2"])

    assert found.describe() == (
        "1 worker: 2 CPUs (cgroup v2 quota 2.00 at /sys/fs/cgroup/cpu.max; host has 64), "
        "divided by 2 server processes (--workers 2)"
    )


def test_sizing_is_cheap_to_import() -> None:
    heavy = ["asyncio", "logging", "multiprocessing", "subprocess", "socket", "typing_extensions"]
    code = f"import sys, lifepool._host.cpus; print([m for m in {heavy} if m in sys.modules])"

    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    assert done.stdout.strip() == "[]"


# --- real servers ---------------------------------------------------------------------------------

APP = """
import os

from lifepool._host.cpus import cpu_budget

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    answer = f"BUDGET {cpu_budget(host_cpus=8, affinity=8).server_processes}\\n"
    os.write(1, answer.encode())  # whole, beside the other process's
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
"""
SCRIPT = """
import uvicorn

if __name__ == "__main__":
    uvicorn.run("app:app", port=0, workers=2)
"""
UVICORN = ["-m", "uvicorn", "app:app", "--port", "0"]
SERVERS: list[Any] = [
    pytest.param("uvicorn", [*UVICORN, "--workers", "2"], {}, id="uvicorn --workers"),
    pytest.param("uvicorn", UVICORN, {"WEB_CONCURRENCY": "2"}, id="uvicorn, WEB_CONCURRENCY"),
    pytest.param("uvicorn", ["script.py"], {}, id="uvicorn.run(workers=2)"),
    pytest.param(
        "hypercorn",
        ["-m", "hypercorn", "-w", "2", "-b", "127.0.0.1:0", "app:app"],
        {},
        id="hypercorn",
    ),
]


@pytest.mark.parametrize(("package", "arguments", "environ"), SERVERS)
def test_both_processes_of_a_real_server_know_that_they_are_two(
    tmp_path: Path, package: str, arguments: list[str], environ: Mapping[str, str]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    plant(tmp_path, {"app.py": APP, "script.py": SCRIPT})

    assert ask_server(tmp_path, arguments, environ) == ["BUDGET 2", "BUDGET 2"]


def ask_server(folder: Path, arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """Run a server until both of its processes have answered, then stop it as an operator would."""
    path = os.pathsep.join([str(folder), *sys.path])
    inherited = {k: v for k, v in os.environ.items() if k != "WEB_CONCURRENCY"}
    with subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as server:
        # No answer: the whole group goes, the pipe closes and the test fails.
        guard = threading.Timer(15, os.killpg, (server.pid, signal.SIGKILL))
        guard.start()
        assert server.stdout is not None
        answers = []
        for line in server.stdout:
            if line.startswith("BUDGET"):
                answers.append(line.strip())
            if len(answers) == 2:
                break
        server.terminate()
        server.wait(timeout=30)
        guard.cancel()
        guard.join()
    return answers
