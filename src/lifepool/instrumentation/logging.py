"""Logs of workers in the server's logging tree: ``pool.add_hook(ForwardLogs())`` before the pool starts.

Each record that a worker logs is handled by the server's logger of the same name, with ``task_id``, ``task_name`` and
``worker`` as attributes, in the context (``contextvars``) in which the task was submitted. What tasks ``print`` is
neither a log record nor part of a result; it goes to the server's standard output.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from typing import TYPE_CHECKING, Any

from lifepool.hooks import Hook, TaskRecord

if TYPE_CHECKING:
    from lifepool.life import PoolLife

logger = logging.getLogger("lifepool")

#: Tasks whose context is kept after they are settled: their last records may come behind the answer.
_REMEMBERED = 256
#: Loggers that are made for names that the server does not have; loggers live for ever.
_MOST_NEW_LOGGERS = 1000
_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "task_id", "task_name", "worker"}


class BoundContext:
    """structlog's context variables on their way into the worker."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __reduce__(self) -> tuple[object, ...]:
        return (BoundContext, (self._values,))

    def unpack(self) -> None:
        """Bind them."""
        from structlog.contextvars import bind_contextvars

        bind_contextvars(**self._values)


class ForwardLogs(Hook):
    """Brings log records of workers into the server's logging tree. One hook watches one pool.

    Workers start with the levels that the server's loggers have at that moment. Added to a pool that runs, it
    applies to workers that start from then on. Backends: ``local``; with ``inline`` there is nothing to forward.

    Args:
        level: Workers send nothing below it; None: the level of the server's root logger.
        per_second: Records that each worker may send in a second. What is more, or finds no room in the socket, is
            dropped; how many is logged with the next record that gets through.
    """

    def __init__(self, level: int | None = None, per_second: float = 1000) -> None:
        if per_second < 1:
            raise ValueError(f"per_second={per_second!r}: expected at least 1")
        self.log_level = level
        self.logs_per_second = per_second
        self._tasks: dict[int, tuple[str, contextvars.Context]] = {}
        self._settled: dict[int, tuple[str, contextvars.Context]] = {}
        self._new_loggers = 0

    def luggage(self, task: TaskRecord) -> BoundContext | None:
        """What structlog has bound to the request."""
        structlog = sys.modules.get("structlog.contextvars")
        bound = structlog.get_contextvars() if structlog is not None else None
        return BoundContext({key: _plain(value) for key, value in bound.items()}) if bound else None

    def task_submitted(self, task: TaskRecord) -> None:
        """Keep the request's context."""
        self._tasks[task.id] = task.name, contextvars.copy_context()

    def task_settled(self, task: TaskRecord) -> None:
        """Keep it a little longer."""
        kept = self._tasks.pop(task.id, None)
        if kept is not None:
            self._settled[task.id] = kept
            if len(self._settled) > _REMEMBERED:
                del self._settled[next(iter(self._settled))]

    def pool_closed(self, pool: PoolLife) -> None:
        """Forget all."""
        self._tasks.clear()
        self._settled.clear()

    def worker_logged(self, log: dict[str, Any]) -> None:
        """Have the server's loggers handle it."""
        task = log.get("task")
        name, context = self._tasks.get(task) or self._settled.get(task) or (None, None)  # type: ignore[arg-type]
        if log.get("dropped"):
            logger.warning("worker %s dropped %s log records: too many at once", log.get("worker"), log["dropped"])
        target = self._logger(log["name"])
        if target.isEnabledFor(log["levelno"]):
            record = _record(log, task or None, name)
            (context or contextvars.Context()).run(target.handle, record)

    def _logger(self, name: str) -> logging.Logger:
        if name == "root":
            return logging.getLogger()
        if name not in logging.Logger.manager.loggerDict:
            if self._new_loggers >= _MOST_NEW_LOGGERS or len(name) > 200:
                return logger
            self._new_loggers += 1
        return logging.getLogger(name)


def _record(log: dict[str, Any], task: object, name: str | None) -> logging.LogRecord:
    extra = {key: value for key, value in log["extra"].items() if key not in _RESERVED}
    own = {key: value for key, value in log.items() if key not in ("extra", "task", "dropped")}
    return logging.makeLogRecord(extra | own | {"args": (), "task_id": task, "task_name": name})


def _plain(value: object) -> object:
    """What can be pickled for sure: a value in a log line must not keep a task from being sent."""
    return value if value is None or type(value) in (str, int, float, bool) else repr(value)
