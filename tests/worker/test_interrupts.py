"""Which thread of a worker an interrupt comes to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from tests.faults.inside import only_process
from tests.worker import signal_tasks

if TYPE_CHECKING:
    from tests.engine.gates import Gate


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread of another process can't be signalled")
async def test_an_interrupt_comes_to_the_main_thread_whatever_other_threads_do(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(signal_tasks.wait_for_interrupt, gate.address)
        await gate.arrival()
        only_process(pool).interrupt()
        assert await handle
