"""A worker is killed in each phase of its life and of its tasks: forced, not hoped for."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool, WorkerLost
from tests import tasks
from tests.engine.gates import PATIENCE_S, Gate, until
from tests.faults import harmful_tasks
from tests.faults.inside import StingySocket, answers_waiting, only_channel, tickets_taken, unread

if TYPE_CHECKING:
    from lifepool.backends.local.channel import Channel


async def test_killed_before_it_is_ready_a_worker_is_replaced_and_the_task_runs(gate: Gate) -> None:
    initializer: dict[str, Any] = {
        "initializer": harmful_tasks.wait_at_the_gate_while_loading,
        "initargs": (gate.address,),
    }
    async with Pool(max_workers=1, min_workers=0, **initializer) as pool:
        handle = pool.submit(tasks.double, 21)
        for _ in range(2):  # one more would be a crash loop
            os.kill((await gate.arrival()).pid, signal.SIGKILL)
        (await gate.arrival()).let_through()
        assert await handle == 42
        assert pool.statistics().restarts == {"failed to start": 2}


async def test_killed_before_it_took_the_task_a_worker_loses_nothing() -> None:
    """The worker is stopped, so that the large task is half written when it dies."""
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        os.kill(pid, signal.SIGSTOP)
        handle = pool.submit(tasks.echo, bytes(8 << 20))
        os.kill(pid, signal.SIGKILL)
        assert await handle == bytes(8 << 20)
        assert pool.statistics().lost == 0


@pytest.mark.parametrize("allowance", [0, 10, 24, 40])
@pytest.mark.parametrize("retries", [0, 1])
async def test_killed_while_it_reads_the_task_a_worker_loses_that_task(allowance: int, retries: int) -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        channel: Any = only_channel(pool)
        channel._wire = StingySocket(channel._wire, allowance)
        handle = pool.submit(tasks.echo, "x" * 5000, retries=retries)
        await until(lambda: tickets_taken(channel))  # it has begun, and waits for the rest
        os.kill(pid, signal.SIGKILL)
        if retries:
            assert await handle == "x" * 5000
        else:
            with pytest.raises(WorkerLost) as caught:
                await handle
            assert caught.value.signal == signal.SIGKILL
        assert await pool.run(tasks.double, 21) == 42


def stop_reading(channel: Channel) -> None:
    asyncio.get_running_loop().remove_reader(channel._wire.fileno())


async def test_killed_while_it_writes_the_answer_a_worker_loses_that_task() -> None:
    async with Pool(max_workers=1) as pool:
        pid = await pool.run(os.getpid)
        channel = only_channel(pool)
        stop_reading(channel)
        handle = pool.submit(harmful_tasks.answer_through_a_narrow_socket, 60_000)
        await until(lambda: unread(channel._wire) > 1000)
        assert not answers_waiting(channel), "it was to be in the middle of its answer"
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerLost):
            await handle
        assert await pool.run(tasks.double, 21) == 42


async def test_what_a_worker_answered_before_it_was_killed_is_delivered() -> None:
    async with Pool(max_workers=1) as pool:
        await asyncio.gather(*(pool.submit(tasks.echo, n) for n in range(50)))  # it learns that they are short
        pid = await pool.run(os.getpid)
        channel = only_channel(pool)
        stop_reading(channel)
        handles = [pool.submit(tasks.echo, number) for number in range(4)]
        await until(lambda: 0 < pool.statistics().running == answers_waiting(channel))
        os.kill(pid, signal.SIGKILL)
        assert await asyncio.gather(*handles) == [0, 1, 2, 3]
        assert pool.statistics().lost == 0
        assert await pool.run(os.getpid) != pid


async def test_killed_at_work_a_worker_gives_back_what_is_pipelined_behind(gate: Gate) -> None:
    async with Pool(max_workers=1) as pool:
        async with asyncio.timeout(PATIENCE_S):
            while True:  # until they are pipelined: on a busy machine the first may seem long before the next are sent
                await asyncio.gather(*(pool.submit(tasks.perform, "nothing", n) for n in range(50)))
                held = pool.submit(tasks.perform, "hold", gate.address)
                behind = [pool.submit(tasks.perform, "nothing", number) for number in range(3)]
                if pool.statistics().running > 1:
                    break
                (await gate.arrival()).let_through()
                await asyncio.gather(held, *behind)
        # In the same turn of the loop: nothing has been taken back yet when the worker dies.
        kill_the_next_visitor(gate)
        with pytest.raises(WorkerLost):
            await held
        assert await asyncio.gather(*behind) == [0, 1, 2]


def kill_the_next_visitor(gate: Gate) -> None:
    """Without letting the event loop run."""
    gate._listener.settimeout(20)
    connection, _ = gate._listener.accept()
    gate._listener.setblocking(False)
    with connection:
        os.kill(int(connection.recv(64)), signal.SIGKILL)


async def test_killed_while_the_pool_drains_a_worker_is_replaced_for_those_who_wait(gate: Gate) -> None:
    pool = Pool(max_workers=1)
    await pool.start()
    held = pool.submit(tasks.hold, gate.address)
    waiting = [pool.submit(tasks.double, number) for number in range(5)]
    visitor = await gate.arrival()
    closing = asyncio.ensure_future(pool.aclose())
    await until(lambda: pool.state.value == "draining")
    os.kill(visitor.pid, signal.SIGKILL)
    with pytest.raises(WorkerLost):
        await held
    assert await asyncio.gather(*waiting) == [0, 2, 4, 6, 8]
    await closing
    assert pool.state.value == "closed"


async def test_killed_while_it_is_let_go_a_worker_is_not_missed() -> None:
    async with Pool(max_workers=2, min_workers=0, idle_timeout=0.01) as pool:
        for _ in range(5):
            pid = await pool.run(os.getpid)
            await until(lambda: "ready" not in pool.statistics().workers)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        assert await pool.run(tasks.double, 21) == 42
        assert pool.statistics().lost == 0
