"""Workers live in the same world as the code that calls them: arguments, folder, environment, signals, chance."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from tests.engine.scripts import BOUND_S, ROOT, environment, nothing_left, run_script

if TYPE_CHECKING:
    from pathlib import Path

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system does not tell")

PLAIN = """
    import asyncio, os, signal, sys
    from lifepool import Pool

    {module_level}

    async def main():
        async with Pool(max_workers={workers}, {options}) as pool:
            {body}

    if __name__ == "__main__":
        {before}
        asyncio.run(main())
"""


def script(
    folder: Path, *, body: str, module_level: str = "", before: str = "", options: str = "", workers: int = 1
) -> str:
    """A script with a pool; the indentation of what is put in is seen to."""
    text = textwrap.dedent(PLAIN)
    parts = {"module_level": (module_level, 0), "body": (body, 8), "before": (before or "pass", 4)}
    filled = {
        name: textwrap.indent(textwrap.dedent(code).strip(), " " * by).lstrip() for name, (code, by) in parts.items()
    }
    path = folder / "script.py"
    path.write_text(text.format(options=options, workers=workers, **filled))
    return str(path)


# --- arguments, folder, environment ---------------------------------------------------------------------------------


def test_a_script_that_reads_its_arguments_when_it_is_imported_has_them_in_workers(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            import argparse
            parser = argparse.ArgumentParser()
            parser.add_argument("--factor", type=int, default=1)
            FACTOR = parser.parse_args().factor
            def scaled(x): return x * FACTOR
        """,
        body="print(await pool.run(scaled, 10))",
    )
    done = run_script(path, "--factor", "7")
    assert (done.out, done.err) == ("70\n", "")


@pytest.mark.parametrize(
    "leaving", ["", "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()"]
)
def test_a_script_that_takes_its_arguments_away_is_imported_with_them(tmp_path: Path, leaving: str) -> None:
    path = script(
        tmp_path,
        module_level=f"""
            FACTOR = int(sys.argv.pop(1))
            def scaled(x): return x * FACTOR, sys.argv[1:]
            {leaving}
        """,
        before="sys.argv[1:] = ['changed']",
        body="print(await pool.run(scaled, 10))",
    )
    done = run_script(path, "7", "b")
    assert done.out == "(70, ['changed'])\n", done.err
    assert ("leaves a thread" in done.err) == bool(leaving)


def test_a_preloaded_module_has_the_arguments_and_the_search_path_of_the_program(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "wanted.py").write_text("import sys\nSEEN = sys.argv[1:]\ndef seen(): return SEEN\n")
    path = script(
        tmp_path,
        module_level="sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'elsewhere'))\nimport wanted",
        options="preload=['wanted']",
        body="print(await pool.run(wanted.seen))",
    )
    assert run_script(path, "a", "b").out == "['a', 'b']\n"


def test_workers_have_the_folder_and_the_environment_of_the_moment_they_are_started(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            os.environ["GONE"] = "here"
            def seen(): return os.getcwd(), os.environ.get("ADDED"), os.environ.get("GONE"), sys.path[0]
        """,
        before="os.environ['ADDED'] = 'before'; os.chdir('/')",
        options="max_tasks_per_worker=1",
        body="""
            print(*await pool.run(seen))
            os.environ["ADDED"] = "after"
            del os.environ["GONE"]
            os.chdir(os.path.dirname(__file__))
            sys.path.insert(0, "/added")
            await pool.recycle()
            print(*await pool.run(seen))
        """,
    )
    done = run_script(path)
    assert done.out.splitlines() == [f"/ before here {tmp_path}", f"{tmp_path} after None /added"]


STARTING = """
    import multiprocessing
    if {top}: multiprocessing.set_start_method("fork")
    def child(answers): answers.put(5)
    def method():
        answers = multiprocessing.Queue()
        process = multiprocessing.Process(target=child, args=(answers,))
        process.start()
        assert answers.get(timeout=20) == 5
        process.join()
        return multiprocessing.get_start_method()
"""


@pytest.mark.parametrize(
    ("top", "before", "expected"),
    [
        (False, "", multiprocessing.get_context().get_start_method()),
        (False, "multiprocessing.set_start_method('spawn')", "spawn"),
        (False, "multiprocessing.set_start_method('forkserver')", "forkserver"),
        (True, "", "fork"),
    ],
)
def test_tasks_start_processes_as_the_server_does(tmp_path: Path, *, top: bool, before: str, expected: str) -> None:
    path = script(tmp_path, module_level=STARTING.format(top=top), before=before, body="print(await pool.run(method))")
    done = run_script(path)
    assert (done.out, done.err) == (f"{expected}\n", "")


def test_a_module_that_sets_the_start_method_is_imported_by_workers_whenever_they_need_it(tmp_path: Path) -> None:
    (tmp_path / "setting.py").write_text(
        "import multiprocessing\n"
        "multiprocessing.set_start_method('spawn')\n"
        "def method(): return multiprocessing.get_start_method()\n"
    )
    path = script(
        tmp_path,
        body="""
            await pool.run(abs, 1)
            import setting
            print(await pool.run(setting.method))
            await pool.recycle()
            print(await pool.run(setting.method))
        """,
    )
    done = run_script(path)
    assert (done.out, done.err) == ("spawn\nspawn\n", "")


def test_where_a_preloaded_module_lets_others_be_found_workers_look_too(tmp_path: Path) -> None:
    (tmp_path / "vendored").mkdir()
    (tmp_path / "vendored" / "late.py").write_text("VALUE = 5\n")
    (tmp_path / "vendor.py").write_text(
        "import os, sys\n"
        "sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'vendored'))\n"
        "def late():\n    import late\n    return late.VALUE\n"
    )
    path = script(
        tmp_path,
        module_level="def ask():\n    import vendor\n    return vendor.late()",
        options="preload=['vendor']",
        body="print(await pool.run(ask))",
    )
    assert run_script(path).out == "5\n"


def test_what_an_import_that_is_undone_has_changed_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "undone.py").write_text(
        "import os\n"
        "if 'UNDONE' in os.environ: raise LookupError('the environment was kept')\n"
        "if os.getcwd() != os.path.dirname(__file__): raise LookupError('the folder was kept')\n"
        "os.environ['UNDONE'] = 'yes'\n"
        "os.chdir('/')\n"
        "os.umask(0o007)\n"
        "kept = os.pipe()\n"
    )
    path = script(
        tmp_path,
        module_level="def ask():\n    import undone\n    return os.umask(0o007) == 0o007",
        before="os.chdir(os.path.dirname(__file__))",
        options="preload=['undone', 'colorsys']",
        body="print(await pool.run(ask))",
    )
    assert run_script(path).out == "True\n"


def test_options_of_the_interpreter_hold_in_workers(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            def seen(): return sys.flags.optimize, sys.warnoptions, sys._xoptions.get("mine"), sys.flags.utf8_mode
        """,
        body="print(*await pool.run(seen))",
    )
    done = run_script("-O", "-W", "error::UserWarning", "-X", "mine=yes", "-X", "utf8", path)
    assert done.out == "1 ['error::UserWarning'] yes 1\n"


def test_thousands_of_arguments_are_no_obstacle(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="COUNT = len(sys.argv)\ndef count(): return COUNT",
        body="print(await pool.run(count))",
    )
    assert run_script(path, *(f"a-rather-long-argument-{n}" for n in range(10_000))).out == "10001\n"


# --- where there is no place for a file -----------------------------------------------------------------------------


def test_a_very_long_temporary_folder_does_not_matter(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    path = script(tmp_path, module_level="print(end='')\ndef f(): return 1", body="print(await pool.run(f))")
    done = run_script(path, TMPDIR=str(long))
    assert (done.out, done.err) == ("1\n", "")
    assert list(long.iterdir()) == []


def test_without_any_temporary_folder_it_starts(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            import tempfile
            def none(*args): raise FileNotFoundError("no usable temporary directory")
            tempfile.gettempdir = tempfile.mkdtemp = tempfile.mkstemp = tempfile.TemporaryFile = tempfile.mktemp = none
            def f(): return 1
        """,
        body="print(await pool.run(f))",
    )
    done = run_script(path)
    assert (done.out, done.err) == ("1\n", "")


@linux_only
def test_a_folder_that_was_deleted_does_not_matter(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="import shutil, tempfile\ndef f(): return 1",
        before="folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)",
        body="print(await pool.run(f))",
    )
    assert run_script(path).out == "1\n"  # (multiprocessing's own tracker complains, on some Pythons)


def test_the_socket_of_a_template_has_no_name(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="import psutil",
        body="""
            mine = psutil.Process()
            names = {c.laddr for p in [mine, *mine.children(recursive=True)] for c in p.net_connections("unix")}
            print(names)
        """,
    )
    assert run_script(path).out == "{''}\n"


# --- hints that are true ----------------------------------------------------------------------------------------------


def test_what_ended_the_template_is_named_with_its_module(tmp_path: Path) -> None:
    (tmp_path / "deadly.py").write_text("import os\nos._exit(4)\n")
    done = run_script(script(tmp_path, options="preload=['deadly']", body="pass"))
    assert "ended with exit code 4 while it imported 'deadly'" in done.err
    assert "look at what importing 'deadly' does" in done.err


def test_an_interpreter_that_is_gone_is_named(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        before="import multiprocessing; multiprocessing.set_executable('/nowhere/python')",
        body="pass",
    )
    done = run_script(path)
    assert "/nowhere/python" in done.err
    assert "the Python interpreter of this program is not where it was" in done.err


def test_a_fork_that_fails_fails_one_start_and_neither_template_nor_workers(tmp_path: Path) -> None:
    (tmp_path / "scarce.py").write_text(
        "import errno, os, pathlib\n"
        "real, flag = os.fork, pathlib.Path(__file__).parent / 'scarce'\n"
        "def fork():\n"
        "    if flag.exists():\n"
        "        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
        "    return real()\n"
        "os.fork = fork\n"
    )
    path = script(
        tmp_path,
        module_level="from pathlib import Path\nfrom lifepool import WorkerStartError",
        options="preload=['scarce']",
        body="""
            first, template = await pool.run(os.getpid), await pool.run(os.getppid)
            flag = Path(__file__).parent / "scarce"
            flag.touch()
            try:
                await pool.recycle()
            except WorkerStartError as error:
                print(error)
            print(await pool.run(os.getpid) == first)
            flag.unlink()
            os.kill(first, signal.SIGKILL)
            print(await pool.run(os.getpid, retries=3) != first, await pool.run(os.getppid) == template)
        """,
    )
    done = run_script(path)
    assert done.out.splitlines()[-2:] == ["True", "True True"], done.text
    assert "Resource temporarily unavailable" in done.out
    assert "no process or thread can be started" in done.out


# --- signals ----------------------------------------------------------------------------------------------------------

HANDLERS = """
    def quit(*_): os._exit(3)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(number, quit)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.alarm(10)
    if __name__ == "__main__":
        signal.alarm(0)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
"""


@pytest.mark.parametrize("leaves_a_thread", [False, True])
def test_handlers_that_a_script_sets_when_it_is_imported_lose_no_task(tmp_path: Path, leaves_a_thread: bool) -> None:
    """With the thread, each worker imports the script by itself."""
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(20,), daemon=True).start()"
    path = script(
        tmp_path,
        module_level=textwrap.dedent(HANDLERS)
        + (thread if leaves_a_thread else "")
        + textwrap.dedent("""
            def held():
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGINT)
                os.kill(os.getppid(), signal.SIGTERM)
                os.kill(os.getppid(), signal.SIGHUP)
                os.kill(os.getppid(), signal.SIGINT)
                return "done"
            def endless():
                while True: pass
        """),
        options="timeout=20",
        body="""
            import lifepool._core.policy
            from lifepool import TaskTimeout
            lifepool._core.policy.INTERRUPT_GRACE_S = 20.0  # on a busy machine it gives in late
            first = await pool.run(os.getpid)
            print(await pool.run(held))
            try:
                await pool.run(endless, timeout=0.3)
            except TaskTimeout:
                print("timeout", await pool.run(os.getpid) == first)
            template = await pool.run(os.getppid)
            os.kill(await pool.run(os.getpid), signal.SIGKILL)
            print(await pool.run(os.getppid, retries=1) == template)
        """,
    )
    done = run_script(path)
    assert done.out.splitlines() == ["done", "timeout True", "True"], done.err


def test_an_alarm_that_an_import_has_set_does_not_end_template_or_worker(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            if __name__ != "__main__":
                signal.setitimer(signal.ITIMER_REAL, 1000)
            def left(): return signal.getitimer(signal.ITIMER_REAL)[0]
        """,
        body="print(await pool.run(left))",
    )
    assert run_script(path).out == "0.0\n"


def test_signals_that_the_server_has_blocked_still_interrupt_a_task(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="def endless():\n    while True: pass",
        before="signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGCHLD, signal.SIGTERM})",
        body="""
            import lifepool._core.policy
            from lifepool import TaskTimeout
            lifepool._core.policy.INTERRUPT_GRACE_S = 20.0  # on a busy machine it gives in late
            first = await pool.run(os.getpid)
            try:
                await pool.run(endless, timeout=0.2)
            except TaskTimeout:
                print(await pool.run(os.getpid) == first)
        """,
    )
    assert run_script(path).out == "True\n"


def test_exit_handlers_of_a_script_run_in_the_program_alone(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="import atexit\natexit.register(lambda: print('bye', __name__, flush=True))\ndef f(): return 1",
        body="print(await pool.run(f), flush=True)",
    )
    assert run_script(path).out == "1\nbye __main__\n"


# --- chance -----------------------------------------------------------------------------------------------------------


def test_workers_do_not_draw_the_same_numbers(tmp_path: Path) -> None:
    (tmp_path / "drawing.py").write_text(
        "import random, numpy.random\ndef draw(): return random.random(), numpy.random.rand()\n"
    )
    path = script(
        tmp_path,
        module_level="from drawing import draw\nos.environ['OPENBLAS_NUM_THREADS'] = '1'",
        options="preload=['numpy.random', 'drawing'], max_tasks_per_worker=1",
        body="""
            drawn = [await pool.run(draw) for _ in range(4)]
            print(len({a for a, _ in drawn}), len({b for _, b in drawn}))
        """,
    )
    done = run_script(path)
    assert done.out == "4 4\n", done.err


def test_a_seed_that_a_module_sets_is_not_that_of_every_worker(tmp_path: Path) -> None:
    """Also if each worker imports the module by itself, because it leaves a thread."""
    path = script(
        tmp_path,
        module_level="""
            import random, threading
            import numpy.random
            random.seed(7)
            numpy.random.seed(7)
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            def draw(): return random.random(), numpy.random.rand()
        """,
        options="max_tasks_per_worker=1",
        body="""
            drawn = [await pool.run(draw) for _ in range(3)]
            print(len({a for a, _ in drawn}), len({b for _, b in drawn}))
        """,
    )
    done = run_script(path)
    assert done.out == "3 3\n", done.err
    assert "leaves a thread" in done.err


def test_a_seed_that_an_initializer_sets_stays(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            import random
            import numpy.random
            def seed(): random.seed(7); numpy.random.seed(7)
            def draw(): return random.random(), numpy.random.rand()
        """,
        options="preload=['numpy.random'], initializer=seed, max_tasks_per_worker=1",
        body="""
            drawn = {await pool.run(draw) for _ in range(3)}
            seed()
            print(drawn == {draw()})
        """,
    )
    assert run_script(path).out == "True\n"


# --- a server that ends ---------------------------------------------------------------------------------------------


def test_a_group_sigterm_while_the_main_script_has_its_own_handler_finishes_what_runs(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        module_level="""
            ended = None
            def stop(*_):
                if ended is None: os._exit(9)
                ended.set()
            signal.signal(signal.SIGTERM, stop)
            def hold(folder):
                print("running", flush=True)
                while not os.path.exists(os.path.join(folder, "go")): signal.sigtimedwait([], 0.01)
                return "finished"
        """,
        body="""
            global ended
            import threading
            ended = threading.Event()
            handle = pool.submit(hold, os.path.dirname(__file__))
            await asyncio.to_thread(ended.wait)
            print("terminated", flush=True)
            print(await handle, flush=True)
        """,
    )
    env = environment()
    with subprocess.Popen(
        [sys.executable, path], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            import psutil

            for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
                if "resource_tracker" not in " ".join(each.cmdline()):
                    os.kill(each.pid, signal.SIGTERM)
            assert process.stdout.readline() == "terminated\n"
            (tmp_path / "go").touch()
            out, _ = process.communicate(timeout=BOUND_S)
            assert out == "finished\n"
        finally:
            process.kill()
            assert nothing_left(env)
