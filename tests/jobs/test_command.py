"""`lifepool jobs`: the real script on real stores, with and without a server."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import Pool
from lifepool.jobs import Jobs
from tests.cli.runner import lifepool
from tests.engine.gates import Gate
from tests.jobs import tasks

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.jobs.postgresql import Server

PATIENCE_S = 30.0


async def run(*arguments: str, store: str = "") -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(lambda: lifepool("jobs", *arguments, LIFEPOOL_JOBS_STORE=store))


async def read(*arguments: str) -> Any:
    done = await run(*arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


async def test_jobs_are_listed_shown_cancelled_and_retried_where_a_server_runs_them(store_url: str) -> None:
    with Gate() as gate:
        async with Jobs(Pool(max_workers=1), store=store_url) as jobs:
            fails = await jobs.submit(tasks.fail, "on purpose", tags=["night"])
            await jobs.wait(fails.id, PATIENCE_S)
            runs = await jobs.submit(tasks.report_and_hold, gate.address, name="[bold]report")
            await gate.arrival()
            waits = await jobs.submit(tasks.add, 1, 2, run_at=timedelta(days=1))

            listed = await run("list", "--store", store_url)
            assert [job.id in listed.stdout for job in (fails, runs, waits)] == [True] * 3
            assert "in the store: 1 queued, 1 running, 1 failed" in listed.stdout
            assert "ValueError: on purpose" in listed.stdout
            assert "[bold]report" in listed.stdout, "a name is no markup"
            found = await read("list", "--store", store_url, "--state", "failed", "--tag", "night")
            assert ([job["id"] for job in found["jobs"]], found["next"]) == ([fails.id], None)
            page = await read("list", "--store", store_url, "--limit", "2")
            assert [job["id"] for job in page["jobs"]] == [waits.id, runs.id]
            rest = await read("list", "--store", store_url, "--cursor", page["next"])
            assert [job["id"] for job in rest["jobs"]] == [fails.id]

            done = await run("cancel", runs.id, waits.id, fails.id, store=store_url)
            assert done.returncode == 0
            assert f"{runs.id}: it runs, and is being broken off" in done.stdout
            assert f"{waits.id}: cancelled" in done.stdout
            assert f"{fails.id}: it had ended already: failed" in done.stdout
            assert (await jobs.wait(runs.id, PATIENCE_S)).state == "cancelled", "its server was notified"

            done = await run("retry", fails.id, "unknown", "--store", store_url)
            assert done.returncode == 1
            assert f"{fails.id}: queued again" in done.stdout
            assert "there is no job 'unknown'" in done.stdout
            assert (await jobs.wait(fails.id, PATIENCE_S)).attempts == 1, "its server was notified"


async def test_a_job_is_shown_with_its_result_or_why_there_is_none_and_needs_no_secret(sqlite_url: str) -> None:
    async with Jobs(Pool(max_workers=1), store=sqlite_url, secret="a secret") as jobs:
        sums = await jobs.submit(tasks.add, 20, 22)
        point = await jobs.submit(tasks.make_set)
        fails = await jobs.submit(tasks.fail, "\x1b[31mon purpose")
        for job in (sums, point, fails):
            await jobs.wait(job.id, PATIENCE_S)
    shown = await run("show", sums.id, "--store", sqlite_url)
    assert [line.split() for line in shown.stdout.splitlines() if line.startswith(("state", "result"))] == [
        ["state", "succeeded"],
        ["result", "42"],
    ]
    assert (await read("show", sums.id, "--store", sqlite_url))["result"] == 42
    assert (
        "a pickle, and there is no secret" in (await read("show", point.id, "--store", sqlite_url))["result_not_shown"]
    )
    shown = await run("show", fails.id, "--store", sqlite_url)
    assert "\x1b" not in shown.stdout
    assert "raise ValueError(message)" in shown.stdout
    assert (await read("show", fails.id, "--store", sqlite_url))["failure"]["type"] == "builtins.ValueError"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["list"], 2, "which store? Say --store sqlite:///jobs.db, or set LIFEPOOL_JOBS_STORE"),
        (["list", "--store", "mysql://host/db"], 2, "expected 'sqlite:///jobs.db'"),
        (["list", "--store", "sqlite:///nowhere.db"], 1, "nowhere.db: is that where the server keeps its jobs?"),
        (["list", "--state", "ready", "--store", "sqlite:///x.db"], 2, "'ready' is no state; there are queued"),
        (["list", "--cursor", "?", "--store", "sqlite:///x.db"], 2, "expected what the page before has as 'next'"),
    ],
)
def test_what_was_asked_wrongly_is_said_on_one_line(arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    done = lifepool("jobs", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("lifepool jobs list: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "nothing is made"


async def test_an_unknown_job_is_said(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url):
        pass
    done = await run("show", "unknown", "--store", sqlite_url)
    assert (done.returncode, done.stderr) == (1, "lifepool jobs show: there is no job 'unknown'\n")


def test_a_database_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
    before = path.read_bytes()
    done = lifepool("jobs", "list", "--store", f"sqlite:///{path}")
    assert (done.returncode, "there are no jobs in it" in done.stderr) == (1, True)
    (tmp_path / "text.db").write_text("no database at all" * 100)
    done = lifepool("jobs", "list", "--store", f"sqlite:///{tmp_path}/text.db")
    assert (done.returncode, "is damaged, or no database" in done.stderr) == (1, True)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["shop.db", "text.db"]


async def test_an_empty_database_and_one_that_can_not_be_reached_are_said(
    postgresql_server: Server, tmp_path: Path
) -> None:
    done = await run("list", "--store", postgresql_server.new_store())
    assert (done.returncode, "no server has used it as a store yet" in done.stderr) == (1, True)
    done = await run("list", "--store", f"postgresql+psycopg://nobody@/nothing?host={tmp_path}")
    assert (done.returncode, "PostgreSQL can't be used now" in done.stderr) == (1, True)


async def test_a_store_of_another_version_says_which_one_to_use(sqlite_url: str) -> None:
    async with Jobs(None, store=sqlite_url):
        pass
    for version, said in ((99, "use the version of the servers"), (0, "start a server with it")):
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
            connection.execute("UPDATE lifepool_jobs_schema SET version = ?", (version,))
            connection.commit()
        done = await run("list", "--store", sqlite_url)
        assert (done.returncode, said in done.stderr) == (1, True)
