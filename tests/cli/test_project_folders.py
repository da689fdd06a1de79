"""`lifepool doctor FOLDER` and `lifepool advise FOLDER`: they read a project, and name what is in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.cli.check.command import read
from lifepool.cli.check.inventory import Inventory
from tests.cli.runner import lifepool
from tests.cli.sources import POOL, write

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.sources import Files

APP = "from fastapi import FastAPI\napp = FastAPI()\n"
INSTALLED = (
    "from fastapi import FastAPI\nfrom lifepool.integrations.fastapi import install\n"
    "from {pools} import pool\nfrom {work} import score\n"
    "app = FastAPI()\ninstall(app, pool)\n\n"
    "@app.get('/')\nasync def f(text: str) -> int:\n    return await pool.run(score, text)\n"
)
WORK = "def score(text: str, weight: int = 1) -> int:\n    return len(text) * weight\n"


def inventory(folder: Path, files: Files) -> Inventory:
    write(folder, files)
    return Inventory(read(folder).project, folder)


LAYOUTS: dict[str, tuple[Files, str, str]] = {
    "modules": ({"main.py": "import work\n" + APP, "work.py": ""}, "main:app", "."),
    "package": (
        {"shop/__init__.py": "", "shop/main.py": "from shop import work\n" + APP, "shop/work.py": ""},
        "shop.main:app",
        ".",
    ),
    "folder without __init__": (
        {"shop/main.py": "from shop import work\n" + APP, "shop/work.py": ""},
        "shop.main:app",
        ".",
    ),
    "folder that is started in": (
        {"backend/main.py": "import work\n" + APP, "backend/work.py": ""},
        "main:app",
        "backend",
    ),
    "src": (
        {"src/shop/__init__.py": "", "src/shop/main.py": "from shop.work import f\n" + APP, "src/shop/work.py": ""},
        "shop.main:app",
        "src",
    ),
    "package that is the app": ({"shop/__init__.py": APP}, "shop:app", "."),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_app_is_named_as_the_server_names_it(layout: str, tmp_path: Path) -> None:
    files, name, folder = LAYOUTS[layout]
    (app,) = inventory(tmp_path, files).apps
    assert (app.name, app.folder, app.is_factory) == (name, (tmp_path / folder).absolute(), False)


def test_a_function_that_makes_the_app_is_one_too(tmp_path: Path) -> None:
    files = {
        "main.py": (
            "from fastapi import FastAPI\n"
            "def create_app() -> FastAPI:\n    app = FastAPI()\n    return app\n"
            "def of_settings(settings) -> FastAPI:\n    return FastAPI()\n"
        ),
        "tests/test_main.py": APP,
    }
    assert [(app.name, app.is_factory) for app in inventory(tmp_path, files).apps] == [("main:create_app", True)]


def test_candidates_are_what_is_sent_and_what_computes_on_the_loop(tmp_path: Path) -> None:
    files = {
        "pools.py": POOL,
        "work.py": WORK
        + "import bcrypt\ndef check(password: bytes, hashed: bytes) -> bool:\n"
        + "    return bcrypt.checkpw(password, hashed)\n"
        + "def untold(model, *, fast):\n    return 1\n"
        + "async def waits() -> None: ...\n",
        "main.py": INSTALLED.format(pools="pools", work="work")
        + "    \nfrom work import check, untold\n@app.get('/b')\nasync def g() -> bool:\n    return check(b'', b'')\n"
        + "@app.get('/c')\nasync def h() -> int:\n    return await pool.run(untold, 1)\n",
    }
    found = {each.name: each for each in inventory(tmp_path, files).candidates}
    assert set(found) == {"work:score", "work:check", "work:untold"}
    assert (found["work:score"].arguments, found["work:score"].why) == ("'a' * n", "sent to a pool at main.py:10")
    assert found["work:check"].arguments == "b'a' * n, b'a' * n"
    assert "computes on the event loop" in found["work:check"].why
    assert (found["work:untold"].arguments, found["work:untold"].parameters) == (None, ("model", "fast"))


def test_advise_lists_the_functions_and_its_commands_work(tmp_path: Path) -> None:
    write(tmp_path, {"pools.py": POOL, "work.py": WORK, "main.py": INSTALLED.format(pools="pools", work="work")})
    done = lifepool("advise", ".", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "work:score" in done.stdout
    assert "sent to a pool at main.py:10" in done.stdout
    assert "lifepool advise work:score --args \"'a' * n\"" in done.stdout
    (listed,) = json.loads(lifepool("advise", ".", "--json", cwd=tmp_path).stdout)["functions"]
    assert listed["command"] == "lifepool advise work:score --args \"'a' * n\""
    measured = lifepool("advise", "work:score", "--args", "'a' * n", "--sizes", "10", "--budget", "0.5", cwd=tmp_path)
    assert measured.returncode == 0, measured.stdout + measured.stderr


def test_advise_says_if_there_is_nothing(tmp_path: Path) -> None:
    write(tmp_path, {"main.py": APP})
    assert "no function is sent to a pool" in lifepool("advise", ".", cwd=tmp_path).stdout


def sections(done: Any) -> dict[str, dict[str, Any]]:
    report = json.loads(done.stdout)
    return {each["title"]: {found["topic"]: found for found in each["findings"]} for each in report["sections"]}


def test_doctor_tries_the_apps_of_a_project_and_says_what_its_source_says(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "shop/__init__.py": "",
            "shop/pools.py": POOL,
            "shop/work.py": WORK,
            "shop/main.py": INSTALLED.format(pools="shop.pools", work="shop.work"),
            "shop/made.py": (
                "from fastapi import FastAPI\nfrom shop.pools import pool\n"
                "def create_app() -> FastAPI:\n    return FastAPI(lifespan=pool.lifespan)\n"
            ),
            "shop/broken.py": (
                "from fastapi import FastAPI\nfrom concurrent.futures import ProcessPoolExecutor\napp = FastAPI()\n"
                "@app.get('/')\ndef f():\n"
                "    with ProcessPoolExecutor() as pool:\n        return pool.submit(len, 'x')\n"
            ),
        },
    )
    done = lifepool("doctor", ".", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    found = sections(done)
    source = found["Source in ."]
    assert source["apps"]["found"] == "shop.made:create_app, shop.main:app"
    assert source["other apps"]["found"] == "not tried, they do not use lifepool: shop.broken:app"
    assert source["pools"]["found"] == "shop.pools:pool (shop/pools.py:2)"
    assert source["LP001"]["found"].startswith("shop/broken.py:6: ")
    assert found["shop.main:app (shop/main.py:5)"]["start"]["status"] == "ok"
    assert found["shop.made:create_app (shop/made.py:3)"]["start"]["status"] == "ok"


def test_doctor_takes_a_factory_by_name(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "main.py": f"from fastapi import FastAPI\n{POOL}def make():\n    return FastAPI(lifespan=pool.lifespan)\n"
            "def fails():\n    raise ValueError('no settings')\n"
        },
    )
    assert sections(lifepool("doctor", "main:make", "--factory", "--json", cwd=tmp_path))["main:make"]["start"]
    without = sections(lifepool("doctor", "main:make", "--json", cwd=tmp_path))["main:make"]["import"]
    assert without["fix"] == "if it makes the app, add --factory"
    failing = sections(lifepool("doctor", "main:fails", "--factory", "--json", cwd=tmp_path))["main:fails"]["import"]
    assert "main:fails() failed: ValueError: no settings" in failing["found"]


@pytest.mark.parametrize("command", ["doctor", "advise"])
def test_settings_that_make_no_sense_are_refused(command: str, tmp_path: Path) -> None:
    write(tmp_path, {"pyproject.toml": "[tool.lifepool.check]\nignore = ['LP999']\n"})
    done = lifepool(command, ".", cwd=tmp_path)
    assert (done.returncode, "LP999" in done.stderr) == (2, True)
