"""Importing is starting: what becomes of a task while its worker imports what it needs, and of the worker."""

from __future__ import annotations

import pytest

from lifepool._core.policy import INTERRUPT_GRACE_S, SAFETY_FACTOR
from lifepool.errors import TaskTimeout, WorkerLost
from tests.core.script import Script, knowing, running


def importing(**options: float) -> Script:
    """A worker that imports what its task needs."""
    pool = running(start_timeout=30.0, max_queue=100)
    pool.submit(1, **options)
    pool.loading(1, 1)
    return pool


def test_the_caller_has_its_timeout_in_time_and_the_worker_goes_on() -> None:
    pool = importing(timeout=0.2)
    said = pool.pass_time(10.0)
    assert [line for line in said if not line.startswith(("wake", "retract"))] == ["1 is timed_out: TaskTimeout"]
    error = pool.errors[1]
    assert isinstance(error, TaskTimeout)
    assert not error.started
    assert "preload" in error.hint
    assert pool.loaded(1, 1) == ["interrupt 1 on w1"], "now it can be broken off"
    pool.returned(1, 1, succeeded=False)
    assert pool.submit(2)[0] == "send 2 to w1"


def test_after_the_import_a_task_that_does_not_let_itself_be_broken_off_costs_its_worker() -> None:
    pool = importing(timeout=0.2)
    pool.pass_time(1.0)
    pool.loaded(1, 1)
    assert "kill w1" in pool.pass_time(INTERRUPT_GRACE_S + 0.01)


def test_an_import_is_bounded_as_a_start_is() -> None:
    pool = importing()
    assert "kill w1" not in pool.pass_time(29.9)
    assert "kill w1" in pool.pass_time(0.2)
    pool.exited(1, signal=9)
    lost = pool.errors[1]
    assert isinstance(lost, WorkerLost)
    assert "had not imported what the task needs within start_timeout (30 s)" in str(lost)


def test_an_import_that_is_done_is_bounded_no_more() -> None:
    pool = importing()
    pool.loaded(1, 1)
    assert "kill w1" not in pool.pass_time(100.0)
    assert pool.returned(1, 1)[0] == "1 is completed"


def test_an_order_that_crossed_the_news_is_taken_back_and_given_again() -> None:
    pool = running()
    pool.submit(1, timeout=0.2)
    assert "interrupt 1 on w1" in pool.pass_time(0.21)
    pool.loading(1, 1)
    assert "kill w1" not in pool.pass_time(10.0)
    assert pool.loaded(1, 1)[0] == "interrupt 1 on w1"


def test_an_abandoned_task_is_run_all_the_same_and_its_answer_dropped() -> None:
    pool = importing()
    pool.cancel(1, abandon=True)
    assert pool.loaded(1, 1) == []
    assert pool.returned(1, 1) == []


def test_a_cancelled_one_is_broken_off_as_soon_as_it_can_be() -> None:
    pool = importing()
    assert pool.cancel(1) == ["1 is cancelled"]
    assert pool.loaded(1, 1)[0] == "interrupt 1 on w1"


def test_an_import_that_fails_is_the_tasks_failure_alone() -> None:
    pool = importing()
    assert pool.returned(1, 1, succeeded=False) == ["1 is failed"]
    pool.submit(2, timeout=1.0)
    assert "interrupt 2 on w1" in pool.pass_time(1.1), "the next one is broken off as ever"
    pool.returned(1, 2, succeeded=False)
    assert "kill w1" not in pool.pass_time(100.0)


def test_where_a_task_can_only_be_killed_that_waits_for_the_end_of_the_import_too() -> None:
    pool = running(can_interrupt=False)
    pool.submit(1, timeout=0.2)
    pool.loading(1, 1)
    assert "kill w1" not in pool.pass_time(5.0)
    assert pool.loaded(1, 1) == ["kill w1"]


def test_who_waits_behind_an_import_runs_elsewhere_once_somebody_is_free() -> None:
    pool = knowing(0.2e-3, max_workers=2, min_workers=2)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.scheduler.fleet.workers[2].tasks == [1, 3]
    pool.loading(2, 1)
    assert "retract from w2" in pool.pass_time(0.01)
    pool.returned(1, 2)
    assert "send 3 to w1" in pool.retracted(2, 3)


def test_nothing_is_learned_from_it_about_the_queue() -> None:
    pool = running(max_queue=50)
    pool.submit(1)
    pool.submit(2, timeout=1.0)
    pool.returned(1, 1)
    pool.loading(1, 2)
    pool.pass_time(2.0)
    assert pool.errors[2] is not None
    assert pool.scheduler.admission.safety_factor == SAFETY_FACTOR


def test_news_that_can_not_be_is_ignored() -> None:
    pool = running(start_timeout=10.0)
    assert pool.loading(1, 7) == []
    assert pool.loaded(1, 7) == []
    pool.submit(1)
    assert pool.loading(1, 7) == []
    assert pool.loaded(1, 1) == []
    assert pool.loading(99, 1) == []
    assert pool.loaded(99, 1) == []
    assert "kill w1" not in pool.pass_time(100.0)


@pytest.mark.parametrize("timeout", [0.2, 2.0])
def test_sixty_four_workers_that_import_for_long_are_all_kept(timeout: float) -> None:
    pool = Script(max_workers=64, min_workers=64, max_queue=1000)
    pool.start()
    for worker in range(1, 65):
        pool.ready(worker)
    said: list[str] = []
    heads = {}
    for task in range(1, 65):
        line = pool.submit(task, name="f", timeout=timeout)[0]
        heads[int(line.rpartition("w")[2])] = task
    for worker, task in heads.items():
        said += pool.loading(worker, task)
    for task in range(65, 820):
        if pool.scheduler.admission.refusal(timeout, None, "f") is None:
            said += pool.submit(task, name="f", timeout=timeout)
    said += pool.pass_time(timeout + 0.01)
    assert pool.scheduler.tally.outcomes.total() == pool.scheduler.tally.submitted, "every caller has an outcome"
    said += pool.pass_time(20.0)
    for worker, task in heads.items():
        said += pool.loaded(worker, task)
        said += pool.returned(worker, task, succeeded=False)
    assert not [line for line in said if line.startswith("kill")]
    assert pool.scheduler.tally.restarts == {}
    assert len(pool.scheduler.fleet.idle) == 64
    assert pool.submit(1000, name="f", timeout=timeout)[0].startswith("send 1000")
