"""How a pool starts and ends: scripts of events, and the exact commands that follow."""

from __future__ import annotations

import pytest

from lifepool._core.states import PoolState
from lifepool.errors import InternalError, PoolClosed
from tests.core.script import Script, knowing, running

EXECUTOR = {"slots": 3, "can_kill": False, "can_interrupt": False, "can_retract": False}


def test_a_pool_is_started_once() -> None:
    pool = running()
    with pytest.raises(InternalError, match="the pool can't go from RUNNING to STARTING"):
        pool.start()


# -- drain ------------------------------------------------------------------------------------------------------------


def test_an_idle_pool_that_is_drained_stops_its_workers() -> None:
    pool = running(max_workers=2, min_workers=2)
    assert pool.drain(30.0) == ["stop w1", "stop w2", "wake in 2"]
    assert pool.exited(1, exitcode=0) == []
    assert pool.exited(2, exitcode=0) == ["closed"]
    assert pool.scheduler.state is PoolState.CLOSED


def test_running_and_queued_tasks_are_finished_first() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    assert pool.drain(1.0) == ["wake in 1"]
    assert pool.returned(1, 1) == ["1 is completed", "send 2 to w1"]
    assert pool.returned(1, 2) == ["2 is completed", "stop w1"]
    assert pool.exited(1, exitcode=0) == ["closed"]


def test_a_task_that_waits_for_its_next_try_gets_it() -> None:
    pool = running()
    pool.submit(1, retries=1)
    pool.returned(1, 1, succeeded=False, retryable=True)
    assert pool.drain() == []
    assert "send 1 to w1" in pool.fire()
    assert pool.returned(1, 1)[:2] == ["1 is completed", "stop w1"]


def test_a_worker_that_dies_while_the_pool_drains_is_replaced_only_for_those_who_wait() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    pool.drain()
    assert pool.exited(1, 2, signal=9) == ["1 is lost: WorkerLost", "start w2"]
    assert pool.ready(2) == ["send 2 to w2"]
    assert pool.exited(2, signal=9) == ["2 is lost: WorkerLost", "closed"]


def test_a_worker_that_is_recycled_while_the_pool_drains_is_replaced_only_for_those_who_wait() -> None:
    pool = running(max_tasks_per_worker=1)
    for task in (1, 2):
        pool.submit(task)
    pool.drain()
    assert pool.returned(1, 1) == ["1 is completed", "stop w1", "start w2"]
    pool.ready(2)
    assert pool.returned(2, 2) == ["2 is completed", "stop w2"]


def test_workers_that_are_starting_are_not_waited_for() -> None:
    pool = Script(max_workers=2, min_workers=0)
    pool.start()
    pool.submit(1)
    pool.submit(2)
    pool.ready(1)
    pool.cancel(2)
    pool.drain()
    assert pool.returned(1, 1) == ["1 is completed", "stop w1", "kill w2"]
    assert pool.exited(2, signal=9) == []
    assert pool.exited(1, exitcode=0) == ["closed"]
    assert pool.scheduler.tally.restarts == {"closed": 2}


def test_what_nobody_wants_is_waited_for_because_it_may_still_be_running() -> None:
    pool = running()
    pool.submit(1)
    pool.cancel(1, abandon=True)
    assert pool.drain(5.0) == []
    assert pool.returned(1, 1, 3.0) == ["stop w1"]


def test_a_drain_that_takes_too_long_is_cut_short() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    pool.drain(1.0)
    assert pool.fire() == ["1 is cancelled: PoolClosed", "2 is cancelled: PoolClosed", "kill w1", "wake in 1"]
    assert "drain_timeout" in str(pool.errors[1])
    assert pool.exited(1, signal=9) == ["closed"]


def test_a_drain_without_time_ends_at_once() -> None:
    pool = running()
    pool.submit(1)
    assert pool.drain(0.0) == ["wake in 0"]
    assert pool.fire()[:2] == ["1 is cancelled: PoolClosed", "kill w1"]


def test_the_drain_timeout_means_nothing_once_the_pool_is_closed() -> None:
    pool = running()
    pool.drain(1.0)
    pool.exited(1, exitcode=0)
    assert pool.pass_time(2.0) == []


def test_a_backoff_that_ends_while_the_pool_drains_starts_workers_only_for_those_who_wait() -> None:
    pool = running(max_workers=2, min_workers=1)
    pool.submit(1)
    pool.submit(2)
    pool.exited(2, start_error="no")
    pool.drain()
    assert pool.fire() == ["start w3", "wake in 1.9"]
    pool.exited(3, start_error="no")
    pool.returned(1, 1)
    pool.returned(1, 2)
    assert pool.exited(1, exitcode=0) == ["closed"]
    assert not [line for line in pool.pass_time(90.0) if line.startswith("start")]


def test_a_crash_loop_while_the_pool_drains_ends_it() -> None:
    pool = Script(min_workers=0)
    pool.start()
    pool.submit(1)
    pool.drain()
    for worker in (1, 2):
        pool.exited(worker, start_error="no")
        pool.fire()
    assert pool.exited(3, start_error="no") == ["1 is lost: WorkerStartError", "closed", "wake in 0.4"]


def test_a_pool_that_never_started_is_closed_by_a_drain() -> None:
    pool = Script()
    assert pool.drain() == ["closed"]


def test_a_drain_while_the_pool_starts_closes_it() -> None:
    pool = Script()
    pool.start()
    assert pool.drain() == ["not started: PoolClosed", "kill w1"]
    assert isinstance(pool.start_error, PoolClosed)
    assert pool.exited(1, signal=9) == ["closed"]


# -- close ------------------------------------------------------------------------------------------------------------


def test_a_pool_that_never_started_is_closed_at_once() -> None:
    assert Script().close() == ["closed"]


def test_a_pool_that_is_starting_is_closed() -> None:
    pool = Script(max_workers=2, min_workers=2)
    pool.start()
    pool.ready(1)
    pool.submit(1)
    assert pool.close() == ["not started: PoolClosed", "1 is cancelled: PoolClosed", "kill w1", "kill w2"]
    assert [pool.exited(2), pool.exited(1)] == [[], ["closed"]]


def test_a_running_pool_is_closed_whatever_its_tasks_do() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    pool.submit(3, retries=1)
    assert pool.close() == [*(f"{n} is cancelled: PoolClosed" for n in (1, 2, 3)), "kill w1"]
    assert pool.returned(1, 1) == [], "an answer that was on its way"
    assert pool.exited(1, signal=9) == ["closed"]


def test_a_draining_pool_is_closed() -> None:
    pool = running()
    pool.submit(1)
    pool.drain()
    assert pool.close() == ["1 is cancelled: PoolClosed", "kill w1"]


def test_a_closed_pool_says_so_once() -> None:
    pool = running()
    pool.close()
    assert [pool.close(), pool.drain()] == [[], []]
    assert pool.exited(1, signal=9) == ["closed"]
    assert [pool.close(), pool.drain(), pool.exited(1)] == [[], [], []]


def test_an_executor_is_let_go_with_what_it_runs() -> None:
    pool = running(**EXECUTOR)
    pool.submit(1)
    assert pool.close() == ["1 is cancelled: PoolClosed", "kill w1"]
    assert pool.exited(1, reason="the executor was shut down") == ["closed"]


def test_tasks_that_come_back_after_the_end_go_nowhere() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    pool.close()
    assert pool.retracted(1, 2) == []
    assert pool.exited(1, 1, signal=9) == ["closed"]
