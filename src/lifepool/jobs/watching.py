"""Who waits for a job to change."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Watchers:
    """Wakes those who wait for a job, whoever has changed it."""

    def __init__(self) -> None:
        self._events: dict[str, list[asyncio.Event]] = {}

    @contextmanager
    def watch(self, job: str) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the job changes; clear it before you look at the job."""
        event = asyncio.Event()
        self._events.setdefault(job, []).append(event)
        try:
            yield event
        finally:
            events = self._events[job]
            events.remove(event)
            if not events:
                del self._events[job]

    def wake(self, job: str) -> None:
        """Wake those who wait for this job."""
        for event in self._events.get(job, ()):
            event.set()

    def wake_all(self) -> None:
        """Wake everybody: the jobs end."""
        for events in self._events.values():
            for event in events:
                event.set()
