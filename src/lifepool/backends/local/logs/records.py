"""Log records between processes: one datagram each, JSON, so that nothing a task writes there is unpickled."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any

#: Bytes of a datagram; larger records are cut.
MOST_BYTES = 32 * 1024
#: What every system takes: macOS allows datagrams of 2 KiB.
LEAST_BYTES = 1800
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_KEPT = (
    "name",
    "levelno",
    "levelname",
    "pathname",
    "filename",
    "module",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "relativeCreated",
)
_ALSO_KEPT = (
    "filename",
    "module",
    "funcName",
    "process",
    "processName",
    "thread",
    "threadName",
    "exc_text",
    "stack_info",
)
FIELDS = frozenset((*_KEPT, *_ALSO_KEPT))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How a worker is to log.

    Attributes:
        per_second: Records that it may send in a second; more are dropped and counted.
        level: Of the root logger.
        levels: Of other loggers, by name.
    """

    per_second: float
    level: int
    levels: tuple[tuple[str, int], ...]


def encode(record: logging.LogRecord, **more: Any) -> bytes:
    """Return a record as a datagram."""
    fields: dict[str, Any] = {key: getattr(record, key, None) for key in FIELDS}
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    # structlog's event is a dict, and its formatter in the server wants it as one
    fields["msg"] = record.msg if isinstance(record.msg, dict) else _message(record)
    extra = {key: value for key, value in vars(record).items() if key not in _STANDARD}
    try:
        data = _dump(fields | more | {"extra": extra})
    except (ValueError, TypeError, RecursionError):  # refers to itself
        data = _dump(fields | more | {"msg": _message(record), "extra": {}})
    return data if len(data) <= MOST_BYTES else shorter(data, MOST_BYTES)


def shorter(data: bytes, limit: int) -> bytes:
    """Return the same record, cut to fit."""
    fields = json.loads(data)
    room = (limit - 1000) // 12  # a character becomes up to six bytes, and there are two texts
    text = fields["msg"] if isinstance(fields["msg"], str) else json.dumps(fields["msg"])
    for key in ("name", "pathname", "funcName", "threadName", "processName"):
        fields[key] = str(fields[key])[-20:] if limit < MOST_BYTES else str(fields[key])[-200:]
    fields |= {"msg": text[:room] + " [cut]", "exc_text": (fields["exc_text"] or "")[-room:] or None}
    return _dump(fields | {"extra": {}, "stack_info": None})


def decode(data: bytes) -> dict[str, Any]:
    """Return a datagram's fields.

    Raises:
        ValueError: If it is none.
    """
    fields = json.loads(data)
    if not isinstance(fields, dict) or not isinstance(fields.get("name"), str):
        raise ValueError("not a log record")
    if type(fields.get("levelno")) is not int or not isinstance(fields.get("extra"), dict):
        raise ValueError("not a log record")
    return fields


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return f"{record.msg!r} % {record.args!r} ({error!r})"


def _dump(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields, default=_safe, skipkeys=True).encode()


def _safe(value: object) -> str:
    try:
        return repr(value)[:1000]
    except Exception:
        return f"<{type(value).__name__}>"
