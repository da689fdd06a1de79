"""How a program can be started, and whether workers find what it defines; what can't work says why in one sentence."""

from __future__ import annotations

import stat
import subprocess
import sys
import sysconfig
import uuid
import zipfile
from pathlib import Path

import pytest

from tests.engine.scripts import BOUND_S, ROOT, environment, nothing_left, run_script

PROGRAM = """
import asyncio
from dataclasses import dataclass
from lifepool import Pool

@dataclass
class Point:
    x: int

def moved(point):
    return Point(point.x + 1)

async def main():
    async with Pool(max_workers=1) as pool:
        print(await pool.run(moved, Point(1)))
"""
GUARDED = PROGRAM + "\nif __name__ == '__main__':\n    asyncio.run(main())\n"
UNGUARDED = PROGRAM + "\nasyncio.run(main())\n"
WORKS = "Point(x=2)\n"


@pytest.mark.parametrize("name", ["program", "with-dashes.py", "with-dashes", "dotted.name.py", "ipython"])
def test_a_script_of_any_name_works(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(GUARDED)
    done = run_script(str(tmp_path / name))
    assert (done.out, done.err) == (WORKS, "")


def test_a_script_that_is_run_by_its_own_first_line_works(tmp_path: Path) -> None:
    script = tmp_path / "program"
    script.write_text(f"#!{sys.executable}\n{GUARDED}")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    env = environment()
    done = subprocess.run([str(script)], env=env, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S)
    assert (done.stdout, done.stderr) == (WORKS, "")
    assert nothing_left(env)


def test_a_script_in_the_bin_of_the_environment_works() -> None:
    script = Path(sysconfig.get_path("scripts")) / f"program-{uuid.uuid4().hex}"
    script.write_text(GUARDED)
    try:
        done = run_script(str(script))
    finally:
        script.unlink()
    assert (done.out, done.err) == (WORKS, "")


@pytest.mark.parametrize("kind", ["package", "folder", "archive"])
def test_the_main_file_of_a_package_a_folder_or_an_archive_works(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "__main__.py").write_text(GUARDED)
    if kind == "package":
        (folder / "__init__.py").write_text("")
        done = run_script("-m", "packed", cwd=tmp_path)
    elif kind == "folder":
        done = run_script("packed", cwd=tmp_path)
    else:
        with zipfile.ZipFile(tmp_path / "packed.pyz", "w") as archive:
            archive.write(folder / "__main__.py", "__main__.py")
        done = run_script("packed.pyz", cwd=tmp_path)
    assert (done.out, done.err) == (WORKS, "")


def test_the_main_file_of_a_package_without_the_guard_can_use_what_others_define(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "work.py").write_text("def double(x):\n    return 2 * x\n")
    (folder / "__main__.py").write_text(
        "import asyncio\n"
        "from lifepool import Pool\n"
        "from packed.work import double\n"
        "async def main():\n"
        "    async with Pool(max_workers=1) as pool:\n"
        "        print(await pool.run(double, 21))\n"
        "asyncio.run(main())\n"
    )
    done = run_script("-m", "packed", cwd=tmp_path)
    assert (done.out, done.err) == ("42\n", "")


def test_without_the_guard_what_it_defines_itself_needs_one(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "__main__.py").write_text(UNGUARDED)
    done = run_script("packed", cwd=tmp_path)
    assert done.code == 1
    assert "put the call under 'if __name__ == \"__main__\":'" in done.err.splitlines()[-1]
    assert done.left_nothing


def test_a_program_under_a_debugger_works(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(GUARDED)
    done = run_script("-m", "pdb", "-c", "continue", "-c", "quit", "program.py", cwd=tmp_path)
    assert WORKS in done.out, done.text


def test_a_program_under_coverage_works(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(GUARDED)
    done = run_script("-m", "coverage", "run", "--data-file", str(tmp_path / "data"), "program.py", cwd=tmp_path)
    assert done.out == WORKS, done.err


def test_a_program_run_by_runpy_works(tmp_path: Path) -> None:
    """As debugpy and other tools do."""
    (tmp_path / "program.py").write_text(GUARDED)
    (tmp_path / "tool.py").write_text("import runpy, sys\nrunpy.run_path(sys.argv[1], run_name='__main__')\n")
    done = run_script("tool.py", "program.py", cwd=tmp_path)
    assert (done.out, done.err) == (WORKS, "")


@pytest.mark.parametrize("how", ["-c", "stdin", "interpreter", "notebook", "pipe", "notebook in a script"])
def test_what_was_typed_says_in_one_sentence_that_it_belongs_in_a_module(tmp_path: Path, how: str) -> None:
    if how == "-c":
        done = run_script("-c", GUARDED)
        code, text = done.code, done.text
    elif how == "pipe":  # python <(sed ... program.py)
        env = environment()
        command = f"{sys.executable} <(cat)"
        run = subprocess.run(
            ["bash", "-c", command], input=GUARDED, env=env, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S
        )
        assert nothing_left(env)
        code, text = run.returncode, run.stdout + run.stderr
    elif how == "notebook in a script":
        (tmp_path / "kernel.py").write_text(
            "import sys, types, lifepool.pool\n"
            "main = sys.modules['__main__'] = types.ModuleType('__main__')\n"
            f"exec({GUARDED!r}, main.__dict__)\n"
        )
        done = run_script("kernel.py", cwd=tmp_path)
        code, text = done.code, done.text
    elif how == "notebook":  # what ipykernel does: cells run in a module called __main__ that has no file
        (tmp_path / "kernel.py").write_text(
            "import sys, types\n"
            "main = sys.modules['__main__'] = types.ModuleType('__main__')\n"
            f"exec({GUARDED!r}, main.__dict__)\n"
        )
        done = run_script("-m", "kernel", cwd=tmp_path)
        code, text = done.code, done.text
    else:
        env = environment()
        arguments = [sys.executable, "-i", "-q"] if how == "interpreter" else [sys.executable]
        typed = GUARDED.replace("\n\n", "\n") if how == "interpreter" else GUARDED
        typed = typed.replace("\ndef", "\n\ndef").replace("\nasync", "\n\nasync").replace("\nif", "\n\nif") + "\n"
        run = subprocess.run(arguments, input=typed, env=env, cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S)
        assert nothing_left(env)
        code, text = 1 if how == "interpreter" else run.returncode, run.stdout + run.stderr
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("lifepool.errors.")]
    assert "moved" in line
    assert "typed into a notebook, an interpreter, `python -c` or standard input" in line
    assert "put it into a module" in line
    assert "send plain data" not in text


def test_a_script_that_comes_as_standard_input_from_a_file_works(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(GUARDED)
    env = environment()
    with open(tmp_path / "program.py") as script:
        run = subprocess.run(
            [sys.executable, "/dev/stdin"], stdin=script, env=env, cwd=ROOT, capture_output=True, timeout=BOUND_S
        )
    assert (run.stdout.decode(), run.stderr.decode()) == (WORKS, "")
    assert nothing_left(env)


def test_a_script_that_runs_inside_of_another_program_says_so(tmp_path: Path) -> None:
    """As cProfile and trace do."""
    (tmp_path / "program.py").write_text(GUARDED)
    (tmp_path / "tool.py").write_text(
        "if __name__ == '__main__':\n    exec(open('program.py').read(), {'__name__': '__main__'})\n"
    )
    done = run_script("tool.py", cwd=tmp_path)
    assert done.code == 1
    assert "whose __main__ is another one: put the function into a module" in done.err.splitlines()[-1]
    assert "send plain data" not in done.text


def test_a_module_that_workers_cant_import_is_no_fault_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "once.py").write_text(
        "import os\n"
        "os.mkdir(os.environ.setdefault('ONCE', os.path.join(os.path.dirname(__file__), 'here')))\n"
        "def double(x):\n    return 2 * x\n"
    )
    (tmp_path / "program.py").write_text(
        "import asyncio\nfrom lifepool import Pool\n"
        "async def main():\n"
        "    async with Pool(max_workers=1) as pool:\n"
        "        import once\n"
        "        await pool.run(once.double, 1)\n"
        "if __name__ == '__main__':\n    asyncio.run(main())\n"
    )
    done = run_script("program.py", cwd=tmp_path)
    told = done.err.splitlines()[-1]
    assert "the worker could not rebuild it: FileExistsError" in told
    assert "the worker's traceback, which is this error's cause" in told
    assert "send plain data" not in done.text


def test_a_class_that_was_typed_says_so_too() -> None:
    program = PROGRAM.replace("pool.run(moved, ", "pool.run(repr, ") + "\nasyncio.run(main())\n"
    done = run_script("-c", program)
    assert "typed into a notebook" in done.err.splitlines()[-1]
    assert "put it into a module" in done.err.splitlines()[-1]


def test_an_initializer_that_was_typed_says_so_too() -> None:
    program = PROGRAM.replace("max_workers=1", "max_workers=1, initializer=moved") + "\nasyncio.run(main())\n"
    assert "typed into a notebook" in run_script("-c", program).err.splitlines()[-1]


def test_what_is_defined_under_the_guard_is_told_to_be_outside_of_it(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import asyncio\n"
        "from lifepool import Pool\n"
        "if __name__ == '__main__':\n"
        "    def double(x):\n"
        "        return 2 * x\n"
        "    async def main():\n"
        "        async with Pool(max_workers=1) as pool:\n"
        "            print(await pool.run(double, 21))\n"
        "    asyncio.run(main())\n"
    )
    done = run_script("program.py", cwd=tmp_path)
    assert "define what tasks use at its top level, outside of" in done.err.splitlines()[-1]


def test_an_initializer_of_a_packages_main_file_works(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (folder / "__main__.py").write_text(
        GUARDED.replace("max_workers=1", "max_workers=1, initializer=load")
        .replace("def moved", "def load():\n    global step\n    step = 1\n\ndef moved")
        .replace("point.x + 1", "point.x + step")
    )
    done = run_script("packed", cwd=tmp_path)
    assert (done.out, done.err) == (WORKS, "")
