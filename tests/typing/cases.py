"""Calls that are right, with the types of their results, and calls that are wrong. Checked, and never run.

A wrong call has ``type: ignore``. Both checkers are told to complain if one is needless: if they pass a wrong call.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, assert_type

from lifepool import Pool, TaskHandle
from lifepool.jobs import Job, Jobs

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lifepool.futures import ProcessPoolExecutor

pool = Pool()
jobs = Jobs(pool)


def score(text: str, limit: int = 3) -> float:
    return len(text) / limit


def show(number: int, *, base: int = 10) -> str:
    return str(number % base)


class Model:
    def __init__(self, path: str) -> None:
        self.path = path

    def predict(self, number: int) -> bytes:
        return bytes(number)


@pool.task
def scored(text: str, limit: int = 3) -> float:
    return score(text, limit)


@pool.task(timeout=2.0, retry_on=ValueError)
def shown(number: int) -> str:
    return str(number)


@pool.batch(max_size=8, timeout=1.0)
def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


async def right() -> None:
    assert_type(await pool.run(score, "a"), float)
    assert_type(await pool.run(score, "a", 3, timeout=2, priority=1, on_cancel="abandon"), float)
    assert_type(await pool.run(time.sleep, 1), None)
    assert_type(await pool.run(math.sqrt, 1), float)
    assert_type(await pool.run(Model, "a"), Model)
    assert_type(await pool.run(Model("a").predict, 1), bytes)
    assert_type(await pool.run(show, 1), str)
    assert_type(await pool.run(functools.partial(show, base=2), 1), str)
    assert_type(await pool.run(len, [1]), int)
    assert_type(await pool.run(scored, "a"), float)
    assert_type(await pool.run(scored, "a", 2, timeout=1), float)
    assert_type(pool.submit(score, "a", retries=1), TaskHandle[float])
    assert_type(pool.submit(shown, 1), TaskHandle[str])
    assert_type(await scored("a", limit=2), float)
    assert_type(scored.submit("a"), TaskHandle[float])
    assert_type(await lengths("a"), int)


async def right_with_many() -> None:
    assert_type(pool.map(show, [1], ordered=False, buffer=4), AsyncIterator[str])
    assert_type(pool.map(shown, range(3)), AsyncIterator[str])
    assert_type(await pool.gather(show, [1]), list[str])
    assert_type(await pool.gather(score, {"a"}, chunksize=10, on_full="wait"), list[float])
    assert_type(await pool.gather(shown, [1], timeout=1), list[str])
    assert_type(await pool.gather(show, [1], return_exceptions=True), list[str | BaseException])
    assert_type(await pool.gather(shown, [1], return_exceptions=True), list[str | BaseException])
    assert_type(await pool.gather(show, [1], return_exceptions=False), list[str])


def right_in_threads(executor: ProcessPoolExecutor) -> None:
    assert_type(pool.from_thread.run(score, "a", timeout=1), float)
    assert_type(pool.from_thread.run(scored, "a"), float)
    assert_type(pool.from_thread.run(lengths, "a"), int)
    future: Future[float] = executor.submit(score, "a", limit=2)
    assert_type(future.result(), float)
    assert_type(list(executor.map(show, [1], buffersize=2)), list[str])


async def right_jobs() -> None:
    assert_type(await jobs.submit(score, "a", retries=2), Job)
    assert_type(await jobs.submit(show, 1, tags=["a"]), Job)


async def wrong_jobs() -> None:
    await jobs.submit(score, 1)  # type: ignore[arg-type]
    await jobs.submit(score, "a", limit="2")  # type: ignore[arg-type]


async def wrong() -> None:
    await pool.run(score, 1)  # type: ignore[arg-type]
    await pool.run(score)  # type: ignore[arg-type, call-arg]
    await pool.run(score, "a", "b")  # type: ignore[arg-type, call-arg]
    await pool.run(score, "a", 1, 2)  # type: ignore[arg-type, call-arg]
    await pool.run(score, "a", limit=2)  # type: ignore[call-overload]
    await pool.run(score, "a", timeout="2")  # type: ignore[call-overload]
    await pool.run(score, "a", on_cancel="drop")  # type: ignore[call-overload]
    await pool.run(Model("a").predict, "1")  # type: ignore[arg-type]
    await pool.run(scored, 1)  # type: ignore[arg-type]
    await pool.run(scored)  # type: ignore[arg-type, call-arg]
    pool.submit(score, 1)  # type: ignore[arg-type]
    pool.submit(shown, "1")  # type: ignore[arg-type]
    pool.submit(show, 1, base=2)  # type: ignore[call-overload]
    await scored(1)  # type: ignore[arg-type]
    await scored("a", size=2)  # type: ignore[call-arg]
    await lengths(1)  # type: ignore[arg-type]


async def wrong_with_many() -> None:
    pool.map(show, ["1"])  # type: ignore[arg-type]
    pool.map(shown, ["1"])  # type: ignore[arg-type]
    pool.map(show, [1], fair_key="a")  # type: ignore[call-overload]
    await pool.gather(show, ["1"])  # type: ignore[arg-type]
    await pool.gather(shown, ["1"])  # type: ignore[arg-type]
    await pool.gather(show, [1], buffer=2)  # type: ignore[call-overload]
    _: list[str] = await pool.gather(show, [1], return_exceptions=True)  # type: ignore[assignment]


def wrong_in_threads(executor: ProcessPoolExecutor) -> None:
    pool.from_thread.run(score, 1)  # type: ignore[arg-type]
    pool.from_thread.run(lengths, 1)  # type: ignore[arg-type]
    executor.submit(score, 1)  # type: ignore[arg-type]
    executor.submit(score, "a", size=1)  # type: ignore[call-arg]


def wrong_declarations() -> None:
    @pool.task(timeout="2")  # type: ignore[call-overload, untyped-decorator]
    def late(text: str) -> Any:
        return text

    @pool.batch(copy=False)  # type: ignore[call-overload, untyped-decorator]
    def many(texts: list[str]) -> list[str]:
        return texts
