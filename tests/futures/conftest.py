"""Fixtures of the tests of `lifepool.futures`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as opened:
        yield opened


@pytest.fixture
def executor() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1) as opened:
        yield opened
