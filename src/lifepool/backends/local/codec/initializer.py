"""The pool's initializer and its arguments on their way into each worker.

Locks, queues and other objects of ``multiprocessing`` can be pickled only while a process is being started, and anew
for each: that is how their descriptors get into it. What holds none of them is pickled once.
"""

from __future__ import annotations

from contextlib import contextmanager
from multiprocessing import context, reduction
from typing import TYPE_CHECKING, Any

from lifepool._inside.resources import load_eagerly
from lifepool._transfer.constants import plain
from lifepool.backends.local.codec import unreachable
from lifepool.backends.local.codec.diagnosis import explain
from lifepool.backends.local.codec.unreachable import is_of_main
from lifepool.errors import PayloadTooLarge, TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: In the pickle of everything that ``multiprocessing`` knows how to hand on.
_MULTIPROCESSING = b"multiprocessing"
_OF_FORK_CONTEXT = "created in a fork context"
_FORK_CONTEXT_HINT = (
    "make it with multiprocessing.get_context('spawn'): one of the context 'fork', the default on Linux before Python "
    "3.14, can't be given to a process that is started cleanly"
)

_LATER_HINT = "what is in initargs must stay usable here as long as the pool runs: workers are started anew"


class Initializer:
    """Called in each worker before its first task; arrives there as the pickle of (function, arguments).

    Args:
        function: The user's.
        arguments: Its arguments.
        max_payload: Limit of the pickle in bytes.
        has_main: Whether workers can import ``__main__``.

    Raises:
        TaskNotPicklable: Naming the part that can't be sent to a worker.
        PayloadTooLarge: If it is above the limit.
    """

    __slots__ = ("_call", "_pickled")

    def __init__(
        self, function: Callable[..., object], arguments: tuple[Any, ...], max_payload: int, *, has_main: bool = True
    ) -> None:
        self._call = (plain(function), tuple(map(plain, arguments)))
        with _as_if_starting():
            try:
                pickled = self._pickle()
            except Exception as error:
                raise _refusal(*self._call, error) from error
        if not has_main and is_of_main(function):
            raise TaskNotPicklable("arguments", "initializer", unreachable.TYPED, hint=unreachable.TYPED_HINT)
        if len(pickled) > max_payload:
            raise PayloadTooLarge("arguments", len(pickled), max_payload)
        self._pickled = None if _MULTIPROCESSING in pickled else pickled

    def _pickle(self) -> bytes:
        return bytes(reduction.ForkingPickler.dumps(self._call))

    def __reduce__(self) -> tuple[object, ...]:
        """Give a worker that is being started bytes: it unpickles them when it can tell what went wrong."""
        if self._pickled is not None:
            return (bytes, (self._pickled,))
        try:
            return (bytes, (self._pickle(),))
        except Exception as error:  # what could be sent when the pool was started can't be any more
            refusal = _refusal(*self._call, error)
            refusal.hint = _LATER_HINT
            raise refusal from error


class _Rehearsal:
    """Stands for the process that is being started, before there is one: takes descriptors and does nothing."""

    def duplicate_for_child(self, fd: int) -> int:
        return fd

    def DupFd(self, fd: int) -> int:  # noqa: N802 - the name that multiprocessing calls
        return fd


@contextmanager
def _as_if_starting() -> Iterator[None]:
    context.set_spawning_popen(_Rehearsal())  # type: ignore[arg-type]
    try:
        yield
    finally:
        context.set_spawning_popen(None)


def _refusal(function: Callable[..., object], arguments: tuple[Any, ...], error: Exception) -> TaskNotPicklable:
    """Name the part at fault."""
    if function is load_eagerly:
        function, arguments, _ = arguments  # the user's own are among its arguments
    for value, path in [(function, "initializer"), *((each, f"initargs[{i}]") for i, each in enumerate(arguments))]:
        try:
            reduction.ForkingPickler.dumps(value)
        except Exception as its_own:
            if _OF_FORK_CONTEXT in str(its_own):
                return TaskNotPicklable("arguments", path, str(its_own), hint=_FORK_CONTEXT_HINT)
            return TaskNotPicklable("arguments", *explain(value, path, its_own))
    return TaskNotPicklable("arguments", "initargs", f"{type(error).__name__}: {error}")
