"""Servers, workers and connections are killed at random, two servers share a store: nothing accepted is lost."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.jobs.chaos import Plan, Report, chaos

if TYPE_CHECKING:
    from pathlib import Path

    from tests.jobs.postgresql import Server

JOBS = 150


def check(report: Report) -> None:
    assert report.wrong == []
    assert report.accepted == JOBS == sum(report.ends.values())
    assert report.ends["lost"] == 0
    assert report.kills["servers"] > 0


async def test_two_servers_on_one_file_lose_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db?synchronous=NORMAL"
    check(await chaos(Plan(url, tmp_path, JOBS, servers=2, pause=0.1, kills=5, random=random.Random(3))))


async def test_two_servers_on_one_postgresql_lose_nothing(tmp_path: Path, postgresql_server: Server) -> None:
    url = postgresql_server.new_store()
    plan = Plan(url, tmp_path, JOBS, servers=2, pause=0.1, kills=5, random=random.Random(3))
    plan.kill_connections = postgresql_server.kill_connections
    check(await chaos(plan))
