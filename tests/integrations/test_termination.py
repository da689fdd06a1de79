"""SIGTERM and Ctrl-C: heard when they come, passed on, deferred if asked for; the second one ends a drain."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette

from lifepool import Pool, PoolClosed
from lifepool._host import termination
from lifepool.integrations.asgi import with_pool
from tests.engine.gates import until
from tests.engine.scripted import ScriptedBackend
from tests.integrations.serving import PATIENCE_S, serving, still_there
from tests.integrations.test_asgi import Server
from tests.tasks import double

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.engine.gates import Gate

TERM, INT = signal.SIGTERM, signal.SIGINT


def inline(**settings: Any) -> Pool:
    return Pool(backend="inline", **settings)


class Clock:
    """The time between signals."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(termination, "time", clock)
    return clock


# --- who hears ------------------------------------------------------------------------------------------------------


async def test_with_pool_turns_readiness_red_at_the_signal(signals: list[int]) -> None:
    pool = inline()
    handler = signal.getsignal(TERM)
    async with Server(with_pool(Starlette(), pool)):
        assert pool.readiness().ready
        signal.raise_signal(TERM)
        assert pool.readiness().reasons == ("terminating",)
    assert signals == [TERM]
    assert signal.getsignal(TERM) is handler


async def test_with_pool_gives_up_its_start_at_the_signal(signals: list[int]) -> None:
    backend = ScriptedBackend()
    backend.opening = "held"
    server = Server(with_pool(Starlette(), Pool(backend=backend)))
    starting = asyncio.ensure_future(server.start())
    await until(lambda: backend.opens == 1)
    signal.raise_signal(TERM)
    message = await starting
    assert message["type"] == "lifespan.startup.failed"
    assert "closed while it started" in message["message"]
    with pytest.raises(PoolClosed):
        await server.end()


async def test_inside_the_apps_own_lifespan_a_server_is_heard_as_well(signals: list[int]) -> None:
    pool = inline()

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        async with pool:
            yield

    async with own(Starlette()):
        signal.raise_signal(TERM)
        assert pool.readiness().reasons == ("terminating",)
    assert signals == [TERM]


async def test_where_nobody_handles_sigterm_a_with_block_touches_no_handler() -> None:
    before = [signal.getsignal(number) for number in (TERM, INT)]
    assert before[0] == signal.SIG_DFL
    async with inline():
        assert [signal.getsignal(number) for number in (TERM, INT)] == before


def test_where_nobody_handles_sigterm_a_drain_is_finished_before_it_ends_the_process(tmp_path: Path) -> None:
    """hypercorn sends it to its other workers as soon as one of them has ended."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    program = (
        "import asyncio, signal\n"
        "from pathlib import Path\n"
        "from lifepool import Pool\n"
        "async def main():\n"
        "    pool = Pool(max_workers=1)\n"
        "    async with pool.lifespan(None):\n"
        f"        handle = pool.submit(Path.read_text, Path({str(gate)!r}))\n"
        "        handle.add_done_callback(lambda handle: print(handle.result(), flush=True))\n"
        "        while not pool.statistics().running:\n"
        "            await asyncio.sleep(0)\n"
        "        async def tell():\n"
        "            while pool.state.value == 'running':\n"
        "                await asyncio.sleep(0.01)\n"
        "            print(pool.state.value, flush=True)\n"
        "        telling = asyncio.create_task(tell())\n"
        "    print('never said', flush=True)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    script = tmp_path / "script.py"
    script.write_text(program)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "draining\n"
            process.send_signal(TERM)
            gate.write_text("done")
            out, _ = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert out == "done\n"
    assert process.returncode == -TERM


async def test_all_pools_hear_of_it_at_once_and_it_is_passed_on_once(signals: list[int]) -> None:
    one, other = inline(), inline(shutdown_delay=1000.0)
    async with one.lifespan(None), other.lifespan(None):
        signal.raise_signal(TERM)
        assert one.readiness().reasons == other.readiness().reasons == ("terminating",)
        assert signals == []
        signal.raise_signal(INT)
        assert signals == [TERM]


async def test_a_handler_that_somebody_put_on_top_still_reaches_the_server_when_the_pool_has_ended(
    signals: list[int],
) -> None:
    pool = inline()
    async with pool.lifespan(None):
        ours: Any = signal.getsignal(TERM)
        signal.signal(TERM, lambda number, frame: ours(number, frame))
    signal.raise_signal(TERM)
    assert signals == [TERM]
    async with pool.lifespan(None):
        signal.raise_signal(TERM)
        assert pool.readiness().reasons == ("terminating",)
    assert signals == [TERM, TERM]


async def test_nested_lifespans_listen_until_the_last_one_has_ended(signals: list[int]) -> None:
    pool = inline()
    async with pool.lifespan(None):
        async with pool.lifespan(None):
            pass
        signal.raise_signal(TERM)
        assert pool.readiness().reasons == ("terminating",)
    assert signals == [TERM]


# --- the second one -------------------------------------------------------------------------------------------------


async def draining(pool: Pool, signals: list[int], *numbers: int) -> asyncio.Task[None]:
    """Run a lifespan that was ended by these signals, and drains."""
    serving, ending = asyncio.Event(), asyncio.Event()

    async def live() -> None:
        async with pool.lifespan(None):
            serving.set()  # from here on a signal does not give up the start
            await ending.wait()

    living = asyncio.ensure_future(live())
    await serving.wait()
    pool.submit(double, 1).add_done_callback(lambda handle: handle.exception())
    for number in numbers:
        signal.raise_signal(number)
    ending.set()
    await until(lambda: pool.state.value != "running")
    return living


@pytest.mark.parametrize("first", [TERM, INT])
async def test_a_second_ctrl_c_cuts_the_drain_short(signals: list[int], first: int) -> None:
    pool = Pool(backend=ScriptedBackend(), drain_timeout=1000.0)
    living = await draining(pool, signals, first)
    assert pool.state.value == "draining"
    signal.raise_signal(INT)
    await asyncio.wait_for(living, PATIENCE_S)
    assert (pool.state.value, pool.statistics().cancelled) == ("closed", 1)
    assert signals == [first, INT]


async def test_a_second_ctrl_c_before_the_drain_skips_it(signals: list[int]) -> None:
    """uvicorn ends without its shutdown then, and cancels the lifespan."""
    pool = Pool(backend=ScriptedBackend(), drain_timeout=1000.0)
    living = await draining(pool, signals, INT, INT)
    await asyncio.wait_for(living, PATIENCE_S)
    assert pool.statistics().cancelled == 1


@pytest.mark.parametrize("first", [TERM, INT])
async def test_a_sigterm_that_a_supervisor_passes_on_is_no_second_one(
    signals: list[int], clock: Clock, first: int
) -> None:
    pool = Pool(backend=ScriptedBackend(), drain_timeout=1000.0)
    living = await draining(pool, signals, first)
    clock.now += termination.ECHO_S
    signal.raise_signal(TERM)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool.state.value == "draining"
    clock.now += 0.01
    signal.raise_signal(TERM)
    await asyncio.wait_for(living, PATIENCE_S)
    assert pool.statistics().cancelled == 1
    assert signals == [first, TERM, TERM], "the server hears of all of them"


async def test_a_supervisor_may_take_its_time(
    signals: list[int], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("multiprocessing.process.parent_process", lambda: "the supervisor")
    pool = Pool(backend=ScriptedBackend(), drain_timeout=1000.0)
    living = await draining(pool, signals, INT)
    clock.now += termination.SUPERVISED_ECHO_S
    signal.raise_signal(TERM)
    for _ in range(5):
        await asyncio.sleep(0)
    assert pool.state.value == "draining"
    signal.raise_signal(INT)
    await asyncio.wait_for(living, PATIENCE_S)


# --- the delay ------------------------------------------------------------------------------------------------------


async def test_sigterm_is_deferred_for_the_delay_and_readiness_is_red_at_once(signals: list[int]) -> None:
    pool = inline(shutdown_delay=0.05)
    async with pool.lifespan(None):
        signal.raise_signal(TERM)
        assert (pool.readiness().reasons, signals) == (("terminating",), [])
        assert await pool.run(double, 2) == 4
        await until(lambda: signals == [TERM])


async def test_without_a_delay_it_is_passed_on_at_once(signals: list[int]) -> None:
    async with inline().lifespan(None):
        signal.raise_signal(TERM)
        assert signals == [TERM]


async def test_ctrl_c_is_not_deferred(signals: list[int]) -> None:
    async with inline(shutdown_delay=1000.0).lifespan(None):
        signal.raise_signal(INT)
        assert signals == [INT]


async def test_while_it_is_deferred_an_echo_changes_nothing_and_a_second_one_passes_it_on(
    signals: list[int], clock: Clock
) -> None:
    pool = Pool(backend=ScriptedBackend(), shutdown_delay=1000.0, drain_timeout=1000.0)
    async with pool.lifespan(None):
        handle = pool.submit(double, 1)
        signal.raise_signal(TERM)
        signal.raise_signal(TERM)
        assert signals == []
        clock.now += 5.0
        signal.raise_signal(TERM)
        assert signals == [TERM]
        await asyncio.sleep(0)
        assert not handle.done(), "it ends the delay, not the drain"
        handle.cancel()


async def test_where_nothing_can_be_deferred_the_log_says_so(
    signals: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    loop.add_signal_handler(TERM, heard.set)
    try:
        pool = inline(shutdown_delay=1000.0)
        async with pool.lifespan(None):
            assert "shutdown_delay=1000 has no effect" in caplog.text
            signal.raise_signal(TERM)
            await asyncio.wait_for(heard.wait(), PATIENCE_S)
            assert pool.readiness().reasons == ("terminating",)
    finally:
        loop.remove_signal_handler(TERM)


async def test_what_is_deferred_when_the_lifespan_ends_is_passed_on(signals: list[int]) -> None:
    async with inline(shutdown_delay=1000.0).lifespan(None):
        signal.raise_signal(TERM)
    assert signals == [TERM]


# --- real servers ---------------------------------------------------------------------------------------------------


@pytest.fixture
def http() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=PATIENCE_S, transport=httpx.AsyncHTTPTransport(verify=False, retries=5))


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_during_the_delay_a_server_answers_new_connections_and_readyz_says_no(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    monkeypatch.setenv("LIFEPOOL_SHUTDOWN_DELAY", "1000")
    with serving("app", "--loop", loop) as server:
        fresh = {"connection": "close"}
        async with http:
            assert (await http.get(f"{server.url}/readyz", headers=fresh)).status_code == 200
            server.process.send_signal(TERM)
            async with asyncio.timeout(PATIENCE_S):
                while (answer := await http.get(f"{server.url}/readyz", headers=fresh)).status_code != 503:
                    pass
            assert answer.json()["reasons"][0]["reason"] == "terminating"
            assert (await http.get(f"{server.url}/pids", headers=fresh)).status_code == 200
            family = server.family()
            server.process.send_signal(INT)  # who can't wait
            await asyncio.to_thread(server.wait)
        assert still_there(family) == []
        assert "Traceback" not in server.output


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_second_ctrl_c_does_not_wait_for_a_submitted_task(
    http: httpx.AsyncClient, gate: Gate, monkeypatch: pytest.MonkeyPatch, loop: str
) -> None:
    monkeypatch.setenv("LIFEPOOL_DRAIN_TIMEOUT", "1000")
    with serving("app", "--loop", loop) as server:
        async with http:
            await http.get(f"{server.url}/leave", params={"address": gate.address})
        await gate.arrival()
        family = server.family()
        os.killpg(server.process.pid, INT)
        await asyncio.to_thread(server.read_until, "Waiting for application shutdown")
        os.killpg(server.process.pid, INT)
        await asyncio.to_thread(server.wait)
        assert "left: the pool was closed before the task was done" in server.output
        assert still_there(family) == []


async def test_a_ctrl_c_that_uvicorns_supervisor_passes_on_as_sigterm_loses_no_task(
    http: httpx.AsyncClient, gate: Gate
) -> None:
    with serving("app", "--workers", "2") as server:
        async with http:
            await http.get(f"{server.url}/leave", params={"address": gate.address})
        visitor = await gate.arrival()
        os.killpg(server.process.pid, INT)
        await asyncio.to_thread(server.read_until, "Received SIGINT, exiting")
        await asyncio.to_thread(server.read_until, "Waiting for application shutdown.*" * 2)
        visitor.let_through()
        await asyncio.to_thread(server.wait)
        assert "left: finished" in server.output
