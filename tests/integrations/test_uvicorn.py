"""Real servers, real signals: answers arrive, and no process is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest

from tests.integrations.serving import PATIENCE_S, end, serving, started, still_there

if TYPE_CHECKING:
    from tests.engine.gates import Gate
    from tests.integrations.serving import Server


@pytest.fixture
def http() -> httpx.AsyncClient:
    # A server says that it is ready just before it listens: connect again for a few seconds.
    return httpx.AsyncClient(timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5))


async def pids_of_servers(http: httpx.AsyncClient, server: Server, count: int) -> set[int]:
    """Ask until each server process has answered once; the kernel deals the connections out."""
    seen: set[int] = set()
    async with asyncio.timeout(PATIENCE_S):
        while len(seen) < count:
            answers = await asyncio.gather(
                *(http.get(f"{server.url}/pids", headers={"connection": "close"}) for _ in range(8))
            )
            seen |= {answer.json()[0] for answer in answers}
    return seen


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_it_serves_on_either_loop(http: httpx.AsyncClient, loop: str) -> None:
    with serving("app", "--loop", loop) as server:
        async with http:
            host, worker = (await http.get(f"{server.url}/pids")).json()
        assert host == server.process.pid
        assert worker in {process.pid for process in server.family()}
        assert end(server) == []
        assert server.process.returncode in (0, -signal.SIGTERM)
        assert "Traceback" not in server.output


@pytest.mark.parametrize("workers", [1, 2])
async def test_sigterm_while_a_task_runs_lets_it_answer_and_leaves_nothing(
    http: httpx.AsyncClient, gate: Gate, workers: int
) -> None:
    with serving("app", "--workers", str(workers)) as server:
        async with http:
            assert len(await pids_of_servers(http, server, workers)) == workers
            request = asyncio.ensure_future(http.get(f"{server.url}/hold", params={"address": gate.address}))
            visitor = await gate.arrival()
            family = server.family()
            server.process.terminate()
            await asyncio.to_thread(server.read_until, "(?:Waiting for connections to close|Shutting down)")
            visitor.let_through()
            answer = await request
        assert (answer.status_code, answer.json()) == (200, "finished")
        await asyncio.to_thread(server.wait)
        assert still_there(family) == []
        assert "Traceback" not in server.output


@pytest.mark.parametrize(("workers", "path"), [(1, "/hold"), (2, "/hang")])
async def test_sigkill_of_the_servers_leaves_no_worker(
    http: httpx.AsyncClient, gate: Gate, workers: int, path: str
) -> None:
    with serving("app", "--workers", str(workers)) as server:
        async with http:
            hosts = await pids_of_servers(http, server, workers)
            request = asyncio.ensure_future(http.get(server.url + path, params={"address": gate.address}))
            visitor = await gate.arrival()
            family = server.family()
            assert visitor.pid in {process.pid for process in family}
            for pid in (server.process.pid, *(hosts - {server.process.pid})):  # the one first that would replace them
                os.kill(pid, signal.SIGKILL)
            with pytest.raises(httpx.HTTPError):
                await request
        await asyncio.to_thread(server.wait)
        assert still_there(family) == []


async def test_a_killed_server_process_takes_its_workers_along_while_the_other_goes_on(http: httpx.AsyncClient) -> None:
    with serving("app", "--workers", "2") as server:
        async with http:
            first, second = await pids_of_servers(http, server, 2)
            its_workers = psutil.Process(first).children(recursive=True)
            assert its_workers
            os.kill(first, signal.SIGKILL)
            assert still_there(its_workers) == []
            server.read_until("Application startup complete.*" * 3)  # uvicorn replaces it
            answers = await pids_of_servers(http, server, 2)
            assert second in answers
            assert first not in answers
        assert end(server) == []


async def test_a_hung_task_does_not_outlive_the_time_limit_of_a_graceful_shutdown(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    with serving("app", "--timeout-graceful-shutdown", "1") as server:
        async with http:
            request = asyncio.ensure_future(http.get(f"{server.url}/hang", params={"address": gate.address}))
            await gate.arrival()
            assert await asyncio.to_thread(end, server) == []
            with pytest.raises(httpx.HTTPError):
                (await request).raise_for_status()


hangs_by_itself = pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="uvicorn itself hangs: asyncio's wait_closed() waits for open connections"
)


@pytest.mark.parametrize("loop", [pytest.param("asyncio", marks=hangs_by_itself), "uvloop"])
async def test_a_second_ctrl_c_that_skips_the_shutdown_leaves_nothing(
    http: httpx.AsyncClient, gate: Gate, loop: str
) -> None:
    with serving("app", "--loop", loop) as server:
        async with http:
            request = asyncio.ensure_future(http.get(f"{server.url}/hang", params={"address": gate.address}))
            await gate.arrival()
            family = server.family()
            os.killpg(server.process.pid, signal.SIGINT)
            await asyncio.to_thread(server.read_until, "Waiting for connections to close")
            os.killpg(server.process.pid, signal.SIGINT)
            await asyncio.to_thread(server.wait)
            assert still_there(family) == []
            with pytest.raises(httpx.HTTPError):
                (await request).raise_for_status()


@pytest.mark.parametrize("arguments", [(), ("--workers", "2"), ("--reload", "--reload-dir", "tests/integrations")])
async def test_ctrl_c_in_a_terminal_prints_no_traceback_and_leaves_nothing(
    http: httpx.AsyncClient, arguments: tuple[str, ...]
) -> None:
    with serving("app", *arguments) as server:
        async with http:
            assert (await http.get(f"{server.url}/pids")).status_code == 200
        family = server.family()
        assert len(family) >= 3
        os.killpg(server.process.pid, signal.SIGINT)  # a terminal signals the whole group
        await asyncio.to_thread(server.wait)
        assert still_there(family) == []
        assert "Traceback" not in server.output
        assert "KeyboardInterrupt" not in server.output


async def test_a_reload_starts_new_workers_and_ends_the_old_ones(http: httpx.AsyncClient, tmp_path: Any) -> None:
    watched = tmp_path / "changed.py"
    watched.write_text("")
    with serving("app", "--reload", "--reload-dir", str(tmp_path)) as server:
        async with http:
            host, worker = (await http.get(f"{server.url}/pids")).json()
            old = [psutil.Process(host), psutil.Process(worker)]
            watched.write_text("changed = True")
            server.read_until("Application startup complete.*" * 2)
            assert still_there(old) == []
            new_host, new_worker = (await http.get(f"{server.url}/pids")).json()
        assert {host, worker}.isdisjoint({new_host, new_worker})
        assert end(server) == []


async def test_a_crash_in_a_task_is_one_answer_and_the_server_goes_on(http: httpx.AsyncClient) -> None:
    with serving() as server:
        async with http:
            assert (await http.get(f"{server.url}/crash")).json()["type"] == "urn:lifepool:worker-lost"
            assert (await http.get(f"{server.url}/pids")).status_code == 200
        assert end(server) == []


# --- with_pool ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("app", "lifespan"), [("bare_app", "auto"), ("bare_app", "on"), ("starlette_app", "auto")])
async def test_any_asgi_app_gets_a_pool(http: httpx.AsyncClient, app: str, lifespan: str) -> None:
    with serving(app, "--lifespan", lifespan) as server:
        async with http:
            host, worker = (await http.get(f"{server.url}/pids")).json()
        assert host == server.process.pid
        assert worker in {process.pid for process in server.family()}
        assert end(server) == []
        assert "Traceback" not in server.output
        assert app == "bare_app" or "own begins, pool running" in server.output
        assert app == "bare_app" or "own ends, pool running" in server.output


@pytest.mark.parametrize("app", ["failing_app", "failing_wrapped_app"])
def test_an_app_that_fails_to_start_leaves_no_worker(app: str) -> None:
    with started(app) as server:
        worker = int(server.read_until(r"workers: (\d+)"))
        try:
            family = [*server.family(), psutil.Process(worker)]
        except psutil.NoSuchProcess:  # gone already
            family = []
        assert server.wait() == 3  # uvicorn: the startup failed
        assert still_there(family) == []
        assert "no database" in server.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_to_end_while_its_workers_come_up_does_not_wait_for_them(loop: str, number: int) -> None:
    with started("hanging_app", "--loop", loop) as server:
        server.read_until("loading")
        assert end(server, number) == []
        assert "closed while it started" in server.output
