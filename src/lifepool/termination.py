"""Hear of SIGTERM when it comes, not when the server has finished its connections.

A server ends the lifespan after the last connection is closed. A load balancer must know earlier that this instance is
going away, so readiness has to change at the signal itself.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

_Handler = Callable[[int, FrameType | None], Any] | int | None


class TerminationWatch:
    """Notices SIGTERM and passes it on to whoever handled it before.

    The handler that is there is chained, never replaced: it is the server's, and its way to a graceful shutdown.
    Outside of the main thread signals can't be heard, and nothing is done.
    """

    def __init__(self) -> None:
        self.terminating = False
        self._previous: _Handler = None
        self._installed = False

    def install(self) -> None:
        """Start to listen. A server that installs its own handler later than this must chain ours to be heard."""
        self.terminating = False
        if threading.current_thread() is threading.main_thread() and not self._installed:
            self._previous = signal.signal(signal.SIGTERM, self._on_signal)
            self._installed = True

    def uninstall(self) -> None:
        """Stop to listen; the handler from before is put back unless somebody has put another on top."""
        if self._installed and threading.current_thread() is threading.main_thread():
            self._installed = False
            if signal.getsignal(signal.SIGTERM) == self._on_signal:
                with contextlib.suppress(TypeError):  # the one before was not installed by Python
                    signal.signal(signal.SIGTERM, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.terminating = True
        previous = self._previous
        if callable(previous):
            previous(number, frame)
        elif previous == signal.SIG_DFL:
            # Nobody was prepared: end as the signal would have ended us.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
