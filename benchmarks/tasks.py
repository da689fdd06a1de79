"""The functions that workers run. Workers import this module, so it imports nothing."""

from typing import TypeVar

T = TypeVar("T")


def noop() -> None:
    """Do nothing: what is left is the cost of the pool."""


def echo(value: T) -> T:
    """Return the argument: the payload travels both ways."""
    return value


def size(value: bytes) -> int:
    """Return how long the argument is: the payload travels to the worker alone."""
    return len(value)


def filled(count: int) -> bytes:
    """Return ``count`` bytes: the payload travels from the worker alone."""
    return b"x" * count


def burn(seconds: float) -> None:
    """Use the CPU for this long, however often another process gets it meanwhile."""
    from time import process_time

    end = process_time() + seconds
    while process_time() < end:
        pass
