"""The functions that workers run. Workers import this module, so it imports nothing."""

from typing import TypeVar

T = TypeVar("T")


def noop() -> None:
    """Do nothing: what is left is the cost of the pool."""


def echo(value: T) -> T:
    """Return the argument: the payload travels both ways."""
    return value
