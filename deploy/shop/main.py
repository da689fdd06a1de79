"""The web process. Where its tasks run is decided by the environment: ``LIFEPOOL_BACKEND``, ``LIFEPOOL_FALLBACK``."""

from __future__ import annotations

from fastapi import FastAPI

from lifepool import Pool
from lifepool.integrations.fastapi import install
from lifepool.integrations.health import health_router
from shop.prices import total

pool = Pool(name="shop")
app = FastAPI()
install(app, pool)
app.include_router(health_router(pool))


@app.get("/total")
async def get_total(prices: str, seconds: float = 0.0) -> dict[str, float]:
    """Add up prices that are separated by commas."""
    return {"total": await pool.run(total, [float(price) for price in prices.split(",")], seconds)}
