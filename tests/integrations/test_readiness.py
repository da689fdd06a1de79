"""Readiness: red as soon as this server should be sent nothing more, and green again when it should."""

from __future__ import annotations

import signal

import pytest

from lifepool import Pool
from tests.engine.gates import Gate, until
from tests.integrations.test_disconnect import a_site
from tests.tasks import double, hold


async def test_it_turns_red_at_sigterm_itself_while_a_request_still_runs(gate: Gate, signals: list[int]) -> None:
    async with a_site(gate) as site:
        client = await site.ask("GET", "/held")
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
        held = pool.submit(hold, gate.address)
        visitor = await gate.arrival()
        waits = pool.submit(double, 21)
        await until(lambda: pool.statistics().queued == 1)
        assert pool.readiness().reasons == ("saturated",)
        visitor.let_through()
        await held
        assert await waits == 42
        assert pool.readiness().ready
