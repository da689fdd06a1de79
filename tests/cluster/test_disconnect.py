"""The client of a request goes away: what runs for it on a node is broken off, on every engine."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from tests import tasks
from tests.cluster.leaving_client import ask_and_leave
from tests.engine.gates import Gate, until

if TYPE_CHECKING:
    from tests.cluster.servers import Harness


@pytest.mark.parametrize("hold", [tasks.hold_in_python, tasks.hold_in_c, tasks.hold_stubbornly])
async def test_a_client_that_disconnects_has_its_task_broken_off_on_its_node(
    engine: Harness, gate: Gate, hold: Any
) -> None:
    from fastapi import FastAPI

    from lifepool.integrations.fastapi import install

    pool = Pool(backend=engine.url)
    app = FastAPI()
    install(app, pool)

    @app.get("/held")
    async def held() -> None:
        await pool.run(hold, gate.address)

    gone = asyncio.Event()
    async with pool:
        requests = [
            asyncio.create_task(ask_and_leave(app, "/held", gone)) for _ in range(2)
        ]  # both workers of the node
        for _ in requests:
            await gate.arrival()
        gone.set()
        await asyncio.gather(*requests)
        await until(lambda: pool.statistics().cancelled == 2)
        assert await pool.run(tasks.double, 2, timeout=30) == 4  # a slot is free again
