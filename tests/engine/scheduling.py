"""The scheduler behind a pool's engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core.scheduler import Scheduler

if TYPE_CHECKING:
    from lifepool._engine.engine import Engine


def scheduler_of(engine: Engine | None) -> Scheduler:
    """Return the scheduler of a pool with one backend."""
    assert engine is not None
    scheduler = engine._scheduler
    assert isinstance(scheduler, Scheduler)
    return scheduler
