"""Hear of SIGTERM and Ctrl-C when they come, not when the server has finished its connections.

A server ends the lifespan after the last connection is closed. A load balancer must know earlier that this instance is
going away, so readiness has to change at the signal itself. And while the lifespan still begins, a server only notes
the signal and goes on starting: a pool whose workers take long to come up must hear of it to give up at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TerminationWatch:
    """Notices SIGTERM and SIGINT and passes them on to whoever handled them before.

    The handler that is there is chained, never replaced: it is the server's, and its way to a graceful shutdown.
    Outside of the main thread signals can't be heard, and nothing is done.
    """

    def __init__(self) -> None:
        self.terminating = False
        self._previous: dict[int, _Handler] = {}  # by signal, as long as we listen
        self._tell: Callable[[], object] = bool

    def install(self, tell: Callable[[], object] = bool) -> None:
        """Start to listen. A server that installs its own handlers later than this must chain ours to be heard.

        Args:
            tell: Called at the signal, in the signal handler: it may do no more than that allows.
        """
        if self._previous:
            return
        self.terminating = False
        self._tell = tell
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}

    def uninstall(self) -> None:
        """Stop to listen; the handlers from before are put back unless somebody has put others on top."""
        if threading.current_thread() is threading.main_thread():
            previous, self._previous = self._previous, {}
            for number, handler in previous.items():
                if signal.getsignal(number) == self._on_signal:
                    with contextlib.suppress(TypeError):  # the one before was not installed by Python
                        signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.terminating = True
        self._tell()
        previous = self._previous.get(number)
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            # Nobody was prepared: end as the signal would have ended us.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
