"""How one task is to be treated: the keywords of ``Pool.run``, checked once and passed on as one object."""

from __future__ import annotations

import operator
from typing import Any, Literal, NamedTuple, TypedDict

from lifepool._usercode.display import shown, text_of

OnCancel = Literal["interrupt", "abandon"]

_NO_LIMIT = float("inf")


class BatchOptions(TypedDict, total=False):
    """The options of ``Pool.batch``, as type checkers see them."""

    timeout: float | None
    retries: int
    priority: int
    fair_key: str | None
    on_cancel: OnCancel


class RunOptions(BatchOptions, total=False):
    """The options of ``Pool.run`` and the like, as type checkers see them."""

    retry_on: type[Exception] | tuple[type[Exception], ...]
    copy: bool


class TaskOptions(NamedTuple):
    """How one task is to be treated; see ``Pool.run`` for what each option means.

    Made by ``task_options``, which checks what was given. A pool has one object for all tasks without options of their
    own, a decorated function one for all of its calls.

    Attributes:
        timeout: Seconds, waiting included; None for no limit.
        retry_on: Exception classes.
        fair_key: A plain text or number, or None.
        abandon: Whether a running task goes on when nobody waits for it any more.
        is_admitted: Whether the call that it is part of was admitted: it needs room, and is not judged once more.
    """

    timeout: float | None = None
    retries: int = 0
    priority: int = 0
    retry_on: tuple[type[BaseException], ...] = ()
    fair_key: str | None = None
    abandon: bool = False
    copy: bool = True
    is_admitted: bool = False

    def within(self, timeout: float | None, *, is_admitted: bool = False) -> TaskOptions:
        """Return the same options for a part of a call that has so many seconds left."""
        seconds = None if timeout == _NO_LIMIT else timeout
        if seconds == self.timeout and is_admitted is self.is_admitted:
            return self
        return self._replace(timeout=seconds, is_admitted=is_admitted)


def task_options(
    default: TaskOptions,
    *,
    timeout: float | None = None,
    retries: int = 0,
    priority: int = 0,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    fair_key: str | None = None,
    on_cancel: OnCancel = "interrupt",
    copy: bool = True,
) -> TaskOptions:
    """Check a task's options and return them as one object; ``default`` itself if none was given.

    What goes on from here are plain numbers and texts: no code of others runs in the scheduler.

    Args:
        default: The pool's options: they have its timeout, which holds if none is given.
        timeout: Seconds. None: the default's. ``inf``: no limit.
        retries: As for ``Pool.run``, like all that follow.
        priority: See there.
        retry_on: See there.
        fair_key: See there.
        on_cancel: See there.
        copy: See there.

    Raises:
        ValueError: If a value makes no sense.
        TypeError: If ``retry_on`` has something else than exception classes, or a number is none.
    """
    if timeout is None and copy and not (retries or priority or retry_on or fair_key) and on_cancel == "interrupt":
        return default
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected seconds above 0, or None")
    if retries < 0:
        raise ValueError(f"retries={retries!r}: expected a whole number >= 0")
    if on_cancel not in ("interrupt", "abandon"):
        raise ValueError(f"on_cancel={on_cancel!r}: expected 'interrupt' or 'abandon'")
    return TaskOptions(
        timeout=default.timeout if timeout is None else None if timeout == _NO_LIMIT else float(timeout),
        retries=operator.index(retries),
        priority=_number(priority),
        retry_on=_exception_classes(retry_on),
        fair_key=_plain_key(fair_key),
        abandon=on_cancel == "abandon",
        copy=copy,
    )


#: The names of a task's options, as ``Pool.run`` and the decorators take them.
OPTION_NAMES: frozenset[str] = frozenset(task_options.__kwdefaults__ or ())

#: Keys that are compared and hashed by Python's own code. Others are taken for what they are called.
_PLAIN_KEYS = frozenset({str, int, bytes})


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
