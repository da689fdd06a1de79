"""Log the end of a pool: what it waits for, and which tasks it cancelled."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.queries import Queries

logger = logging.getLogger("lifepool")

#: Names of functions that one line has room for.
MOST_NAMES = 5


class Draining(Protocol):
    """An engine that ends, as its log needs it.

    Attributes:
        queries: Says what is left.
        cut_off: Tasks that were cancelled by the end of the pool, by the names of their functions.
    """

    queries: Queries
    cut_off: Counter[str]


class DrainLog:
    """Log one end of one pool; nothing at all if there is nothing to wait for.

    Args:
        label: The pool's name.
        engine: What is being ended.
        timeout: Seconds that it may take.
    """

    def __init__(self, label: str, engine: Draining, timeout: float) -> None:
        self._label = label
        self._engine = engine
        self._timeout = timeout
        self._began = time.monotonic()
        self._level = logging.INFO

    def waits(self) -> None:
        """Log what is waited for: the first time as information, later as warnings, which show without any setup."""
        level, self._level = self._level, logging.WARNING
        running, queued = self._engine.queries.running, self._engine.queries.waiting
        if not running + queued or not logger.isEnabledFor(level):
            return
        left = max(0.0, self._timeout - (time.monotonic() - self._began))
        longest = max(
            (worker for worker in self._engine.queries.workers(memory=False) if worker.running_s is not None),
            key=lambda worker: worker.running_s or 0.0,
            default=None,
        )
        what = "" if longest is None else f"; {longest.task_name} has run for {longest.running_s:.1f} s"
        logger.log(
            level,
            "pool %r drains: it waits for %d running and %d queued tasks, %.3g s at most%s",
            self._label, running, queued, left, what,
        )  # fmt: skip

    def ended(self) -> None:
        """Log what was cancelled."""
        cut = self._engine.cut_off
        if cut:
            logger.warning(
                "pool %r ended after %.1f s before these tasks were done, and cancelled them: %s",
                self._label, time.monotonic() - self._began, named(cut),
            )  # fmt: skip


def warn_of_lost_tasks(label: str, handles: dict[int, TaskHandle[Any]], pid: int) -> None:
    """Log which tasks are lost because nobody has closed their pool.

    Not in a forked copy of its process; nor while the event loop runs: somebody let go of the pool, and may have kept
    the handles.

    Args:
        label: The pool's name.
        handles: Its tasks without an outcome.
        pid: The pool's process.
    """
    undone = list(handles.values())
    if undone and os.getpid() == pid and not undone[0].get_loop().is_running():
        names = Counter(handle._name for handle in undone)
        logger.warning(
            "pool %r was not closed, and its event loop ended before these tasks were done: %s. Use 'async with pool'",
            label, named(names),
        )  # fmt: skip


def named(counts: Counter[str]) -> str:
    """List names and how often each occurs, the most frequent first, no longer than fits a line."""
    parts = [name if count == 1 else f"{name} ({count} times)" for name, count in counts.most_common(MOST_NAMES)]
    others = counts.total() - sum(count for _, count in counts.most_common(MOST_NAMES))
    return ", ".join([*parts, f"and {others} more"] if others else parts)
