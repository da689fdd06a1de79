"""Logs of workers in the server's logging tree: ``pool.add_hook(ForwardLogs())`` before the pool starts.

Each record that a worker logs is handled by the server's logger of the same name, with ``task_id``, ``task_name`` and
``worker`` as attributes, in the context (``contextvars``) in which the task was submitted; of a worker on another
machine ``node`` names that, else it is None. What tasks ``print`` is neither a log record nor part of a result; it goes
to the server's standard output.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import operator
import sys
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

from lifepool.hooks import Hook, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lifepool.hooks import WatchedPool

logger: logging.Logger = logging.getLogger("lifepool")

#: Tasks whose context is kept after they are settled: their last records may come behind the answer.
_REMEMBERED = 256
#: Seconds between two warnings that a worker's records were dropped.
_WARN_S = 1.0
#: Loggers that are made for names that the server does not have; loggers live for ever.
_MOST_NEW_LOGGERS = 1000
_remembered = operator.attrgetter("id", "name", "context")
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "task_id", "task_name", "worker"}


class BoundContext:
    """The context variables of structlog, sent along to the worker."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __reduce__(self) -> tuple[object, ...]:
        return (BoundContext, (self._values,))

    def restore(self) -> None:
        """Bind them in the worker."""
        from structlog.contextvars import bind_contextvars

        bind_contextvars(**self._values)


class ForwardLogs(Hook):
    """Forward log records of workers into the server's logging tree. One hook watches one pool.

    Workers start with the levels that the server's loggers have at that moment. Added to a pool that runs, it
    applies to workers that start from then on, and on a cluster to calls that are sent from then on. Backends:
    ``local`` and clusters; with ``inline`` there is nothing to forward.

    Args:
        level: Workers send nothing below it; None: the level of the server's root logger.
        per_second: Records that each worker may send in a second. What is more, or finds no room in the socket, is
            dropped; how many is logged, once a second, with the next record that gets through or when the worker ends.
    """

    def __init__(self, level: int | None = None, per_second: float = 1000) -> None:
        if per_second < 1:
            raise ValueError(f"per_second={per_second!r}: expected at least 1")
        self.log_level = level
        self.logs_per_second = per_second
        self._pool: WatchedPool | None = None
        self._settled: deque[tuple[int, str, contextvars.Context | None]] = deque(maxlen=_REMEMBERED)
        self._new_loggers = 0
        self._drops: Counter[str] = Counter()  # by worker
        self._timer: asyncio.TimerHandle | None = None

    def propagate_context(self, task: TaskRecord) -> BoundContext | None:
        """Send along what structlog has bound to the request."""
        structlog = sys.modules.get("structlog.contextvars")
        bound = structlog.get_contextvars() if structlog is not None else None
        return BoundContext({key: _plain(value) for key, value in bound.items()}) if bound else None

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """Keep the tasks' contexts a little longer; not the records, whose errors refer to the caller's frames."""
        self._settled += map(_remembered, tasks)

    def pool_started(self, pool: WatchedPool) -> None:
        """Note which pool to ask for tasks that are under way."""
        self._pool = pool

    def pool_closed(self, pool: WatchedPool) -> None:
        """Drop all state, after a last warning of dropped records."""
        self._pool = None
        if self._timer is not None:
            self._timer.cancel()
        self._warn_of_drops()
        self._settled.clear()

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Have the server's loggers handle a record."""
        task = log.get("task")
        name, context = self._task(task) if task else (None, None)
        if log.get("dropped"):
            self._drops[_whose(log)] += log["dropped"]
            if self._timer is None:
                self._warn_of_drops()
        target = self._logger(log["name"])
        if target.isEnabledFor(log["levelno"]):
            record = _record(log, task or None, name)
            (context or contextvars.Context()).run(target.handle, record)

    def _warn_of_drops(self) -> None:
        """Warn of dropped records, and again in a second if there were some: in a flood each record reports more."""
        for worker, count in self._drops.items():
            logger.warning("worker %s dropped %s log records: too many at once", worker, count)
        again = bool(self._drops) and self._pool is not None
        self._drops.clear()
        self._timer = asyncio.get_running_loop().call_later(_WARN_S, self._warn_of_drops) if again else None

    def _task(self, number: int) -> tuple[str | None, contextvars.Context | None]:
        """Return a task's name, and the context it was submitted in."""
        record = None if self._pool is None else self._pool.task_record(number)
        if record is not None:
            return record.name, record.context
        recent = reversed(self._settled)
        return next(((name, context) for task, name, context in recent if task == number), (None, None))

    def _logger(self, name: str) -> logging.Logger:
        if name == "root":
            return logging.getLogger()
        if name not in logging.Logger.manager.loggerDict:
            if self._new_loggers >= _MOST_NEW_LOGGERS or len(name) > 200:
                return logger
            self._new_loggers += 1
        return logging.getLogger(name)


def _whose(log: dict[str, Any]) -> str:
    """Return the worker that has logged, and the node that it is on, if it is on another machine."""
    where = f" of node {log['node']}" if log.get("node") else ""
    return f"{log.get('worker')}{where}"


def _record(log: dict[str, Any], task: object, name: str | None) -> logging.LogRecord:
    extra = {key: value for key, value in log["extra"].items() if key not in _RESERVED}
    own = {key: value for key, value in log.items() if key not in ("extra", "task", "dropped")}
    return logging.makeLogRecord({"node": None} | extra | own | {"args": (), "task_id": task, "task_name": name})


def _plain(value: object) -> object:
    """Return a value that can surely be pickled: one in a log line must not keep a task from being sent."""
    return value if value is None or type(value) in (str, int, float, bool) else repr(value)
