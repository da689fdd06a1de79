"""Scores of a scikit-learn model: ``uvicorn examples.gallery.scoring:app``.

::

    pixels=$(python -c 'print([8] * 64)')
    curl localhost:8000/digit -H 'content-type: application/json' -d "{\"pixels\": $pixels}"

One call of a forest costs nearly as much for one picture as for fifty. So requests that come at the same time share a
call (``@pool.batch``). Each worker has its own model, loaded once (``@pool.resource``).
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import BaseModel, Field

from lifepool import Pool
from lifepool.integrations.fastapi import install

PIXELS = 64  # 8 rows of 8, each from 0 (white) to 16 (black)

pool = Pool()
app = FastAPI(title="Digits")
install(app, pool)


class Picture(BaseModel):
    """A handwritten digit."""

    pixels: Annotated[list[Annotated[float, Field(ge=0, le=16)]], Field(min_length=PIXELS, max_length=PIXELS)]


def train() -> Any:
    """Return a forest that knows handwritten digits; a real service loads a file here."""
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier

    digits = load_digits()
    return RandomForestClassifier(100, random_state=0).fit(digits.data, digits.target)


@pool.resource(eager=True)
def model() -> Any:
    """Return this worker's model."""
    return train()


@pool.batch(max_size=64, timeout=10.0)
def digits_of(pictures: list[list[float]]) -> list[int]:
    """Return which digits these are, by one call of the model."""
    digits: list[int] = model().predict(pictures).tolist()
    return digits


@app.post("/digit")
async def digit(picture: Picture) -> int:
    """Return which digit this is."""
    return await digits_of(picture.pixels)


@app.get("/health")
async def health() -> str:
    """Answer: the event loop is free."""
    return "ok"
