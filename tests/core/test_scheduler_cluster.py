"""A worker that is a cluster: its slots come and go, it loses single tasks, and ends each by itself."""

from __future__ import annotations

from lifepool._core.events import TaskLost, TasksTaken, WorkerExited, WorkerResized
from tests.core.script import Script, running

CLUSTER = {"slots": 100, "is_cluster": True, "can_kill": False, "can_interrupt": True, "can_retract": False}


def cluster(slots: int) -> Script:
    pool = running(**CLUSTER)
    assert pool.feed(WorkerResized(1, slots)) == []
    return pool


def lost(pool: Script, task: int, *, started: bool = True) -> list[str]:
    end = WorkerExited(1, () if started else (task,), reason="its node is gone")
    return pool.feed(TaskLost(1, task, end))


def test_slots_that_come_are_filled_and_what_runs_on_those_that_go_is_finished() -> None:
    pool = cluster(1)
    assert [pool.submit(n) for n in (1, 2, 3)] == [["send 1 to w1"], [], []]
    assert pool.feed(WorkerResized(1, 3)) == ["send 2 to w1", "send 3 to w1"]
    assert pool.feed(WorkerResized(1, 1)) == []
    assert pool.submit(4) == []
    assert pool.returned(1, 1) == ["1 is completed"]
    assert pool.returned(1, 2) == ["2 is completed"]
    assert pool.returned(1, 3) == ["3 is completed", "send 4 to w1"]


def test_a_lost_task_frees_its_slot_and_the_others_go_on() -> None:
    pool = cluster(2)
    for task in (1, 2, 3):
        pool.submit(task)
    assert lost(pool, 1) == ["1 is lost: WorkerLost", "send 3 to w1"]
    assert "its node is gone" in str(pool.errors[1])
    assert pool.returned(1, 2) == ["2 is completed"]


def test_a_lost_task_with_retries_is_tried_again_and_one_that_had_not_started_at_once() -> None:
    pool = cluster(2)
    pool.submit(1, retries=1)
    pool.submit(2)
    assert lost(pool, 2, started=False) == ["send 2 to w1"]
    assert [line for line in lost(pool, 1) if not line.startswith("wake")] == []
    assert pool.fire() == ["send 1 to w1"]
    assert lost(pool, 1) == ["1 is lost: WorkerLost"]


def test_a_task_that_is_lost_after_its_outcome_only_frees_the_slot() -> None:
    pool = cluster(1)
    pool.submit(1)
    pool.submit(2)
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w1"]
    assert lost(pool, 1) == ["send 2 to w1"]
    assert lost(pool, 1) == []


def test_any_number_is_interrupted_at_once_and_the_cluster_is_never_killed() -> None:
    pool = cluster(3)
    for task in (1, 2, 3):
        pool.submit(task, timeout=1.0)
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w1"]
    timed_out = [line for line in pool.fire() if not line.startswith("wake")]
    assert timed_out == [
        "2 is timed_out: TaskTimeout",
        "interrupt 2 on w1",
        "3 is timed_out: TaskTimeout",
        "interrupt 3 on w1",
    ]
    assert pool.alarm is None or pool.alarm <= pool.now


def test_a_timeout_says_whether_the_task_ran_or_still_waited_at_the_cluster() -> None:
    pool = cluster(2)
    for task in (1, 2):
        pool.submit(task, timeout=1.0)
    assert pool.feed(TasksTaken(1, (1, 99))) == []
    pool.fire()
    assert [pool.errors[task].started for task in (1, 2)] == [True, False]  # type: ignore[attr-defined]


def test_a_task_that_is_sent_again_waits_again() -> None:
    pool = cluster(1)
    pool.submit(1, timeout=1.0)
    pool.feed(TasksTaken(1, (1,)))
    assert lost(pool, 1, started=False) == ["send 1 to w1"]
    pool.fire()
    assert not pool.errors[1].started  # type: ignore[attr-defined]


def test_news_of_a_worker_that_is_gone_is_no_news() -> None:
    pool = cluster(1)
    assert pool.feed(WorkerResized(7, 3)) == []
    assert pool.feed(TaskLost(7, 1, WorkerExited(7))) == []


def test_what_is_left_of_a_timeout_is_known() -> None:
    pool = cluster(2)
    pool.submit(1, timeout=2.0)
    pool.submit(2)
    assert pool.scheduler.time_left(1, pool.now + 0.5) == 1.5
    assert pool.scheduler.time_left(2, pool.now) is None
    assert pool.scheduler.time_left(3, pool.now) is None
