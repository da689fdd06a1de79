"""Threads that copy big payloads, so that the event loop goes on meanwhile."""

from __future__ import annotations

import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

#: Payloads of at least this many bytes are copied in a thread. To go there and back costs some 0.1 ms, on the loop a
#: MiB costs 0.02 to 0.4 ms (experiments/loop_lag.py; decision 12).
ASIDE_BYTES = 2 * 1024 * 1024

#: One is not enough when payloads go both ways; more would only compete for the memory.
_THREADS = 2


class Aside:
    """Runs pieces of work in threads, which are started with the first piece.

    Args:
        loop: The event loop, which is told when one is done.
        name: The pool's, for the threads' names.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._threads: ThreadPoolExecutor | None = None
        self._is_open = True

    def may_go_on(self) -> bool:
        """Asked by the work now and then: False once it should end."""
        return self._is_open

    def run(self, work: Callable[[], Any], then: Callable[[Any], None]) -> Future[None]:
        """Do ``work`` in a thread, then call ``then`` with what it returned, on the loop. The work must not raise.

        Returns:
            May be cancelled as long as the work has not begun; then ``then`` is not called.
        """
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix=f"lifepool-{self._name}-copy")
        return self._threads.submit(self._do, work, then)

    def _do(self, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        outcome = work()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(then, outcome)

    def close(self) -> None:
        """Break off what is under way and wait for it: milliseconds, the time of one copy."""
        self._is_open = False
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
