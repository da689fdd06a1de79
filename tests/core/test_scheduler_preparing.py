"""Tasks in preparation: accepted, with a position in the queue, while their payloads are still being made."""

from __future__ import annotations

from lifepool._core import events as on
from lifepool._core.states import TaskState
from lifepool.errors import QueueFull
from tests.core.script import running


def test_a_task_in_preparation_runs_when_its_payload_is_ready() -> None:
    pool = running()
    assert pool.submit(1, preparing=True) == []
    assert pool.scheduler.task_state(1) is TaskState.QUEUED
    assert pool.submit(2)[0] == "send 2 to w1"
    pool.returned(1, 2)
    assert pool.feed(on.TaskPrepared(1)) == ["send 1 to w1"]


def test_a_task_in_preparation_has_its_position_in_the_queue() -> None:
    pool = running(max_queue=2)
    pool.submit(1)
    for task in (2, 3):
        assert pool.scheduler.admission.refusal(None) is None
        pool.submit(task, preparing=True)
    assert isinstance(pool.scheduler.admission.refusal(None), QueueFull)
    pool.cancel(2)
    assert pool.scheduler.admission.refusal(None) is None


def test_a_task_in_preparation_whose_payload_cannot_be_made_has_failed() -> None:
    pool = running()
    pool.submit(1, preparing=True)
    assert pool.feed(on.TaskPrepared(1, succeeded=False)) == ["1 is failed"]


def test_a_task_in_preparation_can_time_out_and_be_cancelled_and_its_payload_is_late() -> None:
    pool = running()
    pool.submit(1, preparing=True, timeout=1.0)
    assert pool.fire() == ["1 is timed_out: TaskTimeout"]
    pool.submit(2, preparing=True)
    assert pool.cancel(2) == ["2 is cancelled"]
    assert pool.feed(on.TaskPrepared(1)) == pool.feed(on.TaskPrepared(2, succeeded=False)) == []


def test_a_drain_waits_for_a_task_in_preparation() -> None:
    pool = running()
    pool.submit(1, preparing=True)
    assert "closed" not in pool.drain()
    assert pool.feed(on.TaskPrepared(1))[0] == "send 1 to w1"
    assert "1 is completed" in pool.returned(1, 1)
