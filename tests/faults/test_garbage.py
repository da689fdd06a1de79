"""What a worker says is not believed: a frame that makes no sense costs its life, and nobody else anything."""

from __future__ import annotations

import os
import pickle

import pytest

from lifepool import Pool, WorkerLost
from lifepool._core.framing import HEADER, MAX_FRAME_BYTES, Kind, header
from tests import tasks
from tests.engine.gates import Gate, until
from tests.faults import harmful_tasks
from tests.stress.footprint import Footprint

NOTHING = pickle.dumps(None)
MIB = 1 << 20

FATAL = {
    "another magic": HEADER.pack(b"pl", 1, Kind.RESULT, 0, 0, 0),
    "another version": HEADER.pack(b"lp", 2, Kind.RESULT, 0, 0, 0),
    "kind zero": HEADER.pack(b"lp", 1, 0, 0, 0, 0),
    "a length above the limit": header(Kind.RESULT, MAX_FRAME_BYTES, 1),
    "half a frame of text": b"Traceback (most recent call last):\n",
    "an answer for nobody": header(Kind.RESULT, len(NOTHING), 4711) + NOTHING,
    "an error for nobody": header(Kind.ERROR, len(NOTHING), 4711) + NOTHING,
    "a failed start that is no pickle": header(Kind.START_FAILED, 3) + b"\xff\xff\xff",
    "a failed start of another form": header(Kind.START_FAILED, len(NOTHING)) + NOTHING,
    "a task for the server": header(Kind.TASK, 0, 1),
}

HARMLESS = {
    "ready for the second time": header(Kind.READY, 0),
    "progress of nobody": header(Kind.PROGRESS, len(NOTHING), 4711) + NOTHING,
    "progress that is no pickle": header(Kind.PROGRESS, 3, 1) + b"\xff\xff\xff",
    "memory": header(Kind.MEMORY, 0, 0, 2**64 - 1),
}


@pytest.mark.parametrize("raw", FATAL.values(), ids=FATAL.keys())
async def test_nonsense_ends_the_worker_and_only_its_task_is_lost(raw: bytes, gate: Gate) -> None:
    async with Pool(max_workers=2) as pool:
        neighbour = pool.submit(tasks.hold, gate.address, "fine")
        visitor = await gate.arrival()
        with pytest.raises(WorkerLost) as caught:
            await pool.run(harmful_tasks.say, raw, timeout=20)
        assert "invalid data" in str(caught.value) or "did not have" in str(caught.value)
        visitor.let_through()
        assert await neighbour == "fine"
        assert await pool.run(tasks.double, 21) == 42


@pytest.mark.parametrize("raw", HARMLESS.values(), ids=HARMLESS.keys())
async def test_what_is_merely_out_of_place_changes_nothing(raw: bytes) -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        assert await pool.run(harmful_tasks.say_and_return, raw) == "answered"
        assert await pool.run(os.getpid) == pid
        assert pool.statistics().workers == {"ready": 1}


async def test_half_a_frame_and_then_nothing_is_the_timeouts_business(gate: Gate) -> None:
    """The server can't know that no more will come; it does not wait for it either."""
    async with Pool(max_workers=1) as pool:
        with pytest.raises(TimeoutError):
            await pool.run(harmful_tasks.say, header(Kind.RESULT, 100, 1) + b"half", timeout=0.3)
        assert await pool.run(tasks.double, 21) == 42


async def test_memory_for_an_answer_that_never_came_is_given_back() -> None:
    async with Pool(max_workers=1, max_payload=256 * MIB) as pool:
        await pool.run(tasks.nothing)
        before = Footprint.settled().rss
        handle = pool.submit(harmful_tasks.say, header(Kind.RESULT, 200 * MIB, 1))
        await until(lambda: pool.statistics().running == 1)
        handle.cancel()
        await until(lambda: pool.statistics().workers == {"ready": 1})
        assert Footprint.settled().rss - before < 32 * MIB
