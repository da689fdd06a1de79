"""Context variables and functions that read them in a worker."""

from __future__ import annotations

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

    def unpack(self) -> None:
        user.set(self._name)


not_a_variable = "en"
