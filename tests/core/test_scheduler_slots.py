"""One worker with several slots, as a remote backend or an executor is to the scheduler."""

from __future__ import annotations

from lifepool.errors import TaskTimeout
from tests.core.script import running

EXECUTOR = {"slots": 3, "can_kill": False, "can_interrupt": False, "can_retract": False}


def test_slots_are_filled_and_no_more() -> None:
    pool = running(**EXECUTOR)
    assert [pool.submit(n) for n in (1, 2, 3, 4)] == [["send 1 to w1"], ["send 2 to w1"], ["send 3 to w1"], []]
    assert pool.returned(1, 2) == ["2 is completed", "send 4 to w1"]


def test_a_slot_stays_taken_after_a_timeout_until_the_function_returns() -> None:
    pool = running(**EXECUTOR)
    for task in (1, 2, 3):
        pool.submit(task, timeout=1.0)
    pool.submit(4)
    assert pool.fire() == [f"{n} is timed_out: TaskTimeout" for n in (1, 2, 3)], "no kill, no interrupt, no retraction"
    assert isinstance(pool.errors[1], TaskTimeout)
    assert pool.errors[1].started
    assert pool.returned(1, 2, 9.0) == ["send 4 to w1"]
    assert pool.scheduler.running == 1


def test_cancelling_there_drops_the_answer() -> None:
    pool = running(**EXECUTOR)
    pool.submit(1)
    assert pool.cancel(1) == ["1 is cancelled"]
    assert pool.returned(1, 1) == []


def test_all_that_a_broken_executor_was_running_is_lost() -> None:
    pool = running(**EXECUTOR)
    for task in (1, 2):
        pool.submit(task)
    assert pool.exited(1, reason="the executor broke") == ["1 is lost: WorkerLost", "2 is lost: WorkerLost", "start w2"]
    assert "the executor broke" in str(pool.errors[1])


def test_with_slots_that_can_be_taken_back_from_unstarted_tasks_return_to_the_queue() -> None:
    pool = running(slots=2, can_kill=False)
    for task in (1, 2):
        pool.submit(task)
    assert pool.cancel(1) == ["1 is cancelled", "retract from w1", "interrupt 1 on w1"]
    assert pool.retracted(1, 2) == ["send 2 to w1"]


def test_one_slots_answer_does_not_end_the_grace_of_another() -> None:
    pool = running(slots=2, can_retract=False)
    for task in (1, 2):
        pool.submit(task)
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w1", "wake in 0.25"]
    assert pool.returned(1, 2) == ["2 is completed"]
    assert pool.fire()[0] == "kill w1"
