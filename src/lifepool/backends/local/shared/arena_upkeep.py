"""Give shared memory back once no big payload has gone by for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from lifepool.backends.guard import logged

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable

    from lifepool.backends.local.shared.arena import Arguments
    from lifepool.backends.local.shared.results import ResultReader

#: Seconds without big payloads after which their memory is given back. New memory is written some ten times slower than
#: memory that is there already, which matters while payloads follow each other and not after a second's rest.
TRIM_AFTER_S = 1.0


class ResultsOwner(Protocol):
    """A worker's connection, as far as its results go."""

    @property
    def results(self) -> ResultReader | None:
        """Return where its big results are, if there is shared memory."""

    @property
    def rests(self) -> bool:
        """Return whether the worker has no task, and writes nothing."""


class Upkeep:
    """Call ``trim`` after a rest; no timer runs while there is nothing to give back.

    Args:
        loop: The event loop.
        trim: Gives back what is free; returns whether something is left for another time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, trim: Callable[[], bool]) -> None:
        self._loop = loop
        self._trim = trim
        self._on_timer = logged(self._tick, "give shared memory back")
        self._timer: asyncio.TimerHandle | None = None
        self._was_used = False

    def note_use(self) -> None:
        """Note that a big payload went by."""
        self._was_used = True
        if self._timer is None:
            self._timer = self._loop.call_later(TRIM_AFTER_S, self._on_timer)

    def stop(self) -> None:
        """Stop trimming."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        was_used, self._was_used = self._was_used, False
        self._timer = None
        if was_used or self._trim():
            self._timer = self._loop.call_later(TRIM_AFTER_S, self._on_timer)


def trim(shared: Arguments | None, connections: Iterable[ResultsOwner]) -> bool:
    """Give memory back that nobody uses; return whether some is left.

    Args:
        shared: Where arguments are.
        connections: The workers, each with its results. A worker writes while it has a task, and only then.
    """
    files: list[Arguments | ResultReader] = [] if shared is None else [shared]
    busy: list[ResultReader] = []
    for connection in connections:
        if connection.results is not None:
            (files if connection.rests else busy).append(connection.results)
    for file in files:
        if file.is_dirty:
            file.trim()
    return any(file.is_dirty for file in (*files, *busy))
