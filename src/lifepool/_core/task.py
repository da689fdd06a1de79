"""A task as the scheduler sees it: numbers and a state. What it calls, and with what, is the engine's business."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import states
from lifepool._core.states import TASK_TRANSITIONS, TaskState, moved

if TYPE_CHECKING:
    from lifepool._core.events import TaskSubmitted
    from lifepool._core.fleet import Worker


class Task:
    """One task's books, from submission until it is settled."""

    __slots__ = (
        "attempts", "fair_key", "firm", "id", "name", "priority", "retries", "state", "submitted", "timeout",
        "was_predicted", "worker",
    )  # fmt: skip

    def __init__(self, event: TaskSubmitted, now: float) -> None:
        self.id = event.task
        self.name = event.name
        self.priority = event.priority
        self.timeout = event.timeout
        self.retries = event.retries
        self.fair_key = event.fair_key
        self.firm = event.firm
        self.submitted = now
        self.attempts = 0
        self.state = states.TASK_QUEUED
        self.was_predicted = False  # others waited, and the door knew enough to take it to be in time all the same
        self.worker: Worker | None = None  # while RUNNING

    def __str__(self) -> str:
        return f"task {self.id}"

    def move(self, state: TaskState) -> None:
        """Change state along the table."""
        if state not in TASK_TRANSITIONS[self.state]:  # checked here, for it is on the way of every task
            moved(TASK_TRANSITIONS, self.state, state, self)
        self.state = state
