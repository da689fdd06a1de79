"""A worker's wait for its next ticket: awake for as long as that has paid lately, then asleep."""

from __future__ import annotations

import os
import select
import socket
from time import perf_counter

from lifepool._core.halt_polling import HaltPolling
from lifepool.backends.local.shared.cells import TICKET


class Tickets:
    """The reading end of the tickets' stream.

    Args:
        source: A blocking socket.
        may_poll: Whether there is CPU time for looking for tickets without sleeping.
    """

    def __init__(self, source: socket.socket, *, may_poll: bool) -> None:
        self._receive = source.recv
        poller = select.poll()
        poller.register(source, select.POLLIN)
        self._poll = poller.poll
        self._polling = HaltPolling(perf_counter()) if may_poll else None

    def take(self) -> bytes:
        """Return the next ticket; empty when there will be none any more. Waits as long as it takes."""
        try:
            return self._receive(TICKET.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        polling = self._polling
        if polling is None:
            return self._receive(TICKET.size)
        began = perf_counter()
        poll_s = polling.begin(began)
        if poll_s and not self._comes_before(began + poll_s):
            polling.gave_up(perf_counter())
        ticket = self._receive(TICKET.size)
        polling.end(perf_counter())
        return ticket

    def _comes_before(self, end: float) -> bool:
        poll, let_others_run = self._poll, os.sched_yield
        while not poll(0):
            if perf_counter() >= end:
                return False
            let_others_run()  # the server may be waiting for this very CPU
        return True
