"""What one worker may still read of the shared arguments: see "Who owns a slot" in ``shared/arena.py``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lifepool.backends.local.shared.argument_views import MOST_KEPT

if TYPE_CHECKING:
    from lifepool.backends.local.shared.arena import Lease

logger = logging.getLogger("lifepool")


class Leases:
    """The leases of one worker, by task.

    Args:
        worker: Its number, for the log.
        most: Bytes that it may keep in views beyond their tasks.
    """

    def __init__(self, worker: int, most: int) -> None:
        self._worker = worker
        self._most = most
        self._reading: dict[int, Lease] = {}
        self._kept: dict[int, Lease] = {}  # of tasks that it has answered: it has views of these

    def lend(self, task: int, lease: Lease) -> None:
        """It was sent the task."""
        self._reading[task] = lease

    def take_back(self, task: int) -> None:
        """It has provably not started the task."""
        self._reading.pop(task, None)

    def released(self, task: int) -> None:
        """It says that nothing of this task's arguments is in use any more."""
        if self._reading.pop(task, None) is None:
            self._kept.pop(task, None)

    def answered(self, task: int) -> str:
        """It has answered the task, and unless it has kept views, the lease ends.

        Returns:
            Why it is to be replaced, if it keeps too much.
        """
        lease = self._reading.pop(task, None) if self._reading else None
        if lease is None or not lease.is_viewed:
            return ""
        self._kept[task] = lease
        size = sum(kept.stored.size for kept in self._kept.values())
        if size <= self._most and len(self._kept) <= MOST_KEPT:
            return ""
        logger.warning(
            "worker %d is replaced: it keeps views of the arguments of %d tasks, %d bytes (copy=False)",
            self._worker,
            len(self._kept),
            size,
        )
        return "kept_views"

    def all(self) -> list[Lease]:
        """What it may still read."""
        return [*self._reading.values(), *self._kept.values()]

    def clear(self) -> None:
        """It is dead, or somebody else sees to what it may still read."""
        self._reading.clear()
        self._kept.clear()
