"""`__main__`: what a script defines works in workers, and a script without the guard does no harm."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.engine.scripts import SCRIPTS, run_script

if TYPE_CHECKING:
    from pathlib import Path

GUARD = 'if __name__ == "__main__":'


@pytest.mark.parametrize(
    ("arguments", "cwd"),
    [
        ([str(SCRIPTS / "guarded.py")], SCRIPTS),
        (["guarded.py"], SCRIPTS),
        (["./guarded.py", "--with", "arguments"], SCRIPTS),
        (["-m", "tests.scripts.guarded"], SCRIPTS.parents[1]),
    ],
)
def test_functions_and_classes_of_a_script_work_in_workers(arguments: list[str], cwd: Path) -> None:
    done = run_script(*arguments, cwd=cwd)
    assert done.err == ""
    assert done.code == 0
    assert done.out.splitlines()[1:] == [
        "Point(x=2, y=1) __mp_main__",
        "Refused from a worker",
    ]
    assert done.left_nothing


def test_a_program_on_the_command_line_can_use_what_can_be_imported() -> None:
    program = (
        "import asyncio, math\n"
        "from lifepool import Pool\n"
        "async def main():\n"
        "    async with Pool(max_workers=1) as pool:\n"
        "        print(await pool.run(math.factorial, 5))\n"
        "asyncio.run(main())\n"
    )
    done = run_script("-c", program)
    assert (done.code, done.out, done.err) == (0, "120\n", "")
    assert done.left_nothing


@pytest.mark.parametrize("script", ["unguarded_run.py", "unguarded_and_swallowing.py", "unguarded_processes.py"])
def test_a_script_without_the_guard_gets_one_error_that_names_it(script: str, tmp_path: Path) -> None:
    log = tmp_path / "imports"
    done = run_script(str(SCRIPTS / script), IMPORT_LOG=str(log))
    assert done.code == 1
    assert done.out == ""
    assert done.text.count(GUARD) == 1
    assert done.err.rstrip().splitlines()[-1].endswith(f"'{GUARD}')")
    assert len(log.read_text().split()) <= 1 + 1 + 2, "itself, the template, two workers"
    assert done.left_nothing


def test_an_unguarded_uvicorn_run_gets_the_error_and_no_second_server(tmp_path: Path) -> None:
    log = tmp_path / "imports"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    done = run_script(str(SCRIPTS / "unguarded_uvicorn.py"), IMPORT_LOG=str(log), PORT=str(port))
    assert done.code not in (0, None)
    assert done.text.count(GUARD) == 1
    assert done.text.count("Started server process") == 1  # that of the script itself
    assert "running on" not in done.text
    assert "Address already in use" not in done.text
    assert len(log.read_text().split()) <= 1 + 1 + 2
    assert done.left_nothing


def test_a_script_that_can_not_be_imported_again_tells_why(tmp_path: Path) -> None:
    script = tmp_path / "fragile.py"
    script.write_text(
        "import asyncio, os\n"
        "from lifepool import Pool\n"
        "if __name__ != '__main__':\n"
        "    raise LookupError('only as a script')\n"
        "async def main():\n"
        "    async with Pool(max_workers=2): pass\n"
        "asyncio.run(main())\n"
    )
    done = run_script(str(script))
    assert done.code == 1
    assert done.err.count("LookupError: only as a script") == 1
    assert "fragile.py" in done.err
    assert done.left_nothing


def test_what_a_script_prints_when_it_is_imported_is_not_lost(tmp_path: Path) -> None:
    script = tmp_path / "talking.py"
    script.write_text(
        "import asyncio\n"
        "from lifepool import Pool\n"
        "print('imported as', __name__, flush=True)\n"
        "async def main():\n"
        "    async with Pool(max_workers=1) as pool:\n"
        "        print(await pool.run(abs, -1))\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run_script(str(script))
    assert done.out.splitlines() == ["imported as __main__", "imported as __mp_main__", "1"]
    assert done.code == 0


def test_the_command_line_of_uvicorn_is_not_imported_by_workers(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(
        "import os, sys\n"
        "from lifepool import Pool\n"
        "def main_of_the_worker():\n"
        "    return getattr(sys.modules['__main__'], '__file__', None)\n"
        "pool = Pool(max_workers=1)\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    async with pool:\n"
        "        print(await pool.run(main_of_the_worker), flush=True)\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'enough seen'})\n"
    )
    done = run_script("-m", "uvicorn", "served:app", cwd=tmp_path)
    assert "uvicorn" not in done.out
    assert "enough seen" in done.err
    assert done.left_nothing


def test_the_processes_of_the_tests_themselves_are_clean() -> None:
    assert "LIFEPOOL_TEST_MARK" not in os.environ
