from __future__ import annotations

import asyncio
import atexit
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from lifepool._core import policy

# Before the app is imported: where it keeps its jobs, and the uploads that it searches as jobs.
os.environ["DOMAINS_FOLDER"] = tempfile.mkdtemp(prefix="domains-")
atexit.register(shutil.rmtree, os.environ["DOMAINS_FOLDER"], ignore_errors=True)

from tests.examples.domains import serving  # noqa: E402

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
    """Start the app once for the tests of a file: its pool takes a second to start, a request to it a millisecond.

    A worker that breaks off a task gets the time that it needs on a busy machine.
    """
    started = serving.started()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "INTERRUPT_GRACE_S", 30.0)
        serving.lasting.append(lasting_runner.run(started.__aenter__()))
        yield
        serving.lasting.clear()
        lasting_runner.run(started.__aexit__(None, None, None))
