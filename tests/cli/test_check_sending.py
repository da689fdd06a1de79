"""`lifepool check`, LP008, LP009, LP013, LP014: what is sent to a pool."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from lifepool import Pool
from lifepool.cli.check.detect.known import RUN_IN_EXECUTOR
from lifepool.cli.check.detect.sending import OPTIONS
from tests.cli.sources import codes

if TYPE_CHECKING:
    from pathlib import Path

IMPORTS = """
import asyncio, functools, multiprocessing, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from fastapi import Depends, FastAPI, Request
from lifepool import Pool, PoolDep
"""


# --- LP008, LP009, LP013, LP014: what is sent ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("send", "found"),
    [
        ("await pool.run(lambda: 1)", ["LP008"]),
        ("pool.submit(local)", ["LP008"]),
        ("await pool.run(functools.partial(local, 1))", ["LP008"]),
        ("f = lambda: 1; await pool.run(f)", ["LP008"]),
        ("executor.submit(local)", ["LP008"]),
        ("await loop.run_in_executor(executor, lambda: 1)", ["LP008"]),
        ("await pool.gather(local, [1])", ["LP008"]),
        ("await pool.run(self.method)", ["LP009"]),
        ("await loop.run_in_executor(executor, self.method)", ["LP009"]),
        ("await pool.run(model.predict, 1)", ["LP009"]),
        ("await pool.run(self.static)", []),
        ("await pool.run(self.given)", []),
        ("await pool.run(top)", []),
        ("await pool.run(functools.partial(top, 1))", []),
        ("await loop.run_in_executor(None, lambda: 1)", []),
        ("await loop.run_in_executor(threads, lambda: 1)", []),
        ("await inline.run(lambda: 1)", []),
        ("await other.run(lambda: 1)", []),
    ],
)
def test_only_what_a_worker_can_import_may_be_sent(send: str, found: list[str], tmp_path: Path) -> None:
    source = f"""{IMPORTS}
import joblib
model = joblib.load("m")
def top(): ...
class Service:
    def __init__(self, given): self.given = given
    def method(self): ...
    @staticmethod
    def static(): ...
    async def work(self, pool: Pool, executor: ProcessPoolExecutor, threads: ThreadPoolExecutor, other):
        def local(): ...
        loop = asyncio.get_running_loop()
        inline = Pool(backend="inline")
        await inline.start()
        {send}
"""
    assert codes(tmp_path, source) == found


def test_an_initializer_travels_too(tmp_path: Path) -> None:
    assert codes(tmp_path, f"{IMPORTS}\npool = Pool(initializer=lambda: None)") == ["LP008"]


@pytest.mark.parametrize(
    ("how", "where"),
    [
        ("pool = Depends()", "async def work(pool: PoolDep)"),
        ("P = Annotated[Pool, Depends(get)]", "async def work(pool: P)"),
        ("", "async def work(pool: 'Pool | None')"),
        ("from typing import Optional", "async def work(pool: Optional[Pool])"),
        ("pool = Pool()", "async def work()"),
        ("def get() -> Pool: ...\npool = get()", "async def work()"),
    ],
)
def test_a_pool_is_recognised_by_what_the_source_says_of_it(how: str, where: str, tmp_path: Path) -> None:
    source = f"{IMPORTS}from typing import Annotated\n{how}\n{where}:\n    await pool.run(lambda: 1)"
    assert codes(tmp_path, source) == ["LP008"]


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("await pool.run(sorted, [], reverse=True)", ["LP013"]),
        ("await loop.run_in_executor(None, sorted, [], reverse=True)", ["LP013"]),
        ("await pool.run(sorted, [], timeout=1, retries=2, priority=3)", []),
        ("await pool.run(sorted, [], **options)", []),
        ("executor.submit(sorted, [], reverse=True)", []),
    ],
)
def test_keywords_are_the_pool_s(call: str, found: list[str], tmp_path: Path) -> None:
    source = (
        f"{IMPORTS}\nasync def work(pool: Pool, executor: ProcessPoolExecutor, loop: asyncio.AbstractEventLoop):\n    "
    )
    assert codes(tmp_path, source + call) == found


def test_the_pool_s_keywords_are_those_that_its_methods_take() -> None:
    for method in (Pool.run, Pool.submit):
        taken = inspect.signature(method).parameters.values()
        known = OPTIONS[f"lifepool.Pool().{method.__name__}"]
        assert known == {each.name for each in taken if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert RUN_IN_EXECUTOR in OPTIONS


@pytest.mark.parametrize(
    ("call", "found"),
    [
        ("asyncio.gather(*(pool.submit(len, x) for x in items))", ["LP014"]),
        ("asyncio.gather(*[pool.run(len, x) for x in (1, 2, 3)])", []),
        ("asyncio.gather(*[pool.run(len, x) for x in range(pool.max_workers)])", []),
        ("asyncio.gather(pool.run(len, 1), pool.run(len, 2))", []),
        ("asyncio.gather(*[fetch(x) for x in items])", []),
    ],
)
def test_a_task_for_each_item_is_noted(call: str, found: list[str], tmp_path: Path) -> None:
    source = f"{IMPORTS}\nasync def work(pool: Pool, items, fetch):\n    await {call}"
    assert codes(tmp_path, source) == found
