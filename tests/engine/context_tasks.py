"""Context variables and functions that read them in a worker."""

from __future__ import annotations

import decimal
import time
from contextvars import ContextVar

user: ContextVar[str] = ContextVar("user")
language: ContextVar[object] = ContextVar("language", default="en")


def who(greeting: str) -> tuple[str, str, object]:
    return greeting, user.get("nobody"), language.get()


def leave_a_trace() -> None:
    user.set("the task before")


class Suitcase:
    """What a hook sends along: it sets the user."""

    def __init__(self, name: str) -> None:
        self._name = name

    def restore(self) -> None:
        user.set(self._name)


not_a_variable = "en"


def seen_and_set(value: str) -> str:
    """What the call before has left, if anything."""
    seen = user.get("nobody")
    user.set(value)
    return seen


def seen_and_set_each(values: list[str]) -> list[str]:
    if len(values) > 1:
        user.set("the whole batch")
        raise ValueError("try them one by one")
    return [seen_and_set(value) for value in values]


def set_both(name: str) -> None:
    """An initializer."""
    user.set(name)
    decimal.getcontext().prec = 11


def precision_seen_and_set(value: int) -> int:
    seen = decimal.getcontext().prec
    decimal.getcontext().prec = value
    return seen


class SetsWhenRebuilt:
    """Changes the context while it is unpickled, and while it is pickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[object, ...]:
        user.set(f"pickling {self.name}")
        return rebuilt, (self.name,)


def rebuilt(name: str) -> SetsWhenRebuilt:
    user.set(f"rebuilding {name}")
    return SetsWhenRebuilt(name)


def same(value: object) -> object:
    return value


def swallow_the_interrupt(value: str) -> None:
    user.set(value)
    time.sleep(30)
