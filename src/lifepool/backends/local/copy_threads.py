"""Threads that copy big payloads, so that the event loop goes on meanwhile."""

from __future__ import annotations

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Payloads of at least this many bytes are copied in a thread. To go there and back costs some 0.1 ms, on the loop a
#: MiB costs 0.02 to 0.4 ms (experiments/loop_lag.py; decision 12).
OFF_LOOP_BYTES = 2 * 1024 * 1024

#: One is not enough when payloads go both ways; more would only compete for the memory.
_THREADS = 2


class Piece:
    """A piece of work, which is done or cancelled, once.

    Args:
        work: What to do.
        then: Called with what it returned.
        otherwise: What ``then`` is called with if it raised.
    """

    __slots__ = ("_otherwise", "_taken", "_then", "_work")

    def __init__(self, work: Callable[[], Any], then: Callable[[Any], None], otherwise: Any) -> None:
        self._work: Callable[[], Any] | None = work
        self._then: Callable[[Any], None] | None = then
        self._otherwise = otherwise
        self._taken = threading.Lock()

    def take(self) -> tuple[Callable[[], Any], Callable[[Any], None]] | None:
        """Get the work and what comes then; None for all but the first caller, whatever its thread."""
        if not self._taken.acquire(blocking=False):
            return None
        work, then = self._work, self._then
        self._work = self._then = None  # who keeps the piece does not keep its payload
        assert work is not None and then is not None  # noqa: S101, PT018 - nobody took them before
        return partial(self._outcome, work), then

    def cancel(self) -> None:
        """Don't do it, unless it has begun."""
        self.take()

    def _outcome(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except BaseException:  # the loop finds out which, when it does the same
            return self._otherwise


class CopyThreads:
    """Runs pieces of work in threads, which are started with the first piece. Without threads the loop does the work.

    Args:
        loop: The event loop, which is called when one is done.
        name: The pool's, for the threads' names.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._threads: ThreadPoolExecutor | None = None
        self._is_open = True

    def may_go_on(self) -> bool:
        """Return whether work should go on; the work asks now and then."""
        return self._is_open

    def run(self, work: Callable[[], Any], then: Callable[[Any], None], *, otherwise: Any = None) -> Piece:
        """Do ``work`` in a thread, then call ``then`` with what it returned, on the loop.

        Where the system has no thread for it, both are done here and now.

        Args:
            work: What to do.
            then: What comes then.
            otherwise: What ``then`` is called with if the work raised.

        Returns:
            May be cancelled as long as the work has not begun; then ``then`` is not called.
        """
        piece = Piece(work, then, otherwise)
        try:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"lifepool-{self._name}-copy")
            self._threads.submit(self._do, piece)
        except RuntimeError:
            # No thread can be started. The executor has kept the piece: a later thread must find it taken.
            if (taken := piece.take()) is not None:
                do, then = taken
                then(do())
        return piece

    def _do(self, piece: Piece) -> None:
        if (taken := piece.take()) is None:
            return
        do, then = taken
        outcome = do()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(then, outcome)

    def close(self) -> None:
        """Break off what is under way and wait for it: milliseconds, the time of one copy."""
        self._is_open = False
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
