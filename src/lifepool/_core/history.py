"""The recent events of one task or worker, given with an error: enough to see what led to it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool._core.events import Event

#: Events remembered: enough to see a task's neighbours, small enough to keep always.
HISTORY_EVENTS = 256


class History:
    """Keep the last events, with their instants.

    Attributes:
        events: The last events, oldest first. The scheduler appends to it directly: a call more would be paid by every
            event.
    """

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events: deque[tuple[float, Event]] = deque(maxlen=HISTORY_EVENTS)

    def of(self, *, task: int | None = None, worker: int | None = None) -> tuple[str, ...]:
        """Return the events that name this task or worker, oldest first, with their instants."""
        return tuple(
            f"{when:.6f} {event}"
            for when, event in self.events
            if (task is not None and _names(event, "task", task))
            or (worker is not None and _names(event, "worker", worker))
        )


def _names(event: Event, field: str, number: int) -> bool:
    return getattr(event, field, None) == number or number in getattr(event, f"{field}s", ())
