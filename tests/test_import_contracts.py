"""The import contracts hold the house: an import that goes against one is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = "imports flow down the house"
SANS_IO = "the core is sans-IO"
LIGHT = "a worker process stays light"
APART = "backends do not know each other"
LOCAL = "imports flow down the local backend"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package and of its contracts, in which a bad import can be planted."""
    root = tmp_path_factory.mktemp("house")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "lifepool", root / "src" / "lifepool", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def lint_imports(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=house,
        env={**os.environ, "PYTHONPATH": str(house / "src"), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def test_the_house_as_it_stands_keeps_every_contract(house: Path) -> None:
    done = lint_imports(house)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("package", "line", "broken"),
    [
        ("errors", "import lifepool.pool", LAYERS),
        ("errors", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import lifepool.pool", LAYERS),
        ("_core", "import lifepool._engine", LAYERS),
        ("_core", "import time", SANS_IO),
        ("_core", "from asyncio import get_running_loop", SANS_IO),
        ("_core", "import concurrent.futures", SANS_IO),
        ("backends/local/worker", "import asyncio", LIGHT),
        ("backends/local/worker", "import lifepool._core.scheduler", LIGHT),
        ("backends/local/template/program", "import asyncio", LIGHT),
        ("backends/local/logs/handler", "import asyncio", LIGHT),
        ("backends/local/shared/cells", "import lifepool.backends.local.codec.calls", LOCAL),
        ("backends/inline", "import lifepool.backends.local", APART),
    ],
)
def test_a_planted_import_breaks_its_contract(house: Path, package: str, line: str, broken: str) -> None:
    path = house / "src" / "lifepool" / package
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    before = path.read_text()
    try:
        path.write_text(f"{before}\n{line}\n")
        done = lint_imports(house)
    finally:
        path.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{broken} BROKEN" in done.stdout


def test_a_worker_that_is_imported_for_real_has_loaded_nothing_heavy() -> None:
    """The contracts do not see what a parent package's __init__ drags in; this does."""
    program = (
        "import importlib, pkgutil, sys\n"
        "import lifepool.backends.local.worker as worker\n"
        "for module in pkgutil.iter_modules(worker.__path__, worker.__name__ + '.'):\n"
        "    importlib.import_module(module.name)\n"
        "heavy = {'asyncio', 'fastapi', 'starlette', 'lifepool._engine', 'lifepool.pool'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
