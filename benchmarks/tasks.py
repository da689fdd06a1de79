"""The functions that workers run. Workers import this module, so it imports nothing heavy."""

from collections.abc import Sized
from typing import Any

from lifepool.cli.bench.tasks import echo as echo
from lifepool.cli.bench.tasks import noop as noop


def size(value: Sized) -> int:
    """Return how long the argument is: the payload travels to the worker alone."""
    return len(value)


def filled(count: int) -> bytes:
    """Return ``count`` bytes: the payload travels from the worker alone."""
    return b"x" * count


def filled_text(count: int) -> str:
    """Return ``count`` characters."""
    return "x" * count


def filled_bytearray(count: int) -> bytearray:
    """Return ``count`` bytes that can be changed."""
    return bytearray(b"x") * count


def filled_array(count: int) -> Any:
    """Return a numpy array of ``count`` bytes."""
    import numpy

    return numpy.full(count, 120, dtype=numpy.uint8)


def burn(seconds: float) -> None:
    """Use the CPU for this long, however often another process gets it meanwhile."""
    from time import process_time

    end = process_time() + seconds
    while process_time() < end:
        pass


def double(number: int) -> int:
    """Return twice the number: hardly more than nothing, and it can be checked."""
    return 2 * number


def stay(seconds: float) -> int:
    """Keep the worker for this long and return which process it is."""
    from os import getpid
    from time import sleep

    sleep(seconds)
    return getpid()


def digest(text: bytes) -> str:
    """Return the SHA-256 of a text; ``hashlib`` computes it without the interpreter's lock."""
    from hashlib import sha256

    return sha256(text).hexdigest()


def set_up(seconds: float, log: str) -> None:
    """Use the CPU for this long, as a worker's first imports do, and note how long it took by the clock."""
    from time import perf_counter

    began = perf_counter()
    burn(seconds)
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{perf_counter() - began}\n")
