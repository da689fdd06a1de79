"""What happened lately to one task or worker, told with an error: enough to see what led to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool.errors import PoolClosed, WorkerLost

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lifepool._core.events import Event, WorkerExited

#: Events remembered: enough to see a task's neighbours, small enough to keep always.
STORY_EVENTS = 256


def tell(recent: Iterable[tuple[float, Event]], task: int | None, worker: int | None) -> tuple[str, ...]:
    """The events that name this task or worker, oldest first, with their instants."""
    return tuple(
        f"{when:.6f} {event}"
        for when, event in recent
        if (task is not None and _names(event, "task", task))
        or (worker is not None and _names(event, "worker", worker))
    )


def _names(event: Event, field: str, number: int) -> bool:
    return getattr(event, field, None) == number or number in getattr(event, f"{field}s", ())


def lost(event: WorkerExited, reason: str, story: tuple[str, ...]) -> WorkerLost:
    """What becomes of the task that a worker was running when it ended."""
    return WorkerLost(
        exitcode=event.exitcode,
        signal=event.signal,
        oom_suspected=event.oom_suspected and not reason,  # else it was killed for a reason that is known
        reason=reason,
        story=story,
    )


def unfinished() -> PoolClosed:
    """What becomes of a task that the end of the pool overtook."""
    return PoolClosed("the pool was closed before the task was done", hint="give it a longer drain_timeout")
