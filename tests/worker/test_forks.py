"""Processes that a task forks."""

from __future__ import annotations

import signal

import pytest

from lifepool import Pool
from tests.worker import killed_at_fork


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
async def test_a_process_that_a_task_forks_is_ended_by_a_signal_however_early(number: int) -> None:
    async with Pool(max_workers=1, preload=[killed_at_fork.__name__]) as pool:
        for _ in range(2):
            assert await pool.run(killed_at_fork.fork_and_kill, int(number)) == (-number, False)
