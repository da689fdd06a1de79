from __future__ import annotations

import pytest

from lifepool._core.events import TaskSubmitted
from lifepool._core.states import TaskState
from lifepool._core.task import Task
from lifepool.errors import InternalError


def test_a_task_keeps_what_was_submitted_and_when() -> None:
    task = Task(TaskSubmitted(7, "f", 2, 1.5, 3, "tenant"), 12.0)
    assert (task.id, task.name, task.priority, task.timeout) == (7, "f", 2, 1.5)
    assert (task.retries, task.fair_key, task.submitted, task.attempts) == (3, "tenant", 12.0, 0)
    assert task.state is TaskState.QUEUED
    assert task.worker is None


def test_an_illegal_move_is_an_internal_error_and_leaves_the_task_as_it_was() -> None:
    task = Task(TaskSubmitted(7), 12.0)
    with pytest.raises(InternalError, match="task 7 can't go from QUEUED to COMPLETED"):
        task.move(TaskState.COMPLETED)
    assert task.state is TaskState.QUEUED
