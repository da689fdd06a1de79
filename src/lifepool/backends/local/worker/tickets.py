"""A worker's wait for its next ticket: awake for a moment, then asleep.

To wake a process on another CPU takes several times as long as a small task. A worker whose next task comes at once is
therefore better found awake. It looks again and again without waiting and lets others run in between; and after a few
microseconds it goes to sleep all the same. One whose tasks come further apart finds out soon, and hardly ever stays
awake.
"""

from __future__ import annotations

import os
import select
import socket
import time

from lifepool.backends.local.shared.cells import TICKET

#: Seconds awake. A caller that awaits one small task after another has its answer, and sends the next, within this time
#: (experiments/awake.py; decision 19); the longer, the more CPU time is lost when nothing comes.
AWAKE_S = 50e-6
#: After so many waits in a row in which nothing came, a worker goes to sleep at once,
PATIENCE = 16
#: but for one of so many waits, in which it stays awake for longer: the server sleeps too then, and wakes up first.
PROBE_EVERY, PROBE_S = 16, 200e-6


class Tickets:
    """The reading end of the tickets' stream.

    Args:
        source: A blocking socket.
    """

    def __init__(self, source: socket.socket) -> None:
        self._receive = source.recv
        poller = select.poll()
        poller.register(source, select.POLLIN)
        self._poll = poller.poll
        self._may_stay_awake = _cpus() > 1  # on the only one the server would have to wait for us
        self._in_vain = 0  # waits in a row in which nothing came while it was awake, or it was not awake

    def take(self) -> bytes:
        """Return the next ticket; empty when there will be none any more. Waits as long as it takes."""
        try:
            return self._receive(TICKET.size, socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        if self._may_stay_awake:
            vain = self._in_vain
            awake_s = AWAKE_S if vain < PATIENCE else 0.0 if vain % PROBE_EVERY else PROBE_S
            self._in_vain = 0 if awake_s and self._comes_within(awake_s) else vain + 1
        return self._receive(TICKET.size)

    def _comes_within(self, seconds: float) -> bool:
        poll, now, let_others_run = self._poll, time.perf_counter, os.sched_yield
        end = now() + seconds
        while not poll(0):
            if now() >= end:
                return False
            let_others_run()  # the server may be waiting for this very CPU
        return True


def _cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
