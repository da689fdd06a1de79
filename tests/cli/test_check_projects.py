"""`lifepool check` over projects of several files: what one module imports from another is known there."""

from __future__ import annotations

import cProfile
from typing import TYPE_CHECKING

import pytest

from lifepool.cli.check.checker import check_files
from lifepool.cli.check.files import find_files
from lifepool.cli.check.rules import RULES
from tests.cli.sources import POOL, found, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.sources import Files


# --- where a pool comes from -----------------------------------------------------------------------------------------

#: Each ends with a `view.py` whose line with `lambda` sends it to a pool.
ORIGINS: dict[str, Files] = {
    "imported by name": {"pools.py": POOL, "view.py": "from pools import pool\ndef f(): pool.submit(lambda: 1)"},
    "imported under another name": {
        "pools.py": POOL,
        "view.py": "from pools import pool as p\ndef f(): p.submit(lambda: 1)",
    },
    "imported with its module": {"pools.py": POOL, "view.py": "import pools\ndef f(): pools.pool.submit(lambda: 1)"},
    "in a package": {
        "app/__init__.py": "",
        "app/pools.py": POOL,
        "app/view.py": "from app.pools import pool\ndef f(): pool.submit(lambda: 1)",
    },
    "in a folder that is no package": {
        "app/pools.py": POOL,
        "app/view.py": "import app.pools\ndef f(): app.pools.pool.submit(lambda: 1)",
    },
    "in src": {"src/app/pools.py": POOL, "view.py": "from app.pools import pool\ndef f(): pool.submit(lambda: 1)"},
    "from the same package": {
        "app/__init__.py": "",
        "app/pools.py": POOL,
        "app/view.py": "from .pools import pool\ndef f(): pool.submit(lambda: 1)",
    },
    "from the package above": {
        "app/__init__.py": "",
        "app/pools.py": POOL,
        "app/routes/__init__.py": "",
        "app/routes/view.py": "from .. import pools\ndef f(): pools.pool.submit(lambda: 1)",
    },
    "exported again": {
        "app/__init__.py": "from .core import pool as worker_pool",
        "app/core/__init__.py": "from .pools import *",
        "app/core/pools.py": POOL,
        "view.py": "from app import worker_pool\ndef f(): worker_pool.submit(lambda: 1)",
    },
    "hidden by a name of the package": {
        "app/__init__.py": "from .pool import pool",
        "app/pool.py": POOL,
        "view.py": "from app import pool\ndef f(): pool.submit(lambda: 1)",
    },
    "a module that the package imports": {
        "app/__init__.py": "from . import pools",
        "app/pools.py": POOL,
        "view.py": "from app import pools\ndef f(): pools.pool.submit(lambda: 1)",
    },
    "from a function": {
        "pools.py": "from lifepool import Pool\n_pool = Pool()\ndef get_pool(): return _pool",
        "view.py": "from pools import get_pool\ndef f(): get_pool().submit(lambda: 1)",
    },
    "from an async function": {
        "pools.py": "from lifepool import Pool\nasync def get_pool() -> Pool: ...",
        "view.py": "from pools import get_pool\nasync def f(): (await get_pool()).submit(lambda: 1)",
    },
    "from a dependency": {
        "pools.py": f"{POOL}async def get_pool():\n    yield pool",
        "view.py": (
            "from fastapi import Depends\nfrom pools import get_pool\ndef f(p=Depends(get_pool)): p.submit(lambda: 1)"
        ),
    },
    "by a type": {
        "types_.py": (
            "from typing import Annotated\nfrom fastapi import Depends\nfrom lifepool import Pool\n"
            "Workers = Annotated[Pool, Depends()]"
        ),
        "view.py": "from types_ import Workers\ndef f(p: Workers): p.submit(lambda: 1)",
    },
    "the state of the app": {
        "main.py": "from lifepool import Pool\nasync def lifespan(app):\n    app.state.pool = Pool()\n    yield",
        "view.py": "def f(request): request.app.state.pool.submit(lambda: 1)",
    },
    "the state that a lifespan yields": {
        "main.py": "from lifepool import Pool\nasync def life(a):\n    async with Pool() as p:\n        yield {'p': p}",
        "view.py": "def f(request): request.state.p.submit(lambda: 1)",
    },
    "an attribute of an object": {
        "service.py": "from lifepool import Pool\nclass Service:\n    def __init__(self): self.pool = Pool()",
        "view.py": "from service import Service\ns = Service()\ndef f(): s.pool.submit(lambda: 1)",
    },
    "an attribute of a base class": {
        "base.py": "from lifepool import Pool\nclass Base:\n    pool: Pool",
        "view.py": "from base import Base\nclass S(Base):\n    def f(self): self.pool.submit(lambda: 1)",
    },
    "a global that is filled later": {
        "pools.py": "from lifepool import Pool\np = None\ndef up():\n    global p\n    p = Pool()",
        "view.py": "import pools\ndef f(): pools.p.submit(lambda: 1)",
    },
}


@pytest.mark.parametrize("origin", ORIGINS)
def test_a_pool_is_known_wherever_it_comes_from(origin: str, tmp_path: Path) -> None:
    files = ORIGINS[origin]
    view = next(name for name in files if name.endswith("view.py"))
    line = next(number for number, text in enumerate(files[view].split("\n"), 1) if "lambda" in text)
    assert found(tmp_path, files) == [("LP008", view, line)]


@pytest.mark.parametrize(
    "origin", [each for each in ORIGINS if "state" not in each], ids=lambda origin: origin.replace(" ", "-")
)
def test_what_a_file_imports_is_read_though_it_is_not_checked(origin: str, tmp_path: Path) -> None:
    view = next(name for name in ORIGINS[origin] if name.endswith("view.py"))
    assert [code for code, *_ in found(tmp_path, ORIGINS[origin], only=view)] == ["LP008"]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param(
            {"pools.py": "pool = make()", "view.py": "from pools import pool\npool.submit(lambda: 1)"}, id="?"
        ),
        pytest.param(
            {
                "pools.py": "from lifepool import Pool\npool = Pool() if BIG else Small()\n",
                "view.py": "from elsewhere import pool\ndef f(): pool.submit(lambda: 1)",
            },
            id="another module",
        ),
        pytest.param(
            {
                "a.py": "from lifepool import Pool\nasync def life(app):\n    app.state.x = Pool()\n    yield",
                "b.py": "async def life(app):\n    app.state.x = Thing()\n    yield",
                "view.py": "def f(request): request.app.state.x.submit(lambda: 1)",
            },
            id="two apps disagree",
        ),
        pytest.param(
            {
                "a.py": "from b import pool",
                "b.py": "from a import pool",
                "view.py": "from a import pool\ndef f(): pool.submit(lambda: 1)",
            },
            id="imports in a circle",
        ),
        pytest.param(
            {"time.py": "def sleep(n): ...", "view.py": "from .time import sleep\nasync def f(): sleep(1)"},
            id="a module that is called like one of Python's",
        ),
        pytest.param(
            {"requests/__init__.py": "def get(x): ...", "view.py": "import requests\nasync def f(): requests.get('x')"},
            id="a package that is called like a library",
        ),
        pytest.param({"view.py": "from ....far import pool\ndef f(): pool.submit(lambda: 1)"}, id="above everything"),
    ],
)
def test_nothing_is_said_where_it_is_not_known(files: Files, tmp_path: Path) -> None:
    assert found(tmp_path, files) == []


# --- what runs when --------------------------------------------------------------------------------------------------


def test_a_pool_that_another_module_makes_in_each_request_is_found(tmp_path: Path) -> None:
    work = "from concurrent.futures import ProcessPoolExecutor\ndef work():\n    with ProcessPoolExecutor() as p: ..."
    route = "from app.work import work\n@router.post('/')\ndef handler():\n    return work()"
    assert found(tmp_path, {"app/work.py": work, "app/routes.py": route}) == [("LP001", "app/work.py", 3)]


def test_what_blocks_is_found_behind_calls_into_other_modules(tmp_path: Path) -> None:
    files = {
        "app/__init__.py": "",
        "app/slow.py": "import time\ndef nap():\n    time.sleep(1)\n\ndef rest():\n    nap()",
        "app/main.py": "from app.slow import rest\nasync def handler():\n    rest()",
    }
    write(tmp_path, files)
    (finding,) = check_files(find_files([tmp_path], [], tmp_path), RULES.keys(), [tmp_path]).findings
    place = f"({tmp_path.as_posix()}/app/main.py:2)"
    assert finding.message.endswith(f"in `nap`, which `async def handler` {place} calls by way of `rest`")


@pytest.mark.parametrize(
    "call",
    [
        "await asyncio.to_thread(rest)",
        "await pool.run(rest)",
        "await decorated()",
        "service.rest_in_thread(rest)",
    ],
)
def test_what_another_thread_or_a_worker_runs_may_block(call: str, tmp_path: Path) -> None:
    slow = """
        import time
        from lifepool import Pool
        pool = Pool()
        def rest(): time.sleep(1)
        @pool.task
        def decorated(): time.sleep(1)
        """
    main = f"import asyncio\nfrom slow import decorated, pool, rest\nasync def handler(service):\n    {call}"
    assert found(tmp_path, {"slow.py": slow, "main.py": main}) == []


def test_behind_more_than_three_calls_nothing_is_said(tmp_path: Path) -> None:
    steps = "\n".join(f"def f{number}(): f{number - 1}()" for number in range(1, 4))
    slow = f"import time\ndef f0(): time.sleep(1)\n{steps}\n"
    main = "from slow import f2, f3\nasync def near(): f2()\n"
    assert found(tmp_path, {"slow.py": slow, "main.py": main}) == [("LP005", "slow.py", 2)]
    assert found(tmp_path, {"slow.py": slow, "main.py": main.replace("f2()", "f3()")}) == []


@pytest.mark.parametrize("program", ["app/cli/main.py", "app/commands/load.py", "scripts/load.py", "tests/load.py"])
def test_a_program_holds_nobody_up(program: str, tmp_path: Path) -> None:
    slow = "import subprocess\ndef run(): subprocess.run(['ls'])\n"
    use = "from slow import run\nasync def work():\n    run()\n"
    assert found(tmp_path, {"slow.py": slow, program: use}) == []
    assert found(tmp_path, {"slow.py": slow, program: use, "app/routes.py": use}) == [("LP005", "slow.py", 2)]


# --- who starts and ends it ------------------------------------------------------------------------------------------

ROUTES = "from pools import pool\nasync def count(text):\n    return await pool.run(len, text)\n"
MAIN = "from fastapi import FastAPI\nimport routes\napp = FastAPI()\n"


def test_a_pool_that_nobody_in_the_project_starts_is_found(tmp_path: Path) -> None:
    assert found(tmp_path, {"pools.py": POOL, "routes.py": ROUTES, "main.py": MAIN}) == [("LP012", "pools.py", 2)]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"main.py": f"{MAIN}from pools import pool\ninstall(app, pool)"}, id="install"),
        pytest.param({"main.py": f"{MAIN}import pools\napp = FastAPI(lifespan=pools.pool.lifespan)"}, id="lifespan"),
        pytest.param(
            {"main.py": f"{MAIN}import life", "life.py": "import pools\nasync def up():\n    await pools.pool.start()"},
            id="by a third module",
        ),
        pytest.param({"main.py": "import routes\n"}, id="there is no app that could start it"),
        pytest.param({"main.py": "from fastapi import FastAPI\napp = FastAPI()"}, id="the app does not import it"),
        pytest.param({"main.py": f"{MAIN}import pools\nstart_all(vars(pools))\nuse(pools.pool)"}, id="given away"),
    ],
)
def test_a_pool_that_any_module_may_start_is_left_alone(files: Files, tmp_path: Path) -> None:
    assert found(tmp_path, {"pools.py": POOL, "routes.py": ROUTES, **files}) == []


def test_a_file_that_starts_the_pool_is_read_though_it_is_not_checked(tmp_path: Path) -> None:
    write(tmp_path, {"life.py": "import pools\nasync def up():\n    await pools.pool.start()"})
    files = {"pools.py": POOL, "routes.py": ROUTES, "main.py": f"{MAIN}import life"}
    write(tmp_path, files)
    assert check_files([tmp_path / name for name in files], RULES.keys(), [tmp_path]).findings == ()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("async def f():\n    pool = Pool()\n    return await pool.run(len, 'x')", ["LP012"]),
        ("async def f():\n    pool = Pool()\n    async with pool:\n        return await pool.run(len, 'x')", []),
        ("async def f():\n    async with Pool() as pool:\n        return await pool.run(len, 'x')", []),
        ("async def f():\n    pool = Pool()\n    await pool.start()\n    return await pool.run(len, 'x')", []),
        ("async def f():\n    pool = Pool()\n    g(pool)\n    return await pool.run(len, 'x')", []),
        ("def f():\n    pool = Pool()\n    return pool.max_workers", []),
    ],
)
def test_a_pool_in_a_variable_has_to_be_started_too(source: str, code: list[str], tmp_path: Path) -> None:
    files = {"work.py": f"from lifepool import Pool\n{source}"}
    assert [each for each, *_ in found(tmp_path, files) if each == "LP012"] == code


@pytest.mark.parametrize(
    ("keep", "use", "start", "place"),
    [
        ("self.pool = Pool()", "s.pool.run(len, 'x')", "s.pool.start()", "service.py"),
        ("app.state.pool = Pool()", "request.app.state.pool.run(len, 'x')", "app.state.pool.start()", "service.py"),
    ],
)
def test_a_pool_in_an_attribute_has_to_be_started_too(
    keep: str, use: str, start: str, place: str, tmp_path: Path
) -> None:
    service = f"from lifepool import Pool\nclass Service:\n    def __init__(self, app):\n        {keep}\n"
    main = (
        "from fastapi import FastAPI\nfrom service import Service\napp = FastAPI()\ns = Service(app)\n"
        f"async def f(request):\n    return await {use}\n"
    )
    assert found(tmp_path, {"service.py": service, "main.py": main}) == [("LP012", place, 4)]
    assert found(tmp_path, {"service.py": service, "main.py": f"{main}async def up():\n    await {start}"}) == []


def test_an_executor_that_another_module_shuts_down_is_left_alone(tmp_path: Path) -> None:
    pools = "from concurrent.futures import ProcessPoolExecutor\nexecutor = ProcessPoolExecutor()\n"
    assert found(tmp_path, {"pools.py": pools, "main.py": "import pools"}) == [("LP003", "pools.py", 2)]
    for end in ("import pools\ndef down(): pools.executor.shutdown()", "from pools import executor as e\nwith e: ..."):
        assert found(tmp_path, {"pools.py": pools, "main.py": end}) == []


# --- how much work that is --------------------------------------------------------------------------------------------


def chain(folder: Path, count: int) -> list[Path]:
    """Write modules that each import the one before, with a class, a pool and a handler."""
    write(folder, {"app/__init__.py": "", "app/m0.py": POOL + "class C0: ...\ndef f0(): pool.submit(len, 'x')"})
    for number in range(1, count):
        before = number - 1
        source = (
            f"from app.m{before} import C{before}, f{before}, pool\nclass C{number}(C{before}): ...\n"
            f"def f{number}():\n    f{before}()\n    pool.submit(len, 'x')\n    C{number}().work()\n"
            f"@app.get('/')\nasync def handler():\n    await pool.run(f{number})\n"
        )
        write(folder, {f"app/m{number}.py": source})
    return find_files([folder], [], folder)


def work(files: list[Path], root: Path) -> int:
    """Count the calls of functions in a check."""
    profile = cProfile.Profile()
    report = profile.runcall(check_files, files, RULES.keys(), [root])
    assert report.findings == ()
    return sum(entry.callcount for entry in profile.getstats())


def test_the_work_grows_with_the_number_of_files(tmp_path: Path) -> None:
    small, large = chain(tmp_path / "small", 40), chain(tmp_path / "large", 160)
    once, four_times = work(small, tmp_path / "small"), work(large, tmp_path / "large")
    assert four_times < 5.5 * once, "about four times as much for four times the files"
