"""What the engine needs of a scheduler: there is one for a pool with one backend, and one for a pool with two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lifepool._core.commands import Command
    from lifepool._core.counters import Tally
    from lifepool._core.events import Event
    from lifepool._core.states import PoolState, TaskState
    from lifepool.errors import PoolError


class AdmissionView(Protocol):
    """Who would be refused.

    Attributes:
        reserved: Positions in the queue that are kept free for calls which wait for room.
    """

    reserved: int

    def refusal(self, timeout: float | None, fair_key: str | None = None, name: str | None = None) -> PoolError | None:
        """Return why a task would be refused now, or None. This does not count as a refusal."""


class HasAdmission(Protocol):
    """Something that admits tasks."""

    @property
    def admission(self) -> AdmissionView:
        """Return who would be refused."""


class DecidingScheduler(HasAdmission, Protocol):
    """A scheduler; see ``lifepool._core.scheduler.Scheduler`` for each of these."""

    def handle(self, event: Event, now: float) -> list[Command]:
        """Apply one event and return what to do next, in order."""

    def admit(self, timeout: float | None, fair_key: str | None = None, name: str | None = None) -> PoolError | None:
        """Return what a task is refused with now, and count that."""

    @property
    def state(self) -> PoolState:
        """Return the state of the pool."""

    @property
    def tally(self) -> Tally:
        """Return the counters of what happened so far."""

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task that is not settled, or None."""

    def time_left(self, task: int, now: float) -> float | None:
        """Return the seconds until the deadline of a task."""

    def attempts_of(self, task: int) -> int:
        """Return how often a task that is not settled was or is being tried."""
