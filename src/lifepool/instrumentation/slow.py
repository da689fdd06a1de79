"""Log slow tasks: ``pool.add_hook(SlowTasks(threshold=1.0))``."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from lifepool._engine.rate_limiter import RateLimiter, and_before
from lifepool.hooks import Hook, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

logger: logging.Logger = logging.getLogger("lifepool")

_RAN_LONG = "split it into smaller tasks, or give it a timeout"
_WAITED_LONG = "the workers were busy: raise max_workers if there are CPUs left, else lower max_queue or set a timeout"


class SlowTasks(Hook):
    """Log a warning for each task that ran, or waited, longer than the threshold.

    One line a task, and per function one line in ``repeat_after`` seconds; the next one says how many were left out.

    Args:
        threshold: Seconds that a task may run.
        wait_threshold: Seconds that it may wait for a worker. None: as ``threshold``.
        repeat_after: Seconds for which a function's slow tasks are only counted, once one was logged.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        threshold: float = 1.0,
        *,
        wait_threshold: float | None = None,
        repeat_after: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.threshold = threshold
        self.wait_threshold: float = threshold if wait_threshold is None else wait_threshold
        self._limiter = RateLimiter(repeat_after)
        self._clock = clock

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """Log tasks above the thresholds; nearly always two comparisons are all."""
        most_run, most_wait = self.threshold, self.wait_threshold
        for task in tasks:
            run_s = task.run_s
            if run_s is None:
                run_s = _seconds_with_worker(task)
            waited = task.wait_s or 0.0
            if run_s > most_run or waited > most_wait:
                self._warn(task, run_s, waited)

    def _warn(self, task: TaskRecord, run_s: float, waited: float) -> None:
        if not self._limiter.may_say(task.name, self._clock()):
            return
        advice = [_RAN_LONG] if run_s > self.threshold else []
        if waited > self.wait_threshold:
            advice.append(_WAITED_LONG)
        where = "no worker had it" if task.worker is None else f"worker {task.worker}"
        logger.warning(
            "slow task %d (%s): waited %.2f s, ran %.2f s, %s; %s, attempts: %d. %s%s",
            task.id,
            task.name,
            waited,
            run_s,
            task.outcome,
            where,
            task.attempts,
            "; ".join(advice).capitalize(),
            and_before(self._limiter.left_out(task.name)),
        )


def _seconds_with_worker(task: TaskRecord) -> float:
    """Return how long a worker had a task that it never answered."""
    if task.sent is None or task.finished is None:
        return 0.0
    return task.finished - task.sent
