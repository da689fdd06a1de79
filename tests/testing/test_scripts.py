"""What a script says is what the caller gets, through the real scheduler."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import TYPE_CHECKING

import pytest

from lifepool import QueueFull, TaskTimeout, WorkerLost
from lifepool._core.policy import TIMERS_AT_ONCE
from lifepool.testing import FakeClock, Pause, inline, scripted
from tests.integrations.clients import TestClient
from tests.testing import app as under_test
from tests.testing.app import app, count_words, double, fails, lengths, pool, reverse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lifepool.testing import Script


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted(pool) as script:
        yield script


async def test_a_call_of_which_nothing_is_said_runs_here(script: Script) -> None:
    threads = []
    async with pool:
        assert await pool.run(count_words, "one two", timeout=60.0) == 2
        await pool.run(functools.partial(lambda: threads.append(threading.current_thread())))
        with pytest.raises(LookupError, match="nothing"):
            await pool.run(fails, "nothing")
    assert threads == [threading.current_thread()]


async def test_it_returns_what_the_script_says_once_or_always(script: Script) -> None:
    script.next(count_words).returns(42)
    script.every(double).returns(0)
    async with pool:
        assert await pool.run(count_words, "one two") == 42
        assert await pool.run(count_words, "one two") == 2
        assert [await pool.run(double, 4) for _ in range(3)] == [0, 0, 0]
        script.every(double).returns(1)  # what is said last holds
        assert await pool.run(double, 4) == 1


async def test_what_was_said_of_one_function_waits_for_it(script: Script) -> None:
    script.next(double).raises(ValueError("not that one"))
    script.next().returns(99)
    async with pool:
        assert await pool.run(count_words, "one") == 99
        with pytest.raises(ValueError, match="not that one"):
            await pool.run(double, 1)
        assert pool.statistics().failed == 1


async def test_a_timeout_passes_at_once_and_is_a_real_one(script: Script) -> None:
    script.next(count_words).times_out()
    async with pool:
        with pytest.raises(TaskTimeout) as caught:
            await pool.run(count_words, "one", timeout=3600.0)
        assert (caught.value.timeout, caught.value.started) == (3600.0, True)
        assert pool.statistics().timed_out == 1
        assert await pool.run(count_words, "one two", timeout=3600.0) == 2


async def test_a_call_without_a_timeout_can_not_time_out(script: Script) -> None:
    script.next(count_words).times_out()
    async with pool:
        with pytest.raises(AssertionError, match="it has no timeout"):
            await pool.run(count_words, "one")


async def test_a_worker_is_lost_and_the_pool_goes_on(script: Script) -> None:
    script.next(count_words).loses_worker(oom_suspected=True)
    script.next(count_words).loses_worker(exitcode=3)
    async with pool:
        with pytest.raises(WorkerLost) as killed:
            await pool.run(count_words, "one")
        with pytest.raises(WorkerLost) as exited:
            await pool.run(count_words, "one")
        assert (killed.value.signal, killed.value.oom_suspected) == (9, True)
        assert (exited.value.signal, exited.value.exitcode) == (None, 3)
        assert await pool.run(count_words, "one") == 1
        assert pool.statistics().restarts


async def test_another_attempt_is_a_next_call(script: Script) -> None:
    script.next(reverse).loses_worker()
    async with pool:
        assert await reverse("abc") == "cba"
        assert pool.statistics().retried == 1
        script.next(reverse).loses_worker()
        script.next(reverse).loses_worker()
        with pytest.raises(WorkerLost):
            await reverse("abc")


async def test_a_call_is_refused_and_counted(script: Script) -> None:
    script.next(count_words).is_refused(retry_after=7.0)
    async with pool:
        with pytest.raises(QueueFull) as caught:
            await pool.run(count_words, "one", timeout=2.0, priority=3)
        assert caught.value.retry_after == 7.0
        assert pool.statistics().refused == 1
        assert await pool.run(count_words, "one") == 1
    assert script.calls[0].priority == 3


async def test_a_pause_keeps_a_worker_busy_until_it_is_released(script: Script) -> None:
    first, second = script.next(count_words).waits(), script.next(count_words).waits()
    async with pool:
        calls = [pool.submit(count_words, "one " * n) for n in range(3)]
        await first.reached()
        await second.reached()
        assert (pool.statistics().running, pool.statistics().queued) == (2, 1)
        second.release()
        first.release()
        first.release()
        assert await asyncio.gather(*calls) == [0, 1, 2]


async def test_a_pause_that_was_released_before_does_not_wait(script: Script) -> None:
    pause = script.next().waits()
    pause.release()
    async with pool:
        assert await pool.run(count_words, "one") == 1


async def test_a_paused_call_can_be_cancelled(script: Script) -> None:
    pause = script.next().waits()
    async with pool:
        call = pool.submit(count_words, "one")
        await pause.reached()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        pause.release()
        assert await pool.run(count_words, "one two") == 2


async def test_a_pool_ends_although_a_call_is_paused(script: Script) -> None:
    pause = script.next().waits()
    async with pool:
        call = pool.submit(count_words, "one")
        await pause.reached()
        await pool.drain(timeout=0)
    assert call.cancelled() or call.exception() is not None
    pause.release()


async def test_time_passes_for_those_who_wait_in_the_queue(script: Script) -> None:
    pauses = [script.next().waits(), script.next().waits()]
    async with pool:
        running = [pool.submit(count_words, "one") for _ in pauses]
        await pauses[1].reached()
        queued = pool.submit(count_words, "one", timeout=60.0)
        script.clock.advance(59.0)
        assert not queued.done()
        script.clock.advance(1.0)
        with pytest.raises(TaskTimeout) as caught:
            await queued
        assert not caught.value.started
        for pause in pauses:
            pause.release()
        assert await asyncio.gather(*running) == [1, 1]


async def test_time_passes_for_any_number_of_those_who_wait(script: Script) -> None:
    pauses = [script.next().waits(), script.next().waits()]
    async with pool:
        running = [pool.submit(count_words, "one") for _ in pauses]
        await pauses[1].reached()
        queued = [pool.submit(count_words, "one", timeout=60.0) for _ in range(2 * TIMERS_AT_ONCE - 1)]
        script.clock.advance(60.0)
        assert {type(handle.exception()) for handle in queued} == {TaskTimeout}
        for pause in pauses:
            pause.release()
        await asyncio.gather(*running)


async def test_items_and_batches_are_answered_by_the_script_too(script: Script) -> None:
    script.every(double).returns(7)
    script.next(lengths).returns([5])
    async with pool:
        assert await pool.gather(double, [1, 2, 3]) == [7, 7, 7]
        assert await lengths("a") == 5
        assert await lengths("abc") == 3
    assert script.calls_of(double)[2].args == (3,)
    assert script.calls_of(lengths)[0].args == (["a"],)


async def test_calls_are_noted_with_arguments_and_options(script: Script) -> None:
    async with pool:
        await pool.run(functools.partial(count_words, scale=2), "one", timeout=4.0, fair_key="tenant")
        await reverse("abc")
    call = script.assert_called_with(count_words, "one", scale=2)
    assert (call.timeout, call.fair_key) == (4.0, "tenant")
    assert repr(call) == "count_words('one', scale=2)"
    script.assert_called(reverse, times=1)
    with pytest.raises(
        AssertionError, match=r"count_words\('two'\) was not called: count_words\('one', scale=2\), rev"
    ):
        script.assert_called_with(count_words, "two")
    with pytest.raises(AssertionError, match="double was called 0 times, expected at least once"):
        script.assert_called(double)
    with pytest.raises(AssertionError, match="reverse was called 1 times, expected 2 times"):
        script.assert_called(reverse, times=2)


async def test_what_was_said_and_not_used_fails_the_test() -> None:
    def forgets() -> None:
        with scripted(pool) as script:
            script.next(double).times_out()

    with pytest.raises(AssertionError, match=r"never used: script\.next\(double\)\.times_out.* calls were: none"):
        forgets()


def test_a_call_ends_in_one_way() -> None:
    with scripted(pool) as script:
        answer = script.every()
        answer.returns(1)
        with pytest.raises(RuntimeError, match="said already"):
            answer.times_out()


def test_an_app_is_tested_over_http(script: Script) -> None:
    with TestClient(app) as client:
        assert client.get("/words", params={"text": "one two"}).json() == 2
        script.next(count_words).times_out()
        assert client.get("/words", params={"text": "one"}).status_code == 504
        script.next(count_words).is_refused(retry_after=3.0)
        refused = client.get("/words", params={"text": "one"})
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 3
        script.next(count_words).loses_worker()
        assert client.get("/words", params={"text": "one"}).status_code == 500
        assert client.get("/doubled").json() == [2, 4, 6]


def test_another_thread_waits_for_a_pause_and_moves_the_clock(script: Script) -> None:
    pause = script.next(count_words).waits()
    answers = []
    with TestClient(app) as client:
        asks = threading.Thread(target=lambda: answers.append(client.get("/words", params={"text": "one"})))
        asks.start()
        pause.wait()
        script.clock.advance(60.0)
        asks.join(10)
    assert answers[0].status_code == 504


async def test_a_pool_that_runs_is_not_replaced() -> None:
    async with pool:
        with pytest.raises(RuntimeError, match="runs already"), scripted(pool):
            pass


async def test_a_pool_that_still_runs_at_the_end_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="still runs"), inline(pool):
        await pool.start()
    await pool.aclose()


async def test_it_is_the_old_pool_again_afterwards() -> None:
    with scripted(pool) as script:
        script.every(fails).returns(None)
        async with pool:
            assert await pool.run(fails, "one") is None
    assert not pool.hooks
    with inline(pool):
        async with pool:
            assert await pool.run(count_words, "one") == 1
            assert pool.workers()[0].pid is None
    async with pool:
        assert pool.workers()[0].pid is not None
        assert await pool.run(count_words, "one") == 1


def test_inline_sees_mocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "count_words", lambda text: 42)
    with inline(pool), TestClient(app) as client:
        assert client.get("/words", params={"text": "one two"}).json() == 42


def test_a_clock_does_not_run_backwards() -> None:
    clock = FakeClock()
    before = clock()
    clock.advance(10.0)
    assert clock() - before >= 10.0
    with pytest.raises(ValueError, match="backwards"):
        clock.advance(-1.0)


def test_waiting_for_a_pause_has_a_bound() -> None:
    with pytest.raises(TimeoutError, match="no call got to its pause"):
        Pause().wait(timeout=0.001)
