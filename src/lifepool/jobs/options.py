"""The options of a job: checked, and turned into what is stored."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from lifepool.jobs.functions import path_of
from lifepool.jobs.webhooks import is_url

#: A duration: seconds or a ``timedelta``.
Duration = float | timedelta
#: What is called when a job has ended.
Target = Callable[..., object] | str
MAX_TEXT = 500
_MAX_INT = 2**31 - 1


def seconds(what: str, value: Duration | None) -> float | None:
    """Return a duration in seconds; None if it is None or without end.

    Raises:
        TypeError: If it is none.
        ValueError: If it is not positive.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what}={value!r}: expected seconds or a timedelta")
    if not value > 0:
        raise ValueError(f"{what}={value!r}: expected more than 0 seconds")
    return None if math.isinf(value) else float(value)


def instant(value: datetime | Duration | None) -> float | None:
    """Return ``run_at`` in seconds since the epoch: an instant, or how long from now.

    Raises:
        TypeError: If it is neither.
        ValueError: If it is a ``datetime`` without a time zone.
    """
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"run_at={value!r} has no time zone: use datetime.now(UTC)")
        return value.timestamp()
    if isinstance(value, timedelta):
        return time.time() + value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"run_at={value!r}: expected a datetime, a timedelta or seconds since the epoch")
    return float(value)


def whole(what: str, value: int, *, least: int) -> int:
    """Return a whole number.

    Raises:
        TypeError: If it is none.
        ValueError: If it is too small or too large.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what}={value!r}: expected a whole number")
    if not least <= value <= _MAX_INT:
        raise ValueError(f"{what}={value!r}: expected at least {least}")
    return value


def text(what: str, value: str | None) -> str | None:
    """Return a short text that every database takes.

    Raises:
        TypeError: If it is none.
        ValueError: If it is empty, too long, or has characters that no database takes.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{what}={value!r}: expected a text")
    if not 0 < len(value) <= MAX_TEXT or "\0" in value or not _is_unicode(value):
        raise ValueError(f"{what}={value[:50]!r}: expected 1 to {MAX_TEXT} characters, without NUL")
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def texts(what: str, values: Iterable[str]) -> tuple[str, ...]:
    """Return short texts, each once.

    Raises:
        TypeError: If it is a single text.
        ValueError: As ``text``.
    """
    if isinstance(values, str):
        raise TypeError(f"{what}={values!r}: expected several texts, as in ({values!r},)")
    return tuple(dict.fromkeys(text(what, value) or "" for value in values))


def targets(on_done: Target | Iterable[Target] | None, *, may_sign: bool) -> tuple[str, ...]:
    """Return what is called when a job has ended, as import paths and URLs.

    Raises:
        ValueError: If it is neither, or a URL without a secret.
    """
    if on_done is None:
        return ()
    given: Iterable[Any] = (on_done,) if isinstance(on_done, str) or callable(on_done) else on_done
    return tuple(_target(each, may_sign=may_sign) for each in given)


def _target(target: Any, *, may_sign: bool) -> str:
    if not isinstance(target, str):
        return path_of(target)
    if is_url(target):
        if not may_sign:
            raise ValueError("a webhook needs LIFEPOOL_SECRET: it is signed with a key that is derived from that")
    elif ":" not in target or "/" in target:
        raise ValueError(f"on_done={target[:100]!r}: expected 'package.module:function', or an http or https URL")
    return text("on_done", target) or ""
