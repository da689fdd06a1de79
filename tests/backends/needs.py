"""Skips what a backend can't do: by its capabilities, never by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lifepool.backends.selection import make_backend

if TYPE_CHECKING:
    from lifepool import Pool


def needs(pool: Pool, *capabilities: str) -> None:
    """Skip the test if the pool's backend lacks one of these."""
    can = make_backend(pool.config).capabilities
    for name in capabilities:
        if not getattr(can, name):
            pytest.skip(f"this backend has no capability {name!r}")


def needs_concurrency(pool: Pool) -> None:
    can = make_backend(pool.config).capabilities
    if can.slots * (can.max_workers or pool.max_workers) < 2:
        pytest.skip("this backend runs one task after another")
