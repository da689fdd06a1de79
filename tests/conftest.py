"""For every test: coroutines run on an event loop, and nothing may be left behind."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import shutil
import signal
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from lifepool.backends.local.codec import diagnosis
from tests.leaks import Snapshot, kill, leaks_since
from tests.loops import FACTORIES

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ["pytester", "tests.docs.verdict"]

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# What can't be pickled is searched for by the clock. A busy machine would end that search early in any test that looks
# at the message; tests of the bound itself have a clock of their own.
diagnosis.explain.__kwdefaults__ = {"search_s": 5.0}

# What a shell starts in the background ignores Ctrl-C, and so does all that it starts: a program that a test interrupts
# would go on for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_CHROMIUM_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option of the inner loop."""
    parser.addoption(
        "--one-loop", action="store_true", help="run tests that are marked all_loops on asyncio's own alone"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Keep the tests themselves, and what they import, out of each garbage collection to come: they stay anyway."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on the event loop that it asked for, by default on one of asyncio's own for it alone.

    A fixture named `lasting_runner` has a loop that outlives the test, for what several tests share.
    """
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    lasting = pyfuncitem.funcargs.get("lasting_runner")
    if isinstance(lasting, asyncio.Runner):
        lasting.run(pyfuncitem.obj(**arguments))
        return True
    with asyncio.Runner(debug=False, loop_factory=FACTORIES[_loop_kind(pyfuncitem)]) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True


def _loop_kind(item: pytest.Function) -> str:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return str(parameters.get("loop_kind", "asyncio"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat a test on every loop if it is marked `all_loops` or takes `loop_kind`."""
    marks = list(metafunc.definition.iter_markers())
    if any(m.name == "parametrize" and "loop_kind" in str(m.args[0]) for m in marks):
        return  # the test names its loops itself
    if any(m.name == "all_loops" for m in marks) and "loop_kind" not in metafunc.fixturenames:
        metafunc.fixturenames.append("loop_kind")
    if "loop_kind" in metafunc.fixturenames:
        metafunc.parametrize("loop_kind", list(FACTORIES)[: 1 if metafunc.config.getoption("--one-loop") else None])


@pytest.fixture(autouse=True)
def _nothing_leaks() -> Iterator[None]:
    """Fail a test that leaves a process, a thread, a descriptor or shared memory behind."""
    before = Snapshot.take()
    yield
    leaked = leaks_since(before)
    if leaked:
        message = f"the test left behind:\n{leaked}"
        kill(leaked)
        pytest.fail(message, pytrace=False)


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome for playwright's `executable_path`; `expect` waits for 30 s from then on."""
    from playwright.sync_api import expect  # not everywhere that tests run is it installed

    expect.set_options(timeout=30_000)
    for name in (os.environ.get("CHROMIUM", ""), *_CHROMIUM_NAMES):
        if name and (path := shutil.which(name)):
            return path
    pytest.fail("there is no Chromium: run `sh scripts/ensure-chromium.sh`", pytrace=False)


@pytest.fixture(scope="session")
def promtool() -> str:
    """The path of Prometheus' promtool."""
    for name in (os.environ.get("PROMTOOL", ""), "promtool", ".promtool/promtool"):
        if name and (path := shutil.which(name)):
            return os.path.abspath(path)
    pytest.fail("there is no promtool: run `sh scripts/ensure-promtool.sh`", pytrace=False)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name what has no lasting name after its argument: the tests that run side by side must agree on their names."""
    unlike = isinstance(val, bytes) or (isinstance(val, str) and " at 0x" in val)
    return argname if unlike else None
