"""Readiness: red as soon as this server should be sent nothing more, and green again when it should."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import pytest

from lifepool import Pool
from lifepool.integrations.health import reasons_against
from tests.engine.gates import Gate, until
from tests.integrations.site import a_site
from tests.tasks import double, hold


async def test_it_turns_red_at_sigterm_itself_while_a_request_still_runs(gate: Gate, signals: list[int]) -> None:
    async with a_site(gate) as site:
        client = await site.ask("GET", "/waiting")
        visitor = await gate.arrival()
        assert site.pool.readiness().ready
        signal.raise_signal(signal.SIGTERM)
        assert site.pool.readiness().reasons == ("terminating",)
        visitor.let_through()
        assert await client.answer() == b'"finished"'
        await client.leave()
    assert signals == [signal.SIGTERM], "uvicorn passes on what it caught: nobody's handler was lost"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_signal_reaches_whoever_handled_it_before_and_the_handler_is_put_back(
    signals: list[int], number: signal.Signals
) -> None:
    handler = signal.getsignal(number)
    pool = Pool(backend="inline")
    async with pool.lifespan(None):
        signal.raise_signal(number)
        assert pool.readiness().reasons == ("terminating",)
    assert signals == [number]
    assert signal.getsignal(number) is handler


async def test_a_full_queue_turns_it_red_until_there_is_room(gate: Gate) -> None:
    async with Pool(max_workers=1, max_queue=1) as pool:
        waiting = pool.submit(hold, gate.address)
        visitor = await gate.arrival()
        waits = pool.submit(double, 21)
        await until(lambda: pool.statistics().queued == 1)
        assert pool.readiness().reasons == ("saturated",)
        visitor.let_through()
        await waiting
        assert await waits == 42
        assert pool.readiness().ready


def waits_for_the_gate(gate: Gate) -> dict[str, Any]:
    return {"initializer": hold, "initargs": (gate.address,)}


async def test_it_is_red_while_the_only_worker_is_being_replaced_however_long_that_takes(gate: Gate) -> None:
    pool = Pool(max_workers=1, **waits_for_the_gate(gate))
    starting = asyncio.create_task(pool.start())
    first = await gate.arrival()
    first.let_through()
    await starting
    async with pool:
        assert pool.readiness().ready
        os.kill(first.pid, signal.SIGKILL)
        second = await gate.arrival()  # its initializer hangs
        assert pool.readiness().reasons == ("no-worker",)
        (reason,) = reasons_against(pool)
        assert reason["detail"] == "no worker is up: 1 of 1 are starting, and 0 tasks wait"
        os.kill(second.pid, signal.SIGSTOP)
        second.let_through()
        assert pool.readiness().reasons == ("no-worker",)
        os.kill(second.pid, signal.SIGCONT)
        await until(lambda: pool.readiness().ready)
        assert pool.statistics().workers_up == 1


async def test_one_worker_that_is_up_is_enough(gate: Gate) -> None:
    pool = Pool(max_workers=2, **waits_for_the_gate(gate))
    starting = asyncio.create_task(pool.start())
    first = await gate.arrival()
    first.let_through()
    (await gate.arrival()).let_through()
    await starting
    async with pool:
        os.kill(first.pid, signal.SIGKILL)
        await gate.arrival()
        assert pool.readiness().ready


async def test_a_pool_that_has_let_all_workers_go_is_ready(gate: Gate) -> None:
    options = waits_for_the_gate(gate)
    async with Pool(max_workers=1, min_workers=0, idle_timeout=0.001, **options) as pool:
        assert pool.readiness().ready, "nothing to do, nobody needed"
        handle = pool.submit(double, 21)
        visitor = await gate.arrival()
        assert pool.readiness().reasons == ("no-worker",), "there is something to do, and nobody up"
        visitor.let_through()
        assert await handle == 42
        await until(lambda: not pool.statistics().workers)
        assert pool.readiness().ready
