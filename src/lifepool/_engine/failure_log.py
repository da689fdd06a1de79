"""Log what went wrong with tasks, also if there is no hook and an app has turned the error into an HTTP answer.

A task that was lost, passed its timeout, could not be sent there or back, or was cancelled by the end of the pool is
one warning: which function, why, on which worker, after how long. Never what it was called with. What a function of the
user's own raises is not logged here: it is raised where the task is awaited.
"""

from __future__ import annotations

import logging
import re
from signal import Signals
from typing import TYPE_CHECKING, TypeGuard

from lifepool._engine.rate_limiter import RateLimiter
from lifepool.errors import (
    InternalError,
    PoolError,
    QueueFull,
    TaskError,
    TaskNotPicklable,
    WorkerLost,
    WorkerStartError,
)

if TYPE_CHECKING:
    import asyncio

    from lifepool._core.states import TaskState
    from lifepool._core.task import Task

logger = logging.getLogger("lifepool")

#: Lines for one cause at first; what comes after them is counted, and reported in one line a second.
BURST = 5
PERIOD_S = 1.0
#: Characters of a line's middle part.
MAX_CAUSE = 300

_PLAIN_PATH = re.compile(r"the (?:call|function)\Z|(?:\.?\w+|\[\d+\])+")
_KIND_OF_OBJECT = re.compile(r"cannot pickle '[\w.]+' object|the (?:worker|server) could not rebuild it: \w+")


class FailureLog:
    """Log the warnings of one pool. A flood of them is a few lines a second, whatever its size.

    Args:
        pool: What it is called in the log.
        loop: The pool's event loop.
    """

    def __init__(self, pool: str, loop: asyncio.AbstractEventLoop) -> None:
        self._pool = pool
        self._loop = loop
        self._limiter = RateLimiter(PERIOD_S, BURST)
        self._flooding: dict[str, str] = {}  # causes of which lines were left out, with the last task's name
        self._timer: asyncio.TimerHandle | None = None

    def settled(self, name: str, task: Task, outcome: TaskState, error: BaseException | None, now: float) -> bool:
        """Log that a task was not completed.

        Args:
            name: The name of its function.
            task: What the scheduler knows of it.
            outcome: What became of it.
            error: What is raised where it is awaited; None if nobody awaits it.
            now: Monotonic seconds.

        Returns:
            Whether it was logged, or counted for a line to come.
        """
        if not _is_ours(error) or isinstance(error, (InternalError, QueueFull)):
            return False  # the user's own; or cancelled by its caller; or logged as critical; or counted
        if self._may_say(error, name):
            where = "" if task.worker is None else f" on worker {task.worker.id}"
            seconds = f"{now - task.submitted:.3g} s after it was submitted"
            state = outcome.value.replace("_", " ")
            self._say(f"task {task.id} ({name}) {state}{where}, {seconds}: {cause_of(error)}", error.hint)
        return True

    def call_failed(self, name: str, error: PoolError) -> None:
        """Log that a call could not be sent, or that one call of a batch passed its timeout.

        Refusals are not logged: they come by the thousand, and are counted in the statistics.
        """
        if isinstance(error, TaskError) and self._may_say(error, name):
            self._say(f"a call of {name} failed: {cause_of(error)}", error.hint)

    def flush(self) -> None:
        """Log now how many lines were left out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        flooding, self._flooding = self._flooding, {}
        for kind, name in flooding.items():
            count = self._limiter.left_out(kind)
            logger.warning("pool %r: %d more tasks with %s, the last one %s", self._pool, count, kind, name)

    def _may_say(self, error: PoolError, name: str) -> bool:
        """Return whether there is room for a line; if not, it is counted."""
        error._logged = True
        kind = type(error).__name__
        may_say = self._limiter.may_say(kind, self._loop.time())
        if not may_say:
            self._flooding[kind] = name
        if self._timer is None:
            self._timer = self._loop.call_later(PERIOD_S, self._end_period)
        return may_say

    def _end_period(self) -> None:
        """Log what was left out; a flood may go on, so that its next period has nothing but that line."""
        flooding = list(self._flooding)
        self.flush()
        for kind in flooding:
            self._limiter.forbid(kind, self._loop.time())
        if flooding:
            self._timer = self._loop.call_later(PERIOD_S, self._end_period)

    def _say(self, text: str, hint: str) -> None:
        logger.warning("pool %r: %s%s", self._pool, text, f" ({hint})" if hint else "")


def cause_of(error: PoolError) -> str:
    """Return the error's message in one line, without what the task was called with."""
    if isinstance(error, TaskNotPicklable):
        # Keys of dicts are data, and so may be what pickle says; that it can't pickle a kind of object is not.
        known = _PLAIN_PATH.match(error.path)
        path = known[0] + "..." * (known.end() < len(error.path)) if known else error.side
        reason = _KIND_OF_OBJECT.search(str(error.args[0]))
        return f"{path} can't be pickled" + (f": {reason[0]}" if reason else "")
    if isinstance(error, WorkerStartError):
        lines = error.cause.strip().splitlines() or [""]
        return f"no worker can be started: {lines[-1][:MAX_CAUSE]}"
    text = str(error.args[0]) if error.args else type(error).__name__
    if isinstance(error, WorkerLost) and error.signal is not None:
        text = text.replace(f"signal {error.signal}", f"signal {error.signal} ({_signal_name(error.signal)})")
    line = " ".join(text.split())
    return line if len(line) <= MAX_CAUSE else f"{line[:MAX_CAUSE]}..."


def _is_ours(error: BaseException | None) -> TypeGuard[PoolError]:
    """Return whether it is lifepool's. Not by ``isinstance``: the user's own may have a ``__class__`` that raises."""
    return issubclass(type(error), PoolError)


def _signal_name(number: int) -> str:
    try:
        return Signals(number).name
    except ValueError:
        return "unknown"
