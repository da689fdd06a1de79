"""Find pools that a test has left running."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from lifepool._pool.runtime import open_pools

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_open_pools() -> Iterator[None]:
    """Fail if a pool that was started while this was entered still runs when it is left.

    Such a pool has worker processes; the next test would meet them. Executors of ``lifepool.futures`` count as well.

    Raises:
        AssertionError: If so; it names them.
    """
    before = open_pools()
    yield
    left = [pool for pool in open_pools() if not any(pool is each for each in before)]
    if left:
        raise AssertionError(
            f"still running: {', '.join(map(repr, left))}. End a pool with its app's lifespan "
            "('with TestClient(app) as client:'), with 'async with pool:', or with 'await pool.aclose()'; "
            "an executor with 'with' or shutdown()"
        )
