"""A pool with two backends: who gets a task, what moves, and that each gets one outcome."""

from __future__ import annotations

import pytest

from lifepool._core.breaker import PAUSE_FIRST_S, BreakerState
from lifepool._core.states import PoolState
from lifepool.errors import BackendUnavailable
from tests.core.routed import RoutedScript, up


def counted(pool: RoutedScript) -> tuple[int, int]:
    """All that was submitted, and all that has an outcome."""
    tallies = (pool.scheduler.local.tally, pool.scheduler.remote.tally)
    return sum(t.submitted for t in tallies), sum(sum(t.outcomes.values()) for t in tallies)


# -- overflow --------------------------------------------------------------------------------------


def test_overflow_stays_here_until_the_queue_is_full() -> None:
    pool = up(prefers_remote=False, max_queue=2)
    assert pool.offer(1) == ["send 1 to w1"]
    assert [pool.offer(n) for n in (2, 3)] == [[], []]
    assert pool.offer(4) == ["send 4 to w-1"]
    assert pool.offer(5) == ["send 5 to w-1"]
    assert [pool.offer(n) for n in (6, 7)] == [[], []]  # in line for the cluster
    assert pool.offer(8) == ["QueueFull", "QueueFull"]
    assert pool.returned(-1, 4, 0.1) == ["4 is completed", "send 6 to w-1"]
    assert pool.returned(1, 1, 0.1) == ["1 is completed", "send 2 to w1"]


def test_overflow_goes_when_the_wait_here_would_be_too_long() -> None:
    pool = up(prefers_remote=False, target_wait=0.5)
    for side in (pool.scheduler.local, pool.scheduler.remote):
        side.run_times.learn("f", 0.2)
    assert pool.offer(1) == ["send 1 to w1"]
    assert [pool.offer(n) for n in (2, 3, 4)] == [[], [], []]  # 0.6 s of work waits now
    assert pool.offer(5) == ["send 5 to w-1"]
    assert pool.offer(6) == ["send 6 to w-1"]
    assert pool.offer(7) == []
    assert pool.scheduler.remote.task(7) is not None  # in line for the cluster


def test_long_tasks_may_wait_for_as_long_as_one_takes() -> None:
    pool = up(prefers_remote=False, target_wait=0.1)
    pool.scheduler.local.run_times.learn("f", 2.0)
    assert pool.offer(1) == ["send 1 to w1"]
    assert pool.offer(2) == []
    assert pool.offer(3) == []  # it would wait for 2 s, as long as one task
    assert pool.offer(4) == ["send 4 to w-1"]


def test_overflow_of_what_would_be_late_here() -> None:
    pool = up(prefers_remote=False, target_wait=60.0)
    pool.scheduler.local.run_times.learn("f", 1.0)
    pool.offer(1)
    pool.offer(2)
    assert pool.offer(3, timeout=1.5) == ["send 3 to w-1"]


def test_nothing_overflows_to_a_lost_cluster() -> None:
    pool = up(prefers_remote=False, max_queue=1)
    pool.reach("it was cut")
    pool.offer(1)
    pool.offer(2)
    assert pool.offer(3) == ["QueueFull"]


def test_what_overflowed_and_was_not_started_comes_home_if_there_is_room() -> None:
    pool = up(prefers_remote=False, max_queue=1)
    for task in (1, 2, 3, 4):
        pool.offer(task)
    pool.returned(1, 1, 0.1)  # the queue here is empty again
    assert pool.gives_back(3) == ["prepare 3"]
    assert pool.gives_back(4) == ["4 is failed: BackendUnavailable"]
    assert pool.prepared(3) == []
    assert pool.returned(1, 2, 0.1) == ["2 is completed", "send 3 to w1"]
    assert pool.returned(1, 3, 0.1) == ["3 is completed"]
    assert counted(pool) == (4, 4)
    assert pool.scheduler.moved == 1


# -- fallback --------------------------------------------------------------------------------------


def test_fallback_goes_to_the_cluster_and_a_full_one_refuses() -> None:
    pool = up(prefers_remote=True, slots=1, max_queue=1)
    assert pool.offer(1) == ["send 1 to w-1"]
    assert pool.offer(2) == []
    assert pool.scheduler.refusal(None, None, "f", remote=True) is not None
    assert pool.scheduler.admit(None, None, "f") is not None
    assert pool.scheduler.tally.refused == 1


def test_fallback_takes_what_comes_while_the_cluster_is_lost_and_what_waits_for_it() -> None:
    pool = up(prefers_remote=True, slots=1)
    assert pool.offer(1) == ["send 1 to w-1"]
    assert [pool.offer(n) for n in (2, 3)] == [[], []]
    assert pool.reach("it was cut") == ["prepare 2", "prepare 3"]
    assert pool.prepared(2) == ["send 2 to w1"]
    assert pool.prepared(3) == []
    assert pool.offer(4) == []
    for task in (2, 3, 4):
        pool.returned(1, task, 0.01)
    assert pool.returned(-1, 1, 0.1) == ["1 is completed"]  # what runs there comes home
    assert counted(pool) == (4, 4)
    assert pool.scheduler.breaker.state is BreakerState.OPEN


def test_what_is_given_back_unstarted_needs_no_retries_and_keeps_its_deadline() -> None:
    pool = up(prefers_remote=True)
    pool.offer(1, timeout=10.0)
    pool.now += 4.0
    assert pool.gives_back(1) == ["prepare 1"]
    assert pool.prepared(1) == ["send 1 to w1"]
    assert pool.scheduler.time_left(1, pool.now) == 6.0
    assert "1 is timed_out: TaskTimeout" in pool.pass_time(6.1)
    assert counted(pool) == (1, 1)


def test_a_lost_task_moves_only_as_a_retry() -> None:
    pool = up(prefers_remote=True)
    pool.offer(1)
    pool.offer(2, retries=1)
    assert pool.loses(1) == ["1 is lost: WorkerLost"]
    assert pool.loses(2) == []
    assert pool.reach("its nodes are gone") == ["prepare 2"]
    assert pool.prepared(2) == ["send 2 to w1"]
    assert pool.scheduler.attempts_of(2) == 2
    assert pool.exited(1, signal=9) == ["2 is lost: WorkerLost", "start w2"]
    assert counted(pool) == (2, 2)


def test_a_retry_stays_with_a_cluster_that_is_there() -> None:
    pool = up(prefers_remote=True)
    pool.offer(1, retries=1)
    pool.loses(1)
    assert pool.fire() == ["send 1 to w-1"]


def test_a_task_that_kills_its_workers_does_not_open_the_breaker() -> None:
    pool = up(prefers_remote=True, slots=20)
    for task in range(20):
        pool.offer(task)
        pool.loses(task, signal=11)
    assert pool.scheduler.breaker.state is BreakerState.CLOSED


def test_nodes_that_lose_one_task_after_the_other_do() -> None:
    pool = up(prefers_remote=True, slots=20)
    for task in range(5):
        assert pool.offer(task) == [f"send {task} to w-1"]
    for task in range(5):
        pool.loses(task)
    assert pool.offer(9) == ["send 9 to w1"]
    pool.now += PAUSE_FIRST_S
    assert pool.offer(10) == ["send 10 to w-1"]  # the trial
    assert pool.offer(11) == []  # here, behind 9
    pool.returned(-1, 10, 0.1)
    assert pool.offer(12) == ["send 12 to w-1"]


def test_a_cancelled_trial_makes_room_for_another() -> None:
    pool = up(prefers_remote=True)
    pool.reach("it was cut")
    pool.reach(None)
    pool.now += PAUSE_FIRST_S
    assert pool.offer(1) == ["send 1 to w-1"]
    assert pool.offer(2) == ["send 2 to w1"]
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w-1"]
    assert pool.offer(3) == ["send 3 to w-1"]
    assert pool.gives_back(1) == []  # it only frees its slot
    assert pool.scheduler.breaker.state is BreakerState.OPEN


def test_what_is_refused_everywhere_fails_and_says_why() -> None:
    pool = up(prefers_remote=True, slots=1, max_queue=1)
    pool.offer(1)
    pool.offer(2)
    pool.submit(3, remote=True)
    assert pool.reach("it was cut") == ["prepare 2", "3 is failed: BackendUnavailable"]
    assert isinstance(pool.errors[3], BackendUnavailable)
    assert "it was cut" in str(pool.errors[3])


def test_a_moved_task_can_be_cancelled_before_its_payload_is_there() -> None:
    pool = up(prefers_remote=True)
    pool.offer(1)
    pool.gives_back(1)
    assert pool.cancel(1) == ["1 is cancelled"]
    assert pool.prepared(1) == []


def test_a_moved_task_whose_payload_cannot_be_made_fails() -> None:
    pool = up(prefers_remote=True)
    pool.offer(1)
    pool.gives_back(1)
    assert pool.prepared(1, succeeded=False) == ["1 is failed"]


# -- the life of the pool --------------------------------------------------------------------------


def test_a_fallback_pool_is_up_when_both_are() -> None:
    pool = RoutedScript(prefers_remote=True)
    assert "started" not in pool.start()
    assert pool.ready(1) == []
    assert pool.scheduler.state is PoolState.STARTING
    assert pool.ready(-1) == ["started"]


def test_an_overflow_pool_does_not_wait_for_its_cluster() -> None:
    pool = RoutedScript(prefers_remote=False, max_queue=1)
    assert "started" not in pool.start()
    assert pool.ready(1) == ["started"]
    assert pool.scheduler.state is PoolState.RUNNING
    assert [pool.offer(n) for n in (1, 2, 3)] == [["send 1 to w1"], [], []]
    assert pool.ready(-1) == ["send 3 to w-1"]


def test_an_overflow_pool_ends_before_its_cluster_has_started() -> None:
    pool = RoutedScript(prefers_remote=False)
    pool.start()
    pool.ready(1)
    pool.submit(1)
    assert [line for line in pool.drain() if "w" in line] == ["kill w-1"]
    assert pool.exited(-1, start_error="it was let go") == []
    assert pool.returned(1, 1, 0.1) == ["1 is completed", "stop w1"]
    assert pool.exited(1) == ["closed"]


def test_workers_are_told_apart_by_their_numbers() -> None:
    pool = up(prefers_remote=False, max_workers=2, min_workers=2)
    assert sorted(pool.scheduler.local.fleet.workers) == [1, 2]
    assert list(pool.scheduler.remote.fleet.workers) == [-1]


@pytest.mark.parametrize("prefers_remote", [False, True])
def test_a_drain_ends_the_cluster_first_and_takes_what_comes_back(prefers_remote: bool) -> None:
    pool = up(prefers_remote=prefers_remote)
    pool.submit(1, remote=True)
    pool.submit(2, remote=False)
    assert pool.drain(30.0) == []
    assert pool.scheduler.state is PoolState.DRAINING
    assert type(pool.scheduler.admit(None)).__name__ == "PoolClosed"
    assert "prepare 1" in pool.gives_back(1)
    assert pool.prepared(1) in ([], ["send 1 to w1"])
    assert pool.exited(-1) == []
    assert pool.returned(1, 2, 0.1) in (["2 is completed", "send 1 to w1"], ["2 is completed"])
    assert pool.returned(1, 1, 0.1) == ["1 is completed", "stop w1"]
    assert pool.exited(1) == ["closed"]
    assert counted(pool) == (2, 2)


def test_a_drain_that_takes_too_long_ends_both_at_its_deadline() -> None:
    pool = up(prefers_remote=True)
    pool.submit(1, remote=True)
    pool.submit(2, remote=False)
    pool.drain(30.0)
    lines = pool.pass_time(30.1)
    assert [line for line in lines if " is " in line] == ["1 is cancelled: PoolClosed", "2 is cancelled: PoolClosed"]
    assert [line for line in lines if "kill" in line] == ["kill w-1", "kill w1"]
    assert pool.exited(-1) == []
    assert pool.exited(1) == ["closed"]


def test_a_close_ends_both_at_once() -> None:
    pool = up(prefers_remote=True)
    pool.submit(1, remote=True)
    assert pool.close() == ["1 is cancelled: PoolClosed", "kill w-1", "kill w1"]
    assert pool.exited(1) == []
    assert pool.exited(-1) == ["closed"]


def test_both_alarms_ring() -> None:
    pool = up(prefers_remote=True)
    pool.submit(1, remote=True, timeout=3.0)
    pool.submit(2, remote=False, timeout=2.0)
    pool.submit(3, remote=True, timeout=1.0)
    lines = pool.pass_time(3.1)
    assert [line.partition(" ")[0] for line in lines if "timed_out" in line] == ["3", "2", "1"]
