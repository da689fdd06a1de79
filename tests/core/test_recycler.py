"""Replacing workers, one that has done its share or all of them: events, and the exact commands that follow."""

from __future__ import annotations

import pytest

from lifepool._core.events import KeptViews
from lifepool._core.policy import KEPT_VIEWS_MOST
from lifepool._core.states import ExitReason
from tests.core.script import Script, knowing, running


def test_all_workers_are_replaced_one_after_another_each_successor_first() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.submit(1)
    assert pool.recycle() == ["start w3"]
    assert pool.ready(3) == ["stop w1", "start w4"]
    assert pool.exited(1, exitcode=0) == []
    assert pool.ready(4) == ["retract from w2", "recycled"]
    assert pool.returned(2, 1) == ["1 is completed", "stop w2"]
    pool.exited(2, exitcode=0)
    assert pool.scheduler.tally.restarts == {"recycled": 2}


def test_a_worker_that_still_starts_is_waited_for_and_replaced_too() -> None:
    pool = running(max_workers=2, min_workers=1)
    pool.submit(1)
    assert "start w2" in pool.submit(2)
    assert pool.recycle() == ["start w3"]
    assert pool.ready(3) == ["retract from w1", "send 2 to w3"]
    assert pool.ready(2) == ["start w4"]
    assert pool.ready(4) == ["stop w2", "recycled"]


def test_a_successor_that_can_not_start_ends_the_replacement_and_the_old_ones_stay() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.recycle()
    assert pool.exited(3, start_error="ImportError: model") == ["not recycled: WorkerStartError", "wake in 0.1"]
    assert [pool.submit(task)[0] for task in (1, 2)] == ["send 1 to w2", "send 2 to w1"]
    assert pool.recycle() == ["not recycled: WorkerStartError"], "starts are being backed off from"


def test_a_worker_that_dies_in_the_middle_does_not_keep_the_others_from_being_replaced() -> None:
    pool = running(max_workers=2, min_workers=2)
    for task in (1, 2):
        pool.submit(task)
    pool.recycle()
    assert pool.exited(1, signal=9)[:2] == ["2 is lost: WorkerLost", "start w4"]
    assert pool.ready(3) == ["retract from w2", "recycled"]


@pytest.mark.parametrize("end", ["drain", "close"])
def test_a_pool_that_ends_replaces_nobody(end: str) -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.recycle()
    said = pool.drain() if end == "drain" else pool.close()
    assert "not recycled: PoolClosed" in said
    assert pool.recycle() == ["not recycled: PoolClosed"]


@pytest.mark.parametrize(
    ("kept", "is_replaced"),
    [
        (KeptViews(KEPT_VIEWS_MOST, 1000), False),
        (KeptViews(1, 1001), True),
        (KeptViews(KEPT_VIEWS_MOST + 1, 1000), True),
    ],
)
def test_a_worker_that_keeps_views_of_too_much_is_replaced(kept: KeptViews, is_replaced: bool) -> None:
    pool = running(max_kept_bytes=1000)
    pool.submit(1)
    assert ("stop w1" in pool.returned(1, 1, kept=kept)) is is_replaced
    assert pool.warned == ({1: kept} if is_replaced else {})
    if is_replaced:
        pool.exited(1, exitcode=0)
        assert pool.scheduler.tally.restarts == {"kept_views": 1}
        assert pool.exits == {1: ExitReason.KEPT_VIEWS}


# -- one that has done its share --------------------------------------------------------------------------------------


def test_a_worker_goes_after_its_last_task_and_its_successor_is_started_before() -> None:
    pool = running(max_tasks_per_worker=2)
    pool.submit(1)
    assert pool.returned(1, 1) == ["1 is completed", "start w2"]
    pool.submit(2)
    assert pool.returned(1, 2) == ["2 is completed", "stop w1"]
    assert pool.submit(3) == []
    assert pool.ready(2) == ["send 3 to w2"]
    assert pool.exited(1, exitcode=0) == []
    assert pool.scheduler.tally.restarts == {"max_tasks_per_worker": 1}


def test_a_successor_that_is_ready_takes_over_and_the_predecessor_goes() -> None:
    pool = running(max_tasks_per_worker=10)
    for task in range(9):
        pool.submit(task)
        said = pool.returned(1, task)
    assert said == ["8 is completed", "start w2"]
    assert pool.ready(2) == ["stop w1"]
    assert pool.submit(9) == ["send 9 to w2"]


def test_the_successor_is_started_as_far_ahead_as_starts_take_by_the_workers_own_pace() -> None:
    pool = Script(max_tasks_per_worker=10)
    pool.start()
    pool.now += 0.02
    pool.ready(1)
    for task in range(1, 7):
        pool.submit(task)
        pool.now += 0.01
        said = pool.returned(1, task, 0.01)
        assert said == ([f"{task} is completed"] if task < 6 else ["6 is completed", "start w2"])


def test_one_successor_is_started_and_no_more() -> None:
    pool = running(max_tasks_per_worker=20)
    started = []
    for task in range(20):
        pool.submit(task)
        started += [line for line in pool.returned(1, task) if line.startswith("start")]
    assert started == ["start w2"]


def test_a_predecessor_at_work_finishes_and_gives_back_the_rest() -> None:
    pool = knowing(1e-3, max_tasks_per_worker=20)
    pool.scheduler._supervisor.last_start_s = 1e-3
    for task in range(18):
        pool.submit(task, name="f")
        pool.returned(1, task, 1e-3)
    for task in (18, 19):
        pool.submit(task, name="f")
    assert pool.ready(2) == ["retract from w1"]
    assert pool.retracted(1, 19) == ["send 19 to w2"]
    assert pool.returned(1, 18, 1e-3) == ["18 is completed", "stop w1"]


def test_with_one_task_each_a_worker_is_stopped_and_the_next_one_started() -> None:
    pool = running(max_tasks_per_worker=1)
    pool.submit(1)
    assert pool.returned(1, 1) == ["1 is completed", "stop w1", "start w2"]


def test_nothing_is_pipelined_beyond_a_workers_last_task() -> None:
    pool = knowing(1e-4, max_tasks_per_worker=3)
    sent = [line for task in range(5) for line in pool.submit(task, name="f") if line.startswith("send")]
    assert len(sent) == 3
    pool.returned(1, 0, 1e-4)
    assert pool.returned(1, 1, 1e-4) == ["1 is completed", "start w2"]
    assert pool.returned(1, 2, 1e-4) == ["2 is completed", "stop w1"]


def test_a_worker_that_waits_for_its_successor_may_still_go_for_being_idle() -> None:
    pool = running(max_workers=2, min_workers=0, max_tasks_per_worker=2, idle_timeout=5.0)
    pool.submit(1)
    pool.ready(1)
    assert pool.returned(1, 1) == ["1 is completed"], "no minimum, no successor"
    assert "stop w1" in pool.pass_time(70.0)


def test_a_worker_above_its_memory_goes_after_the_task() -> None:
    pool = running(max_worker_memory=1000)
    pool.submit(1)
    assert pool.returned(1, 1, memory=1000) == ["1 is completed"]
    pool.submit(2)
    assert pool.returned(1, 2, memory=1001) == ["2 is completed", "stop w1", "start w2"]
    pool.exited(1, exitcode=0)
    assert pool.scheduler.tally.restarts == {"max_worker_memory": 1}


def test_memory_counts_near_the_last_task_too() -> None:
    pool = running(max_worker_memory=1000, max_tasks_per_worker=2)
    pool.submit(1)
    assert pool.returned(1, 1, memory=1001) == ["1 is completed", "stop w1", "start w2"]


def test_a_worker_above_its_memory_gives_back_what_it_has_not_started() -> None:
    pool = knowing(1e-3, max_worker_memory=1000)
    for task in (1, 2):
        pool.submit(task, name="f")
    assert pool.returned(1, 1, 1e-3, memory=5000) == ["1 is completed", "retract from w1", "start w2"]
    assert pool.retracted(1, 2) == ["stop w1"]
    assert pool.ready(2) == ["send 2 to w2"]


def test_a_worker_with_slots_finishes_them_all_before_it_goes() -> None:
    pool = running(slots=2, max_tasks_per_worker=1, can_kill=False, can_interrupt=False, can_retract=False)
    for task in (1, 2):
        pool.submit(task)
    assert pool.returned(1, 1) == ["1 is completed", "start w2"], "nothing is retracted where nothing can be"
    assert pool.returned(1, 2) == ["2 is completed", "stop w1", "wake in 2"]
