"""A node of deploy/, run as the files say: when it is told to end it finishes its call, and others take what comes."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from typing import TYPE_CHECKING, Any

from lifepool import Pool
from tests.cluster.celery_redis import SECRET, CeleryOnRedis
from tests.cluster.servers import Program, RedisServer, python, wait_until
from tests.deploy.files import DEPLOY, programs
from tests.engine.gates import until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def start(engine: CeleryOnRedis, log: Path) -> Program:
    """Start a node by the command that all files have."""
    commands = {tuple(each.words) for each in programs() if each.words[0] == "lifepool"}
    (words,) = commands
    environment = {"LIFEPOOL_BACKEND": engine.url, "LIFEPOOL_SECRET": SECRET, "LIFEPOOL_MAX_WORKERS": "1"}
    node = python("-m", *words, log=log, PYTHONPATH=str(DEPLOY), **environment)
    wait_until(lambda: node.has_said("the node is up"), "the node")
    return node


async def test_a_rolling_update_of_nodes_costs_no_call(
    redis_program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(DEPLOY))
    monkeypatch.setenv("LIFEPOOL_SECRET", SECRET)
    total: Any = importlib.import_module("shop.prices").total
    with RedisServer(redis_program, tmp_path) as server, CeleryOnRedis(server) as engine:
        old = await asyncio.to_thread(start, engine, tmp_path / "old.log")
        async with Pool(backend=engine.url) as pool:
            under_way = pool.submit(total, [1.0, 2.0], 8.0)
            await until(lambda: pool.statistics().running == 1)
            new = await asyncio.to_thread(start, engine, tmp_path / "new.log")
            old.signal(signal.SIGTERM)
            ending = asyncio.create_task(asyncio.to_thread(old.end))
            assert await asyncio.gather(*[pool.run(total, [float(number)]) for number in range(10)]) == [*range(10)]
            assert await under_way == 3.0
            assert await ending == 0
            assert await pool.run(total, [4.0]) == 4.0
            assert pool.statistics().completed == 12
        assert await asyncio.to_thread(new.end) == 0
    for name in ("shop.prices", "shop"):
        sys.modules.pop(name, None)
