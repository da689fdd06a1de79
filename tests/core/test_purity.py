"""The core has no clock, no random numbers, no input and no output: what it imports could give it none."""

from __future__ import annotations

import importlib
import pkgutil
import threading
from types import ModuleType

import pytest

import lifepool._core

MODULES = sorted(m.name for m in pkgutil.iter_modules(lifepool._core.__path__, "lifepool._core."))
FORBIDDEN = {
    "asyncio", "concurrent", "io", "mmap", "multiprocessing", "os", "posix", "random", "select", "selectors",
    "signal", "socket", "subprocess", "sys", "threading", "time",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_a_module_of_the_core_holds_nothing_of_the_machine(name: str) -> None:
    values = vars(importlib.import_module(name)).items()
    homes = {key: v.__name__ if isinstance(v, ModuleType) else getattr(v, "__module__", "") for key, v in values}
    assert not {key for key, home in homes.items() if str(home).partition(".")[0] in FORBIDDEN}


def test_all_modules_of_the_core_are_looked_at() -> None:
    assert {"lifepool._core.scheduler", "lifepool._core.supervisor", "lifepool._core.queue"} <= set(MODULES)


def test_these_tests_can_start_no_thread() -> None:
    with pytest.raises(pytest.fail.Exception):
        threading.Thread(target=print).start()
