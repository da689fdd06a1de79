"""What health routes say of a pool with two backends."""

from __future__ import annotations

import httpx
import pytest
from starlette.applications import Starlette

from lifepool.integrations.health import health_routes
from tests.engine.gates import until
from tests.remote.two_backends import world


@pytest.mark.parametrize("mode", ["overflow", "fallback"])
async def test_readyz_says_that_the_cluster_is_lost(mode: str) -> None:
    async with world(mode) as w:
        app = Starlette(routes=health_routes(w.pool, metrics=False))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            assert (await client.get("/readyz")).json() == {"ready": True, "reasons": []}
            await w.cut()
            lost = await client.get("/readyz")
            assert lost.status_code == 200
            (degraded,) = lost.json()["degraded"]
            assert (degraded["pool"], degraded["reason"]) == ("pool", "breaker-open")
            assert "this machine runs them" in degraded["detail"]
            w.cluster.mend()
            await until(lambda: w.backend.why_unavailable() is None)
            assert (await client.get("/livez")).status_code == 200
