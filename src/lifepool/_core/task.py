"""A task as the scheduler sees it: numbers and a state. What it calls, and with what, is the engine's business."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lifepool._core import states
from lifepool._core.states import TASK_TRANSITIONS, TaskState, moved

if TYPE_CHECKING:
    from collections.abc import Hashable

    from lifepool._core.events import TaskSubmitted
    from lifepool._core.fleet import Worker


class Task:
    """One task, from its submission until it is settled.

    Attributes:
        firm: Whether it is not refused any more once it is admitted.
        submitted: The instant of its submission.
        deadline: The instant at which its timeout passes; infinite without one.
        attempts: How often it was tried in vain.
        was_predicted: Whether other tasks waited before it, and enough was known to predict that it would be in time.
        worker: The worker that has it, while RUNNING.
        taken: The instant at which it was taken by a node, where the worker is a cluster.
    """

    __slots__ = (
        "attempts", "deadline", "fair_key", "firm", "id", "name", "priority", "retries", "state", "submitted",
        "taken", "timeout", "was_predicted", "worker",
    )  # fmt: skip

    def __init__(self, event: TaskSubmitted, now: float) -> None:
        self.id: int = event.task
        self.name: str = event.name
        self.priority: float = event.priority
        self.timeout: float | None = event.timeout
        self.deadline: float = inf if event.timeout is None else now + event.timeout
        self.retries: int = event.retries
        self.fair_key: Hashable = event.fair_key
        self.firm: bool = event.firm
        self.submitted: float = now
        self.attempts: int = 0
        self.state: TaskState = states.TASK_QUEUED
        self.was_predicted: bool = False
        self.worker: Worker | None = None
        self.taken: float | None = None

    def __str__(self) -> str:
        return f"task {self.id}"

    def move(self, state: TaskState) -> None:
        """Change the state, if the table allows it."""
        if state not in TASK_TRANSITIONS[self.state]:  # checked here, for it is on the way of every task
            moved(TASK_TRANSITIONS, self.state, state, self)
        self.state = state
