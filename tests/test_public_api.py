"""The public names: complete, light to import, documented, and the documentation is true to the code."""

from __future__ import annotations

import ast
import builtins
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import lifepool
from lifepool import Pool, errors
from lifepool.config import describe_settings
from lifepool.jobs import errors as job_errors

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

ROOT = Path(lifepool.__file__).parent

#: Modules that users import, by DESIGN; the others are reached through these.
PUBLIC_MODULES = [
    "lifepool.dashboard.app",
    "lifepool._pool.bulk_calls",
    "lifepool._pool.decorated",
    "lifepool.errors",
    "lifepool.futures.errors",
    "lifepool.futures.executor",
    "lifepool.instrumentation.grafana",
    "lifepool.instrumentation.lag",
    "lifepool.instrumentation.logging",
    "lifepool.instrumentation.loop",
    "lifepool.instrumentation.opentelemetry",
    "lifepool.instrumentation.prometheus",
    "lifepool.instrumentation.slow",
    "lifepool.integrations.asgi",
    "lifepool.integrations.fastapi",
    "lifepool.integrations.health",
    "lifepool.jobs.decorated",
    "lifepool.jobs.errors",
    "lifepool.jobs.jobs",
    "lifepool.jobs.progress",
    "lifepool.jobs.records",
    "lifepool.jobs.router",
    "lifepool._pool.life",
    "lifepool.pool",
    "lifepool.progress",
    "lifepool._inside.resources",
    "lifepool.statistics",
    "lifepool.testing.clock",
    "lifepool.testing.leaks",
    "lifepool.testing.pause",
    "lifepool.testing.pools",
    "lifepool.testing.script",
    "lifepool._engine.handle",
    "lifepool._inside.state",
]
ERRORS = [cls for cls in vars(errors).values() if inspect.isclass(cls) and issubclass(cls, errors.PoolError)]


def public_objects() -> Iterator[tuple[str, Any]]:
    """Every public class and function, and every public method, with a name for the report."""
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name, item in vars(module).items():
            if name.startswith("_") or getattr(item, "__module__", None) != module.__name__:
                continue
            if inspect.isclass(item):
                yield f"{module.__name__}.{name}", item
                yield from methods(f"{module.__name__}.{name}", item)
            elif inspect.isroutine(item):
                yield f"{module.__name__}.{name}", item


def methods(prefix: str, cls: type) -> Iterator[tuple[str, Any]]:
    for name, item in vars(cls).items():
        if not name.startswith("_"):
            found = item.fget if isinstance(item, property) else item
            if inspect.isroutine(found):
                yield f"{prefix}.{name}", found


OBJECTS = dict(public_objects())
each_object = pytest.mark.parametrize("name", sorted(OBJECTS))


def section(text: str, title: str) -> dict[str, str]:
    """A Google-style section as a dict: the names before the colons, and what is said of them."""
    found = re.search(rf"^{title}:\n((?:    .*\n?|\n)+)", inspect.cleandoc(text), re.MULTILINE)
    entries = re.findall(r"^    (\*{0,2}[\w.]+): (.*)", found[1] if found else "", re.MULTILINE)
    return dict(entries)


# --- names ----------------------------------------------------------------------------------------------------------


def test_all_names_are_there_sorted_and_resolve() -> None:
    assert lifepool.__all__ == sorted(set(lifepool.__all__))
    for name in lifepool.__all__:
        assert getattr(lifepool, name) is not None
    assert dir(lifepool) == lifepool.__all__


def test_every_error_is_a_public_name() -> None:
    assert {cls.__name__ for cls in ERRORS} <= set(lifepool.__all__)
    for cls in ERRORS:
        assert getattr(lifepool, cls.__name__) is cls


def test_what_type_checkers_see_is_what_is_loaded() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module for node in guarded.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert seen == lifepool._HOMES


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'lifepool' has no attribute 'Pol'"):
        lifepool.Pol  # noqa: B018


@pytest.mark.parametrize("module", ["lifepool", "lifepool.errors", "lifepool._inside.state"])
def test_importing_it_is_light(module: str) -> None:
    program = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    heavy = {"asyncio", "multiprocessing", "concurrent.futures", "fastapi", "starlette", "pickle", "socket"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_star_import_needs_no_framework() -> None:
    program = "import sys; from lifepool import *; Pool(max_workers=1); assert 'fastapi' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], timeout=30, check=True)


def test_a_pool_that_is_not_started_has_loaded_no_engine() -> None:
    """Workers and commands import modules that have a pool."""
    program = "import sys; from lifepool import Pool; Pool(max_workers=1); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    engine = {
        "lifepool._engine.engine",
        "lifepool._core.scheduler",
        "lifepool.backends.local.backend",
        "multiprocessing",
    }
    assert engine.isdisjoint(done.stdout.split())


#: Engines of clusters: they are installed where the tests of clusters run.
ENGINES = {"billiard", "celery", "dask", "distributed", "kombu", "ray", "redis"}


PARTS = 6


@pytest.mark.parametrize("part", range(PARTS))
def test_every_module_can_be_imported_by_itself(part: int) -> None:
    names = [found.name for found in pkgutil.walk_packages([str(ROOT)], "lifepool.")]
    assert len(names) > 30
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    for loaded in [m for m in sys.modules if m.split('.')[0] == 'lifepool']: del sys.modules[loaded]\n"
        "    try: importlib.import_module(name)\n"
        f"    except ModuleNotFoundError as error:\n"
        f"        if error.name not in {ENGINES}: raise\n"
    )
    names = [name for name in names if not name.endswith("__main__")]
    if importlib.util.find_spec("celery") is None:  # in the environment of tests/cluster it is there
        names = [name for name in names if not name.startswith(("lifepool.backends.celery.", "lifepool.nodes.celery"))]
    subprocess.run([sys.executable, "-c", program, *names[part::PARTS]], timeout=150, check=True)


# --- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", ERRORS)
def test_every_error_says_its_status_and_has_room_for_a_hint(cls: type[errors.PoolError]) -> None:
    assert 400 <= cls.status_hint <= 599
    assert isinstance(cls.hint, str)


@pytest.mark.parametrize("cls", ERRORS)
def test_every_attribute_of_an_error_is_documented(cls: type[errors.PoolError]) -> None:
    own = [name for name in inspect.signature(cls).parameters if name not in ("message", "hint", "reason", "cause")]
    told = " ".join(base.__doc__ or "" for base in cls.__mro__ if base.__module__ == errors.__name__)
    source = inspect.getsource(cls)
    for name in own:
        if f"self.{name} =" in source and (cls, name) != (errors.PayloadTooLarge, "side"):
            assert f"{name}:" in told, f"{cls.__name__}.{name}"


# --- documentation --------------------------------------------------------------------------------------------------


def test_there_is_something_to_check() -> None:
    assert {"lifepool.pool.Pool.run", "lifepool.futures.executor.ProcessPoolExecutor.submit"} <= OBJECTS.keys()
    assert section(Pool.run.__doc__ or "", "Raises").keys() >= {"PoolClosed", "QueueFull", "TaskTimeout"}


@each_object
def test_it_has_a_docstring(name: str) -> None:
    assert inspect.getdoc(OBJECTS[name]), name


@each_object
def test_the_errors_in_its_docstring_exist(name: str) -> None:
    for error in section(OBJECTS[name].__doc__ or "", "Raises"):
        known = getattr(errors, error, None) or getattr(job_errors, error, None) or getattr(builtins, error, None)
        assert inspect.isclass(known), f"{name} says that it raises {error}"
        assert issubclass(known, BaseException)


@each_object
def test_the_arguments_in_its_docstring_are_those_it_takes(name: str) -> None:
    told = section(OBJECTS[name].__doc__ or "", "Args")
    if told:
        taken = [key for key in inspect.signature(OBJECTS[name]).parameters if key != "self"]
        assert [key.lstrip("*") for key in told] == taken, name


def test_the_pools_arguments_are_the_settings() -> None:
    parameters = inspect.signature(Pool).parameters
    settings = describe_settings()
    assert list(parameters) == [setting.name for setting in settings]
    assert all(parameter.kind is inspect.Parameter.KEYWORD_ONLY for parameter in parameters.values())
    assert [each.default for each in parameters.values()] == [setting.default for setting in settings]
    assert [each.annotation for each in parameters.values()] == [setting.accepts for setting in settings]


def test_the_pools_docstring_says_of_each_setting_what_the_reference_says() -> None:
    text = " ".join((Pool.__doc__ or "").split())
    for setting in describe_settings():
        assert f"{setting.name}: {setting.meaning.replace('`', '``')}" in text


def test_a_class_of_the_users_own_shows_its_own_arguments() -> None:
    class Images(Pool):
        def __init__(self, size: int) -> None:
            super().__init__(max_workers=size)

    assert list(inspect.signature(Images).parameters) == ["size"]


@pytest.mark.parametrize("module", PUBLIC_MODULES)
def test_a_public_module_has_a_docstring(module: str) -> None:
    loaded: ModuleType = importlib.import_module(module)
    assert loaded.__doc__
