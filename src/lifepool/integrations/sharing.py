"""Share the CPUs of an app among its pools."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from lifepool._core.states import PoolState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.pool import Pool


def share_cpus(pools: Sequence[Pool]) -> None:
    """Divide the CPUs among pools of one process whose ``max_workers`` nobody gave.

    What other pools were given is taken off first; each has at least one worker. A pool that runs keeps what it has.

    Args:
        pools: All pools of the app.
    """
    open_ones = [pool for pool in pools if pool.config.sizing is not None and pool.state is PoolState.CREATED]
    if len(pools) < 2 or not open_ones:
        return
    budget = open_ones[0].config.sizing
    assert budget is not None  # noqa: S101 - that is how they were chosen
    claimed = sum(pool.max_workers for pool in pools if pool not in open_ones)
    each, more = divmod(max(0, budget.workers - claimed), len(open_ones))
    for index, pool in enumerate(open_ones):
        config = pool.config
        # Somebody asked for min_workers; nobody asked for fewer.
        asked = config.min_workers if config.min_workers_given else 1
        most = min(max(1, asked, each + (index < more)), config.max_workers)
        pool._runtime.config = dataclasses.replace(
            config,
            max_workers=most,
            min_workers=config.min_workers if config.min_workers_given else most,
            max_workers_source=f"{budget.source}, shared by {len(pools)} pools of the app",
        )
