from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.examples.domains import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def lasting_runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        # Its thread starts here: no test is to leave one behind.
        runner.get_loop().set_default_executor(executor := ThreadPoolExecutor(1))
        executor.submit(int).result()
        yield runner


@pytest.fixture(scope="module")
def lasting_app(lasting_runner: asyncio.Runner) -> Iterator[None]:
    """Start the app once for the tests of a file: its pool takes a second to start, a request to it a millisecond."""
    started = serving.started()
    serving.lasting.append(lasting_runner.run(started.__aenter__()))
    yield
    serving.lasting.clear()
    lasting_runner.run(started.__aexit__(None, None, None))
