"""Much that is due at once is done in parts, so that the event loop has its turns in between; nothing is lost."""

from __future__ import annotations

import pytest

from lifepool._core import events as on
from lifepool._core.policy import CRASH_LOOP_STARTS, SETTLED_AT_ONCE, TIMERS_AT_ONCE
from lifepool._core.states import PoolState
from lifepool._core.timers import Timer
from lifepool.errors import PoolClosed, WorkerStartError
from tests.core.routed import up
from tests.core.script import Script, knowing, running

MANY = 2 * SETTLED_AT_ONCE + 10


def busy(tasks: int = MANY, **limits: int) -> Script:
    """Return a pool with two workers, and so many tasks."""
    pool = running(max_workers=2, min_workers=2, **limits)
    for task in range(1, tasks + 1):
        pool.submit(task)
    return pool


def outcomes(said: list[str], outcome: str) -> list[int]:
    return [int(line.split()[0]) for line in said if f" is {outcome}" in line]


def closed_at_the_end(said: list[str]) -> bool:
    """Return whether it was said once that the pool is closed, and after the last outcome."""
    return [line for line in said if " is " in line or line == "closed"].index("closed") == len(outcomes(said, ""))


def test_a_pool_with_many_tasks_is_closed_in_parts_and_its_workers_are_killed_at_once() -> None:
    pool = busy()
    said = pool.close()
    settled = outcomes(said, "cancelled")
    assert sorted(settled) == list(range(1, SETTLED_AT_ONCE + 3)), "those that run, and some that wait"
    assert [line for line in said if line.startswith("kill")] == ["kill w1", "kill w2"]
    assert pool.scheduler.state is PoolState.CLOSED
    assert [pool.exited(1, signal=9), pool.exited(2, signal=9)] == [[], []], "it is not over yet"
    parts = []
    for _ in range(2):
        said = pool.fire()
        parts.append(len(outcomes(said, "cancelled")))
        settled += outcomes(said, "cancelled")
    assert parts == [SETTLED_AT_ONCE, 8]
    assert "closed" in said
    assert sorted(settled) == list(range(1, MANY + 1))
    assert all(isinstance(pool.errors[task], PoolClosed) for task in settled)


def test_running_tasks_are_settled_before_their_workers_are_gone_whatever_their_number() -> None:
    pool = running()
    for task in range(1, MANY + 1):
        pool.submit(task, priority=float(task == MANY), retries=1)
    assert f"send {MANY} to w1" in pool.returned(1, 1, run_s=1.0)
    said = pool.close()
    assert outcomes(said, "cancelled")[0] == MANY
    assert pool.exited(1, signal=9) == [], "neither lost nor tried again"


def test_what_happens_between_two_parts_starts_nothing_and_changes_no_outcome() -> None:
    pool = busy()
    pool.feed(on.TaskSubmitted(MANY + 1, preparing=True))
    pool.feed(on.TaskSubmitted(MANY + 2, timeout=1e-4))
    pool.close()
    assert pool.cancel(MANY) == [f"{MANY} is cancelled"]
    assert pool.feed(on.TaskPrepared(MANY + 1, succeeded=True)) == []
    assert pool.submit(MANY + 3) == [f"{MANY + 3} is cancelled: PoolClosed"]
    assert pool.close() == pool.drain() == []
    said = [*pool.exited(1, signal=9), *pool.exited(2, signal=9), *pool.pass_time(10.0)]
    assert outcomes(said, "timed_out") == [MANY + 2]
    assert outcomes(said, "cancelled")[-1] == MANY + 1
    assert not [line for line in said if line.startswith(("start", "send"))]
    assert closed_at_the_end(said)


def test_a_task_whose_next_try_comes_between_two_parts_is_settled_with_the_others() -> None:
    pool = busy()
    pool.submit(MANY + 1, retries=1, priority=9.0)
    pool.returned(1, 1)
    pool.returned(1, MANY + 1, succeeded=False, retryable=True)
    pool.pass_time(0.0374)  # its next try comes 37.5 ms after the last
    pool.close()
    assert outcomes(pool.pass_time(10.0), "cancelled")[-1] == MANY + 1


def crash_looping(tasks: int) -> tuple[Script, list[str]]:
    """Return a pool in a crash loop with so many tasks, and what it said last."""
    pool = Script(min_workers=0)
    pool.start()
    for task in range(1, tasks + 1):
        pool.submit(task)
    for worker in range(1, CRASH_LOOP_STARTS):
        pool.exited(worker, start_error="no")
        pool.fire()
    return pool, pool.exited(CRASH_LOOP_STARTS, start_error="no")


def test_in_a_crash_loop_those_who_wait_get_the_cause_in_parts() -> None:
    pool, said = crash_looping(MANY)
    assert outcomes(said, "lost") == list(range(1, SETTLED_AT_ONCE + 1))
    said = [*pool.fire(), *pool.fire()]
    assert outcomes(said, "lost") == list(range(SETTLED_AT_ONCE + 1, MANY + 1))
    assert isinstance(pool.errors[MANY], WorkerStartError)


def test_a_worker_that_comes_up_meanwhile_runs_those_that_are_left() -> None:
    pool, _ = crash_looping(MANY)
    said = []
    while "start w4" not in said:  # after the backoff
        pool.alarm = pool.now + 0.4  # the event loop does not get to the next part before
        said = pool.fire()
    assert pool.ready(4)[0].startswith("send ")
    assert outcomes(pool.pass_time(1.0), "lost") == []


def test_a_crash_loop_while_a_pool_with_many_tasks_drains_ends_it() -> None:
    pool = Script(min_workers=0)
    pool.start()
    for task in range(1, MANY + 1):
        pool.submit(task)
    pool.drain()
    for worker in range(1, CRASH_LOOP_STARTS + 1):
        pool.exited(worker, start_error="no")
        pool.fire()
    said = pool.pass_time(1.0)
    assert closed_at_the_end(said)
    assert len(pool.errors) == MANY


@pytest.mark.parametrize("prefers_remote", [True, False])
def test_of_two_backends_both_have_to_be_done_before_the_pool_is_closed(prefers_remote: bool) -> None:
    pool = up(prefers_remote=prefers_remote, slots=1, max_queue=10 * MANY)
    for task in range(1, MANY + 1):
        pool.submit(task, remote=prefers_remote)
    said = pool.close()
    said += [*pool.exited(-1), *pool.exited(1, signal=9)]
    assert "closed" not in said
    said += pool.pass_time(10.0)
    assert outcomes(said, "cancelled") == list(range(1, MANY + 1))
    assert closed_at_the_end(said)


def test_tasks_of_a_cluster_that_is_cut_off_while_the_pool_is_closed_are_cancelled_with_the_others() -> None:
    pool = up(prefers_remote=True, slots=1, max_queue=10 * MANY)
    for task in range(1, MANY + 1):
        pool.submit(task, remote=True)
    said = [*pool.close(), *pool.reach("it was cut"), *pool.pass_time(10.0)]
    assert outcomes(said, "cancelled") == list(range(1, MANY + 1))


def test_provisional_tasks_of_a_closed_pool_are_not_refused_but_cancelled() -> None:
    pool = running()
    for task in range(1, 3 * MANY):
        pool.submit(task, timeout=2.0, name="new")
    for task in (1, 2):
        pool.now += 0.05
        pool.returned(1, task, run_s=0.05)
    review = pool.scheduler._decision.timers.instants[Timer.REVIEW, 0]
    pool.now = review - 1e-5  # it is due before the next part
    pool.close()
    pool.pass_time(1.0)
    assert {type(error) for error in pool.errors.values()} == {PoolClosed, type(None)}
    assert pool.scheduler.tally.refused == 0


def test_a_crash_loop_stays_the_cause_if_the_pool_is_closed_meanwhile() -> None:
    pool, _ = crash_looping(MANY)
    pool.close()
    pool.pass_time(1.0)
    assert {type(error) for error in pool.errors.values()} == {WorkerStartError}


def test_all_are_settled_at_once_for_an_end_that_has_no_time_left() -> None:
    pool = busy()
    pool.close()
    said = pool.feed(on.CloseRequested(at_once=True))
    assert len(outcomes(said, "cancelled")) == MANY - SETTLED_AT_ONCE - 2
    assert [pool.exited(1, signal=9), pool.exited(2, signal=9)] == [[], ["closed"]]


def test_tasks_are_found_that_came_after_the_last_look() -> None:
    pool, _ = crash_looping(3)
    assert pool.fire()[0] == "start w4"
    pool.ready(4)
    for task in range(10, 20):
        pool.submit(task)
    assert sorted(outcomes(pool.close(), "cancelled")) == list(range(10, 20))


def test_timeouts_that_pass_together_are_dealt_with_in_parts() -> None:
    pool = knowing(1e-3, max_workers=1)
    pool.submit(0)
    for task in range(1, TIMERS_AT_ONCE + 101):
        pool.submit(task, timeout=1.0, firm=True)
    pool.now += 2.0  # the event loop stood still
    assert len(outcomes(pool.fire(), "timed_out")) == TIMERS_AT_ONCE
    assert pool.alarm is not None
    assert pool.alarm <= pool.now, "the others are dealt with in the next turn"
    assert len(outcomes(pool.fire(), "timed_out")) == 100


def test_a_worker_that_answers_between_two_parts_of_the_timeouts_gets_no_task_whose_timeout_has_passed() -> None:
    pool = knowing(1e-3, max_workers=1, timers_at_once=10)
    pool.submit(0)
    for task in range(1, 31):
        pool.submit(task, timeout=1.0, firm=True)
    pool.submit(31, timeout=10.0, firm=True)
    said = pool.feed(on.TaskSubmitted(32, preparing=True, timeout=1.0))
    pool.now += 5.0  # the event loop stood still
    said = [*pool.returned(1, 0), *pool.feed(on.TaskPrepared(32, succeeded=True)), *pool.fire(), *pool.submit(33)]
    assert not [line for line in said if line.startswith("send")]
    said = [*pool.fire(), *pool.fire(), *pool.fire()]
    assert [line for line in said if line.startswith("send")] == ["send 31 to w1", "send 33 to w1"]
    assert len(outcomes(said, "timed_out")) == 21


def test_no_worker_is_started_for_tasks_whose_timeout_has_passed() -> None:
    pool = running(max_workers=4, min_workers=2)
    assert not [line for line in pool.submit(1, timeout=0.0) if line.startswith("start")]
    for task in (2, 3, 4):
        pool.feed(on.TaskSubmitted(task, preparing=True, timeout=1.0))
    pool.now += 2.0  # the event loop stood still
    said = [line for task in (2, 3, 4) for line in pool.feed(on.TaskPrepared(task, succeeded=True))]
    assert not [line for line in said if line.startswith("start")]
    assert outcomes(pool.fire(), "timed_out") == [1, 2, 3, 4]
