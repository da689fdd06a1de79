"""How one task is to be treated: the keywords of ``Pool.run``, checked."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any, Literal

from lifepool._usercode.display import shown, text_of

OnCancel = Literal["interrupt", "abandon"]


@dataclass(slots=True, kw_only=True)
class TaskOptions:
    """How one task is to be treated; see ``Pool.run`` for what each means."""

    timeout: float | None = None
    retries: int = 0
    priority: int = 0
    retry_on: tuple[type[BaseException], ...] = ()
    fair_key: str | None = None
    abandon: bool = False
    copy: bool = True
    is_admitted: bool = False  # the call that it is part of was let in: it needs room, and is not judged once more


#: Keys that are compared and hashed by Python's own code. Others are taken for what they are called.
_PLAIN_KEYS = frozenset({str, int, bytes})

#: The options of most tasks; one object for all of them.
_DEFAULTS = TaskOptions()
_VIEWS = TaskOptions(copy=False)


def task_options(
    timeout: float | None,
    retries: int,
    priority: int,
    retry_on: type[Exception] | tuple[type[Exception], ...],
    fair_key: str | None,
    on_cancel: OnCancel,
    copy: bool = True,
) -> TaskOptions:
    """Check a task's options; see ``Pool.run`` for what they mean.

    What goes on from here are plain numbers and texts: the scheduler's books are no place for others' code.
    """
    if not (retries or priority or retry_on or fair_key or timeout) and timeout is None and on_cancel == "interrupt":
        return _DEFAULTS if copy else _VIEWS
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected seconds above 0, or None")
    if retries < 0:
        raise ValueError(f"retries={retries!r}: expected a whole number >= 0")
    if on_cancel not in ("interrupt", "abandon"):
        raise ValueError(f"on_cancel={on_cancel!r}: expected 'interrupt' or 'abandon'")
    return TaskOptions(
        timeout=None if timeout is None or timeout == float("inf") else float(timeout),
        retries=operator.index(retries),
        priority=_number(priority),
        retry_on=_exception_classes(retry_on),
        fair_key=_plain_key(fair_key),
        abandon=on_cancel == "abandon",
        copy=copy,
    )


def _number(given: Any) -> Any:
    return given if type(given) is float else operator.index(given)


def _plain_key(given: Any) -> Any:
    return given if given is None or type(given) in _PLAIN_KEYS else text_of(given)


def _exception_classes(given: Any) -> tuple[type[BaseException], ...]:
    classes: tuple[Any, ...] = given if type(given) is tuple else (given,)
    for each in classes:
        if not isinstance(each, type) or not issubclass(each, BaseException):
            raise TypeError(f"retry_on={shown(given)}: expected an exception class, or a tuple of them")
    return classes
