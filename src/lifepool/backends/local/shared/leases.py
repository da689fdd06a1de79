"""What one worker may still read of the shared arguments: see "Who owns a slot" in ``shared/arena.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core.events import KeptViews

if TYPE_CHECKING:
    from lifepool.backends.local.shared.arena import Lease


class Leases:
    """Hold the leases of one worker, by task."""

    def __init__(self) -> None:
        self._reading: dict[int, Lease] = {}
        self._kept: dict[int, Lease] = {}  # of tasks that it has answered: it has views of these

    def lend(self, task: int, lease: Lease) -> None:
        """Note that the worker was sent the task."""
        self._reading[task] = lease

    def take_back(self, task: int) -> None:
        """Note that the worker has provably not started the task."""
        self._reading.pop(task, None)

    def released(self, task: int) -> None:
        """Note that nothing of this task's arguments is in use any more, as the worker says."""
        if self._reading.pop(task, None) is None:
            self._kept.pop(task, None)

    def answered(self, task: int) -> KeptViews | None:
        """End the lease of an answered task, unless the worker has kept views; return all that it has kept then."""
        lease = self._reading.pop(task, None) if self._reading else None
        if lease is None or not lease.is_viewed:
            return None
        self._kept[task] = lease
        return KeptViews(len(self._kept), sum(kept.stored.size for kept in self._kept.values()))

    def all(self) -> list[Lease]:
        """Return what the worker may still read."""
        return [*self._reading.values(), *self._kept.values()]

    def clear(self) -> None:
        """Forget all: the worker is dead, or somebody else sees to what it may still read."""
        self._reading.clear()
        self._kept.clear()
