"""A pool on each backend, for the contract that they share."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from tests.engine.conftest import gate as gate
from tests.remote.whole import WholeCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKENDS = ("local", "inline", "executor", "threads", "loopback")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A value for `Pool(backend=...)`."""
    if request.param == "loopback":
        yield WholeCluster()
        return
    if request.param != "threads":
        yield request.param
        return
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def pool(backend: Any) -> Pool:
    return Pool(backend=backend, max_workers=2, start_timeout=20, drain_timeout=20)
