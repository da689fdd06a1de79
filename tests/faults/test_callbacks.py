"""Each callback of the event loop, made to fail: that worker ends, its task gets its outcome, and all else goes on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from lifepool import InternalError, Pool, TaskHandle, WorkerLost
from lifepool._batching.collector import Batcher
from lifepool.backends.guard import logged
from lifepool.backends.local import backend as backend_module
from lifepool.backends.local.channel import Channel
from lifepool.hooks import Hook
from tests import tasks
from tests.engine import batched
from tests.engine.gates import PATIENCE_S, Gate, Visitor, until
from tests.faults.inside import backend_of, template_pid

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.backends.local.backend import LocalBackend
    from lifepool.backends.local.connection import WorkerConnection

BIG = bytes(3 * 1024 * 1024)  # a thread copies it


class ForcedError(Exception):
    """What no code of ours expects."""


def fail(*_: object, **__: object) -> NoReturn:
    raise ForcedError


class Victim:
    """One of two busy workers, and what can be done to it."""

    def __init__(self, pool: Pool, visitor: Visitor) -> None:
        self.pool = pool
        self.visitor = visitor
        self.backend: Any = backend_of(pool)
        members: list[WorkerConnection] = list(self.backend._connections.values())
        (self.member,) = (each for each in members if each.process is not None and each.process.pid == visitor.pid)
        assert self.member.channel is not None
        self.channel: Any = self.member.channel
        self.inbox: Any = self.member.inbox

    def answer(self) -> None:
        self.visitor.let_through()

    def die(self) -> None:
        os.kill(self.visitor.pid, signal.SIGKILL)

    def only_here(self, method: str) -> None:
        """Make a method of the backend fail for this worker."""
        real: Callable[..., object] = getattr(self.backend, method)
        number = self.member.number

        def perhaps(worker: Any, *arguments: object) -> object:
            if worker in (number, self.member):
                raise ForcedError
            return real(worker, *arguments)

        setattr(self.backend, method, perhaps)


def reading(victim: Victim) -> None:
    victim.channel._read_once = fail
    victim.answer()


def a_frame(victim: Victim) -> None:
    victim.channel._on_frame = fail
    victim.answer()


def an_answer(victim: Victim) -> None:
    real = victim.backend._listener.returned

    def perhaps(worker: int, *arguments: Any, **more: Any) -> None:
        if worker == victim.member.number:
            raise ForcedError
        real(worker, *arguments, **more)

    victim.backend._listener.returned = perhaps
    victim.answer()


def a_big_result(victim: Victim) -> None:
    """Read in a thread; the loop is told."""
    victim.inbox._finish = fail
    victim.answer()


def flushing(victim: Victim) -> None:
    victim.channel._out.append(b"x")
    victim.channel._write = fail
    asyncio.get_running_loop().call_soon(victim.channel._flush)


def tickets(victim: Victim) -> None:
    """The system has no memory for another sixteen bytes."""

    class Full:
        def __init__(self, real: Any) -> None:
            self.close, self.fileno = real.close, real.fileno

        def send(self, _: bytes) -> NoReturn:
            raise ForcedError

    victim.channel._tickets_out.append(bytes(16))
    victim.channel._tickets = Full(victim.channel._tickets)
    asyncio.get_running_loop().call_soon(victim.channel._flush)


def writing_on(victim: Victim) -> None:
    """The wire was full, and has room again."""
    wire = victim.channel._wire

    class Full:
        fileno, close, recv_into = wire.fileno, wire.close, wire.recv_into
        first = True

        def send(self, _: bytes) -> NoReturn:
            if self.first:
                self.first = False
                raise BlockingIOError
            raise ForcedError

    victim.channel._wire = Full()
    victim.channel._out.append(b"x")
    victim.channel._flush()
    assert victim.channel._writing


def its_exit(victim: Victim) -> None:
    victim.channel.drain_in = fail
    victim.die()


def what_it_had_not_started(victim: Victim) -> None:
    victim.only_here("retract")
    victim.die()


def forgetting_it(victim: Victim) -> None:
    real = victim.channel.close

    def close() -> None:
        real()
        raise ForcedError

    victim.channel.close = close
    victim.die()


def killing_it_later(victim: Victim) -> None:
    """It closed its connection and does not end."""
    victim.only_here("kill_worker")
    victim.backend._on_end(victim.member, "")


def giving_up_the_template(victim: Victim) -> None:
    """It closed its connection, was killed, and nobody heard of its end."""
    real = victim.backend.kill_worker
    calls = 0

    def not_at_first(worker: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            real(worker)

    victim.backend.kill_worker = not_at_first
    victim.only_here("_give_up_template")
    victim.backend._on_end(victim.member, "")


CALLBACKS = [
    reading, a_frame, an_answer, a_big_result, flushing, tickets, writing_on, its_exit, what_it_had_not_started,
    forgetting_it, killing_it_later, giving_up_the_template,
]  # fmt: skip


@pytest.mark.parametrize("force", CALLBACKS, ids=lambda force: force.__name__)
async def test_a_callback_that_fails_costs_one_worker(
    force: Callable[[Victim], None], gate: Gate, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backend_module, "CLOSED_GRACE_S", 0.02)
    if force is giving_up_the_template:
        monkeypatch.setattr(backend_module, "TEMPLATE_GRACE_S", 0.2)
    async with Pool(max_workers=2) as pool, asyncio.timeout(PATIENCE_S):
        handles = [pool.submit(tasks.hold, gate.address, BIG) for _ in range(2)]
        visitors = [await gate.arrival() for _ in handles]
        template = template_pid(pool)
        with caplog.at_level(logging.ERROR, "lifepool"):
            force(Victim(pool, visitors[0]))
            done, (other,) = await asyncio.wait(handles, return_when=asyncio.FIRST_COMPLETED)
        (lost,) = done
        assert isinstance(lost.exception(), WorkerLost)
        errors = [record for record in caplog.records if record.exc_info and record.exc_info[0] is ForcedError]
        assert errors
        assert "the others go on" in errors[0].getMessage()
        assert await pool.run(tasks.double, 21) == 42  # its successor
        visitors[1].let_through()
        assert await other == BIG
        assert await pool.gather(tasks.double, range(8)) == list(range(0, 16, 2))
        assert template_pid(pool) == template
        assert pool.readiness().ready


async def test_a_new_worker_that_can_not_be_listened_to_is_a_failed_start(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Pool(max_workers=2, min_workers=1) as pool, asyncio.timeout(PATIENCE_S):
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        with monkeypatch.context() as patch:
            patch.setattr(Channel, "open", fail)
            other = pool.submit(tasks.double, 21)
            await until(lambda: pool.statistics().restarts.get("failed to start", 0) >= 2)
        assert await other == 42
        visitor.let_through()
        assert await held == "held"


# -- commands of the scheduler ------------------------------------------------------------------------------------


def fail_once(backend: LocalBackend, method: str) -> list[int]:
    """Make a method of the backend fail the first time it is called; the workers it was called for."""
    real: Callable[..., object] = getattr(backend, method)
    called: list[int] = []

    def perhaps(worker: int, *arguments: object) -> object:
        called.append(worker)
        if len(called) == 1:
            raise ForcedError
        return real(worker, *arguments)

    setattr(backend, method, perhaps)
    return called


async def sending(pool: Pool, gate: Gate) -> None:
    with pytest.raises(WorkerLost, match="ForcedError"):
        await pool.run(tasks.double, 1)


async def interrupting(pool: Pool, gate: Gate) -> None:
    handle = pool.submit(tasks.hold, gate.address)
    visitor = await gate.arrival()
    assert handle.cancel()
    await visitor.gone()


async def killing(pool: Pool, gate: Gate) -> None:
    handle = pool.submit(tasks.hold_stubbornly, gate.address)
    await gate.arrival()
    assert handle.cancel()


async def starting(pool: Pool, gate: Gate) -> None:
    handles = [pool.submit(tasks.hold, gate.address) for _ in range(3)]
    for _ in handles:
        (await gate.arrival()).let_through()
    await asyncio.gather(*handles)


async def stopping(pool: Pool, gate: Gate) -> None:
    """The idle timeout does it, as soon as there are more than two workers."""
    await starting(pool, gate)


COMMANDS: dict[str, Callable[[Pool, Gate], Any]] = {
    "send": sending,
    "interrupt": interrupting,
    "kill_worker": killing,
    "start_worker": starting,
    "stop_worker": stopping,
}


@pytest.mark.parametrize("method", COMMANDS)
async def test_a_command_that_can_not_be_performed_costs_one_worker(
    method: str, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with Pool(max_workers=3, min_workers=2, idle_timeout=0.05) as pool, asyncio.timeout(PATIENCE_S):
        held = pool.submit(tasks.hold, gate.address, "held")
        visitor = await gate.arrival()
        template = template_pid(pool)
        called = fail_once(backend_of(pool), method)
        await COMMANDS[method](pool, gate)
        await until(lambda: bool(called))
        assert await pool.gather(tasks.double, range(8)) == list(range(0, 16, 2))
        visitor.let_through()
        await held
        assert template_pid(pool) == template
        assert pool.readiness().ready
    assert any(record.exc_info and record.exc_info[0] is ForcedError for record in caplog.records)


async def test_a_worker_whose_tasks_can_not_be_taken_back_is_lost_alone(gate: Gate) -> None:
    async with Pool(max_workers=2) as pool, asyncio.timeout(PATIENCE_S):
        handles = [pool.submit(tasks.hold, gate.address, "held") for _ in range(2)]
        for _ in handles:
            await gate.arrival()
        called = fail_once(backend_of(pool), "retract")
        recycled = asyncio.ensure_future(pool.recycle())  # busy workers are told to hand back what they have not begun
        done, (other,) = await asyncio.wait(handles, return_when=asyncio.FIRST_COMPLETED)
        (lost,) = done
        assert isinstance(lost.exception(), WorkerLost)
        assert called
        for visitor in gate._visitors:
            with contextlib.suppress(OSError):  # one of them is gone
                visitor.let_through()
        assert await other == "held"
        await recycled
        assert await pool.gather(tasks.double, range(8)) == list(range(0, 16, 2))


async def test_an_end_is_told_though_nobody_knows_how_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(max_workers=1) as pool, asyncio.timeout(PATIENCE_S):
        with monkeypatch.context() as patch:
            patch.setattr("lifepool.backends.local.connection.WorkerConnection.end", fail)
            with pytest.raises(WorkerLost, match="ForcedError"):
                await pool.run(tasks.exit_hard, 3)
        assert await pool.run(tasks.double, 21) == 42


async def test_an_outcome_that_can_not_be_given_costs_that_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(max_workers=1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(TaskHandle, "set_result", fail)
            with pytest.raises(Exception, match="ForcedError"):
                await asyncio.wait_for(pool.run(tasks.double, 1), PATIENCE_S)
        assert await pool.run(tasks.double, 21) == 42


# -- callbacks about batches --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["_hand_out", "_take"])
async def test_a_batch_whose_outcomes_can_not_be_given_leaves_nobody_waiting(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with batched.pool, asyncio.timeout(PATIENCE_S):
        with monkeypatch.context() as patch:
            patch.setattr(Batcher, method, fail)
            outcomes = await asyncio.gather(*(batched.double(number) for number in range(4)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [InternalError] * 4
        assert "ForcedError" in str(outcomes[0])
        assert await batched.double(21) == 42


# -- callbacks about no worker ------------------------------------------------------------------------------------


async def test_a_call_that_could_not_be_made_in_a_thread_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Pool(max_workers=1) as pool:
        shared = backend_of(pool)._outbox.shared
        with monkeypatch.context() as patch:
            patch.setattr(shared, "settle", fail)
            with pytest.raises(ForcedError):
                await asyncio.wait_for(pool.run(tasks.echo, BIG), PATIENCE_S)
        assert await pool.run(tasks.echo, BIG) == BIG


async def test_memory_that_can_not_be_given_back_is_given_back_another_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("lifepool.backends.local.shared.arena_upkeep.TRIM_AFTER_S", 0.001)
    async with Pool(max_workers=1) as pool:
        shared = backend_of(pool)._outbox.shared
        with monkeypatch.context() as patch:
            patch.setattr(shared, "trim", fail)
            await pool.run(tasks.echo, BIG)
            await until(lambda: "failed to give shared memory back" in caplog.text)
        await pool.run(tasks.echo, BIG)
        await until(lambda: not shared.is_dirty)


class BrokenOnce(Hook):
    """Wants what workers log."""

    log_level = None

    def __init__(self) -> None:
        self.told: list[str] = []

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Keep it."""
        self.told.append(str(log))


async def test_a_log_record_that_can_not_be_told_of_costs_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    pool, hook = Pool(max_workers=1), BrokenOnce()
    pool.add_hook(hook)
    async with pool, asyncio.timeout(PATIENCE_S):
        receiver = backend_of(pool)._logs
        real, receiver._on_record = receiver._on_record, fail
        await pool.run(logging.getLogger("some").error, "first")
        await until(lambda: "failed to read what workers log" in caplog.text)
        receiver._on_record = real
        await pool.run(logging.getLogger("some").error, "second")
        await until(lambda: len(hook.told) == 1)


def test_a_callback_that_is_logged_returns_nothing_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    logged(fail, "do it")()
    assert "lifepool failed to do it; it goes on" in caplog.text
