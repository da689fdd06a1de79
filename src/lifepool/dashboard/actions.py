"""The actions of the page: cancel a task, replace the workers, drain the pool."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lifepool.dashboard import responses as answers

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lifepool.dashboard.responses import Answer
    from lifepool.pool import Pool

logger: logging.Logger = logging.getLogger("lifepool")


class Actions:
    """Cancel tasks, replace workers, drain the pool.

    The latter two take time: they are only started here, and the page shows their progress.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def names(self) -> tuple[str, ...]:
        """Return the names of the actions."""
        return ("cancel", "drain", "recycle")

    def perform(self, action: str, subject: int) -> Answer:
        """Perform an action; one that takes time is started.

        Args:
            action: One of the names.
            subject: The task's number, for ``cancel``.
        """
        if action == "cancel":
            if not self._pool.cancel(subject):
                return answers.of_problem(409, "the task has its outcome already, or there is no such task")
            return answers.of_json({"cancelled": subject})
        under_way = self._under_way.get(action)
        if under_way is not None and not under_way.done():
            return answers.of_problem(409, f"the pool is at it already: {action}")
        work = self._pool.drain() if action == "drain" else self._pool.recycle()
        self._under_way[action] = asyncio.create_task(self._finish(action, work))
        return answers.of_json({"begun": action}, 202)

    async def _finish(self, action: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception:
            logger.exception("%s, asked for on the live page, failed", action)
