from __future__ import annotations

from itertools import product

import pytest

from lifepool._core.states import (
    POOL_TRANSITIONS,
    SETTLED,
    TASK_TRANSITIONS,
    WORKER_TRANSITIONS,
    PoolState,
    TaskState,
    WorkerState,
    moved,
)
from lifepool.errors import InternalError

# Written down a second time, from the design's words: whoever changes a table changes it here as well.
TASK = {
    ("QUEUED", "RUNNING"), ("RUNNING", "QUEUED"),
    *product(["QUEUED"], ["FAILED", "CANCELLED", "TIMED_OUT", "LOST"]),
    *product(["RUNNING"], ["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT", "LOST"]),
}  # fmt: skip
WORKER = {
    ("STARTING", "READY"), ("READY", "BUSY"), ("BUSY", "READY"), ("BUSY", "DRAINING"),
    *product(["STARTING", "READY", "BUSY", "DRAINING"], ["STOPPING"]),
    *product(["STARTING", "READY", "BUSY", "DRAINING", "STOPPING"], ["DEAD"]),
}  # fmt: skip
POOL = {
    ("CREATED", "STARTING"), ("STARTING", "RUNNING"), ("RUNNING", "DRAINING"),
    *product(["CREATED", "STARTING", "RUNNING", "DRAINING"], ["CLOSED"]),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new"), list(product(TaskState, TaskState)))
def test_a_task_moves_along_its_table_only(old: TaskState, new: TaskState) -> None:
    if (old.name, new.name) in TASK:
        assert moved(TASK_TRANSITIONS, old, new, "task 7") is new
    else:
        with pytest.raises(InternalError, match=f"task 7 can't go from {old.name} to {new.name}"):
            moved(TASK_TRANSITIONS, old, new, "task 7")


@pytest.mark.parametrize(("old", "new"), list(product(WorkerState, WorkerState)))
def test_a_worker_moves_along_its_table_only(old: WorkerState, new: WorkerState) -> None:
    if (old.name, new.name) in WORKER:
        assert moved(WORKER_TRANSITIONS, old, new, "worker 7") is new
    else:
        with pytest.raises(InternalError, match=f"worker 7 can't go from {old.name} to {new.name}"):
            moved(WORKER_TRANSITIONS, old, new, "worker 7")


@pytest.mark.parametrize(("old", "new"), list(product(PoolState, PoolState)))
def test_the_pool_moves_along_its_table_only(old: PoolState, new: PoolState) -> None:
    if (old.name, new.name) in POOL:
        assert moved(POOL_TRANSITIONS, old, new, "the pool") is new
    else:
        with pytest.raises(InternalError, match=f"the pool can't go from {old.name} to {new.name}"):
            moved(POOL_TRANSITIONS, old, new, "the pool")


def test_settled_is_every_state_that_a_task_never_leaves() -> None:
    assert {state for state in TaskState if not TASK_TRANSITIONS[state]} == SETTLED
