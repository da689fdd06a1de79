"""A small app under test, as a user of lifepool.testing has one."""

from __future__ import annotations

from fastapi import FastAPI

from lifepool import Pool, PoolDep
from lifepool.integrations.fastapi import install

pool = Pool(max_workers=2)
app = FastAPI()
install(app, pool)


def count_words(text: str, scale: int = 1) -> int:
    return len(text.split()) * scale


def double(number: int) -> int:
    return 2 * number


def fails(text: str) -> int:
    raise LookupError(text)


@pool.task(timeout=3.0, retries=1)
def reverse(text: str) -> str:
    return text[::-1]


@pool.batch(max_size=4)
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


@app.get("/words")
async def words(text: str, pool: PoolDep) -> int:
    return await pool.run(count_words, text, timeout=60.0)


@app.get("/doubled")
async def doubled(pool: PoolDep) -> list[int]:
    return await pool.gather(double, [1, 2, 3], timeout=60.0)
