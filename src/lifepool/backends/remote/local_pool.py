"""The pool of a node, as far as its agent needs it: ``lifepool.Pool`` is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from lifepool._core.states import TaskState
    from lifepool.backends.remote.functions import Answer
    from lifepool.statistics import PoolStatistics


class LocalPool(Protocol):
    """Run calls in processes of this machine, and end each at its timeout."""

    @property
    def max_workers(self) -> int:
        """Return how many calls run at the same time."""

    @property
    def hooks(self) -> Sequence[object]:
        """Return who watches it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, timeout: float | None = None) -> Any:
        """Begin a call; return its handle, a ``TaskHandle``."""

    def statistics(self) -> PoolStatistics:
        """Return what the pool counts."""


class LocalCall:
    """The handle of a call in such a pool, with types.

    Args:
        handle: What ``submit`` has returned.
    """

    __slots__ = ("future",)

    def __init__(self, handle: Any) -> None:
        self.future: asyncio.Future[Answer] = handle

    @property
    def task(self) -> int:
        """Return the number of the task that it is."""
        number: int = self.future.id  # type: ignore[attr-defined]
        return number

    @property
    def state(self) -> TaskState:
        """Return where the call is."""
        state: TaskState = self.future.state  # type: ignore[attr-defined]
        return state

    @property
    def progress(self) -> object:
        """Return what it last reported."""
        return self.future.progress  # type: ignore[attr-defined]
