"""What can be done from the page."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from lifepool.dashboard import responses as answers

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lifepool.dashboard.responses import Answer
    from lifepool.pool import Pool

logger = logging.getLogger("lifepool")


class Actions:
    """Cancels tasks, replaces workers, drains the pool.

    The latter two take their time; they are begun, and the page shows how they go on.

    Args:
        pool: The pool.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way: dict[str, asyncio.Task[None]] = {}

    def names(self) -> tuple[str, ...]:
        """What there is."""
        return ("cancel", "drain", "recycle")

    def perform(self, action: str, subject: int) -> Answer:
        """Do it, or begin to.

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
