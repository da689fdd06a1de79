"""Many small calls as one task: what runs in the worker, and how large the next chunk should be."""

from __future__ import annotations

import time
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._transfer.context import with_own_decimals
from lifepool._transfer.exceptions import encode_error, is_of_runner
from lifepool._transfer.naming import ManyCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds a chunk should take: a hundred times what sending it costs, and short enough to share work out evenly.
TARGET_S = 10e-3
#: Chunks grow at most this much at a time, so that one quick item does not make the next chunk enormous.
GROWTH = 4
MAX_CHUNK = 10_000


class ChunkResult(NamedTuple):
    """What a chunk gives back.

    Attributes:
        values: One for each item that was run; None where it raised.
        errors: Carried exceptions by index.
        run_s: Seconds for all.
    """

    values: list[Any]
    errors: dict[int, bytes]
    run_s: float


class Chunk(ManyCalls):
    """A function to be called with each item of a chunk."""

    __slots__ = ()

    def __call__(self, items: Sequence[Any], go_on: bool) -> ChunkResult:
        """Call it. Runs in a worker; see ``run_chunk``."""
        return run_chunk(self.function, items, go_on)


def run_chunk(fn: Callable[[Any], Any], items: Sequence[Any], go_on: bool) -> ChunkResult:
    """Call ``fn`` with each item, each time in a copy of the context. Runs in a worker.

    Args:
        fn: The user's function.
        items: Its arguments.
        go_on: Whether to go on after an exception.
    """
    values: list[Any] = []
    errors: dict[int, bytes] = {}
    started = time.perf_counter()
    add, rest, alone = values.append, iter(items), with_own_decimals(fn)
    while len(values) < len(items):
        try:
            # Not values.extend(map(fn, rest)): a StopIteration of the function would end that without a word.
            for item in rest:
                add(copy_context().run(alone, item))
        except BaseException as error:
            if is_of_runner(error):
                raise
            errors[len(values)] = encode_error(error)
            add(None)
            if not go_on:
                break
    return ChunkResult(values, errors, time.perf_counter() - started)


class ChunkSizer:
    """How many items the next chunk should have; learns from those that are done.

    Args:
        fixed: A size chosen by the user, or None to learn one.
        most: No chunk is larger than this.
    """

    def __init__(self, fixed: int | None, most: int = MAX_CHUNK) -> None:
        self._most = max(1, most)
        self._learning = fixed is None
        self.size = 1 if fixed is None else min(fixed, self._most)

    def learn(self, items: int, run_s: float) -> None:
        """Take a finished chunk into account."""
        if not self._learning or not items:
            return
        fitting = int(min(TARGET_S * items / run_s, self._most)) if run_s > 0 else self._most
        self.size = max(1, min(fitting, self.size * GROWTH, self._most))
