from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.engine.gates import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as opened:
        yield opened
