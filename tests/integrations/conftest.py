from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.gates import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as opened:
        yield opened


@pytest.fixture
def signals() -> Iterator[list[int]]:
    """Return the signals that came to whoever handled them before the server did."""
    heard: list[int] = []
    numbers = (signal.SIGTERM, signal.SIGINT)
    previous: list[Any] = [signal.signal(number, lambda number, frame: heard.append(number)) for number in numbers]
    yield heard
    for number, handler in zip(numbers, previous, strict=True):
        signal.signal(number, handler)
