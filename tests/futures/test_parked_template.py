"""The template of an executor that was shut down waits a while for the next one like it, and never longer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

import lifepool
from lifepool.backends.local.template import client
from lifepool.backends.local.template.client import Template
from lifepool.backends.local.template.parking import place
from lifepool.futures import ProcessPoolExecutor, TaskNotPicklable
from tests.engine.gates import PATIENCE_S
from tests.futures.helpers import ROOT, value
from tests.gone import still_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace no parked template that is only slow to answer."""
    monkeypatch.setattr(client, "ANSWER_S", PATIENCE_S)


def template_of_an_executor() -> int:
    """Return the process that the worker of a new executor was forked from."""
    with ProcessPoolExecutor(1) as executor:
        template: int = value(executor.submit(os.getppid))
        return template


def start_daemon() -> int:
    """Start a process that leaves the worker's group."""
    command = (
        "import os, signal\nif os.fork() == 0:\n    os.setsid()\n    print(os.getpid(), flush=True)\n    signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        return int(process.stdout.readline())


#: Of a script: what ``template_of_an_executor`` does.
RUN = "def run():\n    with ProcessPoolExecutor(1) as executor:\n        return executor.submit(os.getppid).result()\n"

NAMES: list[str] = []


def add_name(name: str) -> None:
    NAMES.append(name)


def names() -> list[str]:
    return NAMES


PATIENT = f"from lifepool.backends.local.template import client\nclient.ANSWER_S = {PATIENCE_S}\n"


def run_script(tmp_path: Path, body: str) -> list[str]:
    script = tmp_path / "script.py"
    script.write_text(f"import os, sys\nfrom lifepool.futures import ProcessPoolExecutor\n{PATIENT}{body}")
    command = [sys.executable, "-W", "error", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


# -- who gets it -------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_the_next_executor_gets_the_template_of_the_last_one() -> None:
    assert template_of_an_executor() == template_of_an_executor()


def test_two_executors_at_a_time_have_templates_of_their_own() -> None:
    with ProcessPoolExecutor(1) as one, ProcessPoolExecutor(1) as other:
        assert value(one.submit(os.getppid)) != value(other.submit(os.getppid))


@pytest.mark.usefixtures("patient")
def test_each_executor_has_its_own_initializer_in_a_template_that_was_parked() -> None:
    with ProcessPoolExecutor(1, initializer=add_name, initargs=("one",)) as executor:
        first = value(executor.submit(os.getppid)), value(executor.submit(names))
    with ProcessPoolExecutor(1, initializer=add_name, initargs=("other",)) as executor:
        second = value(executor.submit(os.getppid)), value(executor.submit(names))
    assert (first[1], second[1]) == (["one"], ["other"])
    assert first[0] == second[0]


def test_an_environment_that_has_changed_needs_another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    before = template_of_an_executor()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert template_of_an_executor() != before


def test_modules_to_preload_that_have_changed_need_another_template(monkeypatch: pytest.MonkeyPatch) -> None:
    before = template_of_an_executor()
    monkeypatch.setenv("LIFEPOOL_PRELOAD", "colorsys")
    assert template_of_an_executor() != before


def test_another_folder_needs_another_template(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = template_of_an_executor()
    monkeypatch.chdir(tmp_path)
    assert template_of_an_executor() != before


@pytest.mark.usefixtures("patient")
def test_a_module_that_was_edited_is_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    module = tmp_path / "edited_between_executors.py"
    module.write_text("def answer(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    edited = importlib.import_module("edited_between_executors")
    monkeypatch.delitem(sys.modules, "edited_between_executors")
    monkeypatch.setitem(sys.modules, "edited_between_executors", edited)
    first = template_of_an_executor()
    assert template_of_an_executor() == first
    module.write_text("def answer(): return 2\n")
    os.utime(module, ns=(1, 1))
    with ProcessPoolExecutor(1) as executor:
        assert value(executor.submit(edited.answer)) == 2
        assert value(executor.submit(os.getppid)) != first


def test_another_umask_needs_another_template() -> None:
    before = template_of_an_executor()
    umask = os.umask(0o027)
    try:
        assert template_of_an_executor() != before
    finally:
        os.umask(umask)


def test_a_template_that_has_adopted_a_daemon_of_a_task_ends_with_its_executor() -> None:
    with ProcessPoolExecutor(1) as executor:
        template = value(executor.submit(os.getppid))
        daemon = psutil.Process(value(executor.submit(start_daemon)))
    assert not psutil.pid_exists(template)
    daemon.kill()  # it was meant to stay


def test_a_plain_pool_parks_nothing() -> None:
    async def template() -> int:
        async with lifepool.Pool(max_workers=1) as pool:
            return await pool.run(os.getppid)

    assert not psutil.pid_exists(asyncio.run(template()))


def test_workers_write_to_the_standard_output_of_their_time(tmp_path: Path) -> None:
    other = tmp_path / "other"
    printed = run_script(
        tmp_path,
        "def write(text):\n    os.write(1, text)\n    return os.getppid()\n"
        "def run(text):\n    with ProcessPoolExecutor(1) as executor:\n"
        "        return executor.submit(write, text).result()\n"
        "if __name__ == '__main__':\n"
        "    before = run(b'one\\n')\n"
        f"    os.dup2(os.open({str(other)!r}, os.O_WRONLY | os.O_CREAT), 1)\n"
        "    assert run(b'two\\n') == before\n",
    )
    assert (printed, other.read_text()) == (["one"], "two\n")


# -- how long it waits -------------------------------------------------------------------------------------------------


def test_a_template_that_nobody_takes_ends_by_itself_and_the_next_executor_starts_one(tmp_path: Path) -> None:
    # The template imports the script, and so takes its word for how long it has to wait.
    printed = run_script(
        tmp_path,
        "from lifepool.backends.local.template import forking, parking\nforking.PARKED_S = 0.01\n"
        f"{RUN}"
        "if __name__ == '__main__':\n"
        "    before = run()\n"
        "    parking.place._template._process.wait(60)\n"
        "    print(run() != before)\n",
    )
    assert printed == ["True"]


def test_a_template_that_hangs_is_killed_and_the_next_executor_starts_one() -> None:
    before = template_of_an_executor()
    os.kill(before, signal.SIGSTOP)
    assert template_of_an_executor() != before
    assert not psutil.pid_exists(before)


def test_a_template_that_was_killed_is_replaced() -> None:
    before = template_of_an_executor()
    os.kill(before, signal.SIGKILL)
    assert template_of_an_executor() != before


def test_nothing_is_left_when_the_program_ends(tmp_path: Path) -> None:
    (pid,) = run_script(
        tmp_path,
        "if __name__ == '__main__':\n    with ProcessPoolExecutor(1) as executor:\n"
        "        print(executor.submit(os.getppid).result())\n",
    )
    assert not psutil.pid_exists(int(pid))


def test_nothing_is_left_when_the_program_is_killed() -> None:
    script = (
        "import os, signal\nfrom lifepool.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1) as executor:\n    print(executor.submit(os.getppid).result(), flush=True)\n"
        "print('parked', flush=True)\nsignal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        template = psutil.Process(int(process.stdout.readline()))
        assert process.stdout.readline() == b"parked\n"
        process.kill()
    assert not still_there([template], within=PATIENCE_S)


def test_a_forked_child_leaves_the_template_to_its_parent_and_starts_its_own(tmp_path: Path) -> None:
    printed = run_script(
        tmp_path,
        "import warnings\nwarnings.simplefilter('ignore')\n"
        f"{RUN}"
        "if __name__ == '__main__':\n"
        "    before = run()\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        code = 0 if run() != before else 3\n"
        "        from lifepool.backends.local.template.parking import place\n"
        "        place.end()\n"
        "        os._exit(code)\n"
        "    print(os.waitpid(child, 0)[1], run() == before)\n",
    )
    assert printed == ["0 True"]


def test_a_leak_check_can_end_it_at_once() -> None:
    template = template_of_an_executor()
    place.end()
    assert not psutil.pid_exists(template)


# -- the first one -----------------------------------------------------------------------------------------------------


def test_the_templates_process_starts_before_the_pool_does_and_is_the_pools() -> None:
    with ProcessPoolExecutor(1) as executor, recording(Template, "begin") as begun:
        template = value(executor.submit(os.getppid))
    assert [each.pid for each in begun] == [template]


def test_a_template_that_has_begun_ends_if_its_pool_does_not_start() -> None:
    with (
        ProcessPoolExecutor(1, initializer=lambda: None) as executor,
        recording(Template, "begin") as begun,
        pytest.raises(TaskNotPicklable),
    ):
        value(executor.submit(os.getppid))
    place.end()
    assert [each.pid for each in begun] == [None]


def test_one_that_has_begun_and_gets_no_instructions_ends_by_itself() -> None:
    template = Template((), name="idle")
    with patched_program("from lifepool.backends.local.template import program; program.PARKED_S = 0.01"):
        template.begin()
    assert template._process is not None
    assert template._process.wait(PATIENCE_S) == -signal.SIGKILL  # as all end: with their groups
    template.stop()


@contextlib.contextmanager
def recording(cls: type[Any], name: str) -> Iterator[list[Any]]:
    """Note the objects whose method is called."""
    called: list[Any] = []
    method = getattr(cls, name)

    def call(self: Any) -> Any:
        called.append(self)
        return method(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cls, name, call)
        yield called


@contextlib.contextmanager
def patched_program(line: str) -> Iterator[None]:
    """Have templates that start meanwhile run this line first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "_PROGRAM", client._PROGRAM.replace("from lifepool", f"{line}; from lifepool", 1))
        yield
