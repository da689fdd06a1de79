"""How one task is to be treated: the keywords of ``Pool.run``, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """Check a task's options; see ``Pool.run`` for what they mean."""
    if not (retries or priority or retry_on or fair_key or timeout) and timeout is None and on_cancel == "interrupt":
        return _DEFAULTS if copy else _VIEWS
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected seconds above 0, or None")
    if retries < 0:
        raise ValueError(f"retries={retries!r}: expected a whole number >= 0")
    if on_cancel not in ("interrupt", "abandon"):
        raise ValueError(f"on_cancel={on_cancel!r}: expected 'interrupt' or 'abandon'")
    return TaskOptions(
        timeout=None if timeout == float("inf") else timeout,
        retries=retries,
        priority=priority,
        retry_on=retry_on if isinstance(retry_on, tuple) else (retry_on,),
        fair_key=fair_key,
        abandon=on_cancel == "abandon",
        copy=copy,
    )
