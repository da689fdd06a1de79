"""The functions that workers run. Workers import this module, so it imports nothing heavy."""

from lifepool.commands.bench.tasks import echo as echo
from lifepool.commands.bench.tasks import noop as noop


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
