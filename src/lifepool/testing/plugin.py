"""The pytest plugin: fixtures for scripted and inline pools, and the check for pools that were left running.

Fixtures
    ``script_pool``: call it with a pool to get its ``Script``; it holds until the test ends.
    ``inline_pool``: call it with a pool to run its tasks in the test's process until the test ends.
    ``no_open_pools``: fails the test if it leaves a pool running. ``lifepool_leak_check = true`` in the pytest
    configuration uses it for all tests.

Options
    ``--lifepool-backend NAME``: run pools that name no backend on this one, as ``LIFEPOOL_BACKEND`` does.

It imports nothing of lifepool before a fixture is used, so that coverage sees all of your imports.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lifepool.pool import Pool
    from lifepool.testing.script import Script


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting."""
    group = parser.getgroup("lifepool")
    group.addoption("--lifepool-backend", metavar="NAME", help="backend of pools that name none: inline, local, ...")
    parser.addini("lifepool_leak_check", "fail tests that leave a lifepool pool running", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    """Choose the backend before the app is imported."""
    if backend := config.getoption("--lifepool-backend"):
        os.environ["LIFEPOOL_BACKEND"] = backend


@pytest.fixture
def script_pool() -> Iterator[Callable[[Pool], Script]]:
    """Let scripts say how the calls of pools end, until the end of the test; see ``lifepool.testing.scripted``."""
    from lifepool.testing.pools import scripted

    with ExitStack() as stack:
        yield lambda pool: stack.enter_context(scripted(pool))


@pytest.fixture
def inline_pool() -> Iterator[Callable[[Pool], None]]:
    """Run the tasks of pools in the test's process until its end; see ``lifepool.testing.inline``."""
    from lifepool.testing.pools import inline

    with ExitStack() as stack:
        yield lambda pool: stack.enter_context(inline(pool))


@pytest.fixture
def no_open_pools() -> Iterator[None]:
    """Fail the test if it leaves a pool running; see ``lifepool.testing.no_open_pools``."""
    from lifepool.testing.leaks import no_open_pools

    with no_open_pools():
        yield


@pytest.fixture(autouse=True)
def _lifepool_leak_check(request: pytest.FixtureRequest) -> None:
    """Use ``no_open_pools`` in each test if the configuration says so."""
    if request.config.getini("lifepool_leak_check"):
        request.getfixturevalue("no_open_pools")
