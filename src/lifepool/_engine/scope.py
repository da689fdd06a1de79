"""End together what belongs together: what a request has submitted ends with the request's client."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool.errors import PoolError


class Endable(Protocol):
    """A task's handle, or one call of a batch."""

    def abort(self, error: PoolError, /) -> None:
        """Take it back; whoever awaits it gets ``error``."""

    def add_done_callback(self, callback: Callable[[Any], object], /) -> None:
        """Have ``callback`` called when it is done, as by ``asyncio.Future``."""


class TaskScope:
    """The unfinished tasks that were submitted while this scope was the current one.

    ``Pool.submit`` enters each task into the scope of its context; integrations make scopes and end them.
    """

    __slots__ = ("_ended_by", "_handles")

    def __init__(self) -> None:
        self._handles: set[Endable] = set()
        self._ended_by: PoolError | None = None

    def add(self, handle: Endable) -> None:
        """End the task with this scope; at once, if that has ended already."""
        if self._ended_by is not None:
            handle.abort(self._ended_by)
            return
        self._handles.add(handle)
        handle.add_done_callback(self._handles.discard)

    def end(self, error: PoolError) -> None:
        """Abort what is unfinished, and what is yet to come: whoever awaits it gets ``error``."""
        self._ended_by = error
        for handle in list(self._handles):
            handle.abort(error)


#: The scope that new tasks belong to; None outside of requests that are watched.
current_scope: ContextVar[TaskScope | None] = ContextVar("lifepool_scope", default=None)
