"""A worker that is ready has what the first task needs: the app's module, and those that decorated functions are in."""

from __future__ import annotations

import importlib
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, TaskNotPicklable
from lifepool._usercode.needed_modules import MOST_MODULES, modules_ahead
from lifepool.integrations.asgi import with_pool
from tests import tasks
from tests.engine.scripts import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Write = Callable[[str], Any]


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module called `served` and imports it; it is forgotten in the end."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))

    def write(code: str) -> Any:
        (tmp_path / "served.py").write_text(f"from lifepool import Pool\n{code}")
        importlib.invalidate_caches()
        return importlib.import_module("served")

    yield write
    sys.modules.pop("served", None)


async def test_the_module_of_the_pool_is_imported_before_workers_are_ready(written: Write) -> None:
    served = written("pool = Pool(max_workers=2)\n")
    async with served.pool:
        assert await served.pool.run(tasks.is_imported, "served")


async def test_the_module_of_the_app_is_imported_before_workers_are_ready(written: Write) -> None:
    served = written("class App: pass\napp = App()\n")
    pool = Pool(max_workers=1)
    async with pool.lifespan(served.app):
        assert await pool.run(tasks.is_imported, "served")


async def test_the_module_of_an_app_of_fastapi_is_imported_too(written: Write) -> None:
    served = written(
        "from contextlib import asynccontextmanager\n"
        "from fastapi import FastAPI\n"
        "@asynccontextmanager\n"
        "async def own(app):\n"
        "    yield\n"
        "def make(pool):\n"
        "    return FastAPI(lifespan=pool.lifespan(own))\n"
        "app = None\n"
    )
    pool = Pool(max_workers=1)
    served.app = served.make(pool)
    async with served.app.router.lifespan_context(served.app):
        assert await pool.run(tasks.is_imported, "served")


async def test_any_asgi_app_in_the_module_of_its_pool_too(written: Write) -> None:
    served = written("pool = Pool(max_workers=1)\nasync def app(scope, receive, send): pass\n")
    app = with_pool(served.app, served.pool)
    said: list[str] = []
    seen: list[bool] = []

    async def receive() -> dict[str, Any]:
        if "lifespan.startup.complete" in said:
            seen.append(await served.pool.run(tasks.is_imported, "served"))
            return {"type": "lifespan.shutdown"}
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert seen == [True]


@pytest.mark.parametrize(
    "decorated",
    [
        "decorate = pool.task\n@pool.task\ndef f(): pass\n",
        "@pool.task(timeout=3.0)\ndef f(): pass\n",
        "@pool.batch\ndef f(items): return items\n",
        "@pool.resource\ndef f(): pass\n",
    ],
)
async def test_the_module_of_what_is_decorated_is_imported_before_workers_are_ready(
    written: Write, decorated: str
) -> None:
    served = written(f"pool = Pool(max_workers=1)\n{decorated}POOL = [pool]\ndel pool\n")
    (pool,) = served.POOL
    async with pool:
        assert await pool.run(tasks.is_imported, "served")


async def test_it_is_imported_once_for_all_workers(written: Write) -> None:
    served = written("import os\npool = Pool(max_workers=2)\nPID = os.getpid()\ndef pids(): return PID, os.getpid()\n")
    async with served.pool:
        imported_in, pid = await served.pool.run(served.pids)
    assert imported_in != pid


async def test_a_module_that_leaves_a_thread_is_imported_by_each_worker_before_it_is_ready(
    written: Write, caplog: pytest.LogCaptureFixture
) -> None:
    served = written(
        "import os, threading\n"
        "pool = Pool(max_workers=1)\n"
        "stop = threading.Event()\n"
        "thread = threading.Thread(target=stop.wait, daemon=True)\n"
        "thread.start()\n"
    )
    try:
        async with served.pool:
            assert await served.pool.run(tasks.is_imported, "served")
            assert "importing 'served' leaves a thread" in caplog.text
    finally:
        served.stop.set()
        served.thread.join()


async def test_a_module_that_workers_can_not_import_fails_no_start(
    written: Write, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served = written(
        "import os\n"
        "if os.path.exists(os.environ['TRACE']):\n"
        "    raise LookupError('only once')\n"
        "open(os.environ['TRACE'], 'x').close()\n"
        "pool = Pool(max_workers=1)\n"
        "def f(): pass\n"
    )
    async with served.pool:
        assert await served.pool.run(tasks.double, 4) == 8
        with pytest.raises(TaskNotPicklable, match="only once"):
            await served.pool.run(served.f)
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING][:1]
    assert "'served' can't be imported ahead of the first task: LookupError: only once" in told


async def test_a_module_that_exits_or_starts_a_pool_when_it_is_imported_fails_no_start(written: Write) -> None:
    served = written(
        "import asyncio, os\n"
        "pool = Pool(max_workers=1)\n"
        "async def start():\n"
        "    async with Pool(max_workers=1): pass\n"
        "if os.path.exists(os.environ['TRACE']):\n"
        "    try: asyncio.run(start())\n"
        "    finally: raise SystemExit(3)\n"
        "open(os.environ['TRACE'], 'x').close()\n"
    )
    async with served.pool:
        assert await served.pool.run(tasks.double, 4) == 8


def test_what_the_apps_module_prints_is_seen(tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(
        "from lifepool import Pool\npool = Pool(max_workers=1)\nprint('imported', flush=True)\ndef f(): return 1\n"
    )
    (tmp_path / "run.py").write_text(
        "import asyncio\n"
        "async def main():\n"
        "    import served\n"
        "    async with served.pool:\n"
        "        print('ready', await served.pool.run(served.f), flush=True)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    done = run_script(str(tmp_path / "run.py"))
    assert done.out.splitlines() == ["imported", "imported", "ready 1"]


# --- which modules ----------------------------------------------------------------------------------------------------


def test_modules_are_named_once_and_only_if_a_worker_can_import_them() -> None:
    here = object()
    made = type(sys)("made_up")
    vars(made)["held"] = here
    sys.modules["made_up"] = made
    vars(sys.modules[__name__])["_held"] = here
    try:
        assert modules_ahead(["json", "json", "no_such", "__main__", "lifepool.pool"], [here, None]) == (
            "json",
            __name__,
        )
    finally:
        del sys.modules["made_up"]
        del vars(sys.modules[__name__])["_held"]


def test_there_is_a_bound() -> None:
    names = [name for name, module in sys.modules.items() if getattr(module, "__spec__", None)]
    assert len(names) > 2 * MOST_MODULES
    assert len(modules_ahead(names, [])) == MOST_MODULES
