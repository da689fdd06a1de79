"""What several tests of `lifepool.futures` need."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.engine.gates import PATIENCE_S, Gate

if TYPE_CHECKING:
    from concurrent.futures import Future

ROOT = Path(__file__).parents[2]


def value(future: Future[Any]) -> Any:
    return future.result(timeout=PATIENCE_S)


def arrive(gate: Gate) -> Any:
    return asyncio.run(gate.arrival())
