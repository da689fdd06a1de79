"""Fork workers in the template, and deal with those that have ended: process groups, and adopted orphans."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from lifepool.backends.local.worker.descendants import end_family, lead_group, status

#: Seconds in which the template, when it ends, waits for the ends of those that it has killed.
REAP_S = 0.5
_TICK_S = 0.001


class Processes:
    """Fork and reap as the module ``os`` does, and keeps the rules of ``descendants``.

    Attributes:
        workers: When each worker that lives was started, by its pid.
    """

    def __init__(self) -> None:
        self.workers: dict[int, int | None] = {}

    def fork(self) -> int:
        """Fork a worker, as the leader of a group of its own."""
        pid = os.fork()
        if pid == 0:
            self.workers.clear()
            lead_group()
        else:
            with contextlib.suppress(OSError):  # whoever of the two comes first
                os.setpgid(pid, pid)
            state = status(pid)
            self.workers[pid] = None if state is None else state.started
        return pid

    def waitpid(self, which: int, options: int) -> tuple[int, int]:
        """Reap the next worker that has ended. What it has left behind ends with it; orphans are reaped on the way.

        Raises:
            ChildProcessError: If there is no process to wait for.
        """
        while True:
            ended = _next_ended() if which == -1 else which
            if ended in self.workers:  # it is not reaped yet: its number, and so its group's, can't be another's
                _kill_group(ended)
            pid, code = os.waitpid(ended, options)
            if pid in self.workers:
                del self.workers[pid]
                if ended == -1:  # the system did not say before
                    _kill_group(pid)
                return pid, code
            if pid == 0:
                return pid, code

    def end_all(self) -> None:
        """Kill every worker and what belongs to it, and reap them."""
        killed = {pid for worker, started in self.workers.items() for pid in end_family(worker, started)}
        end = time.monotonic() + REAP_S
        with contextlib.suppress(ChildProcessError):  # there are none left
            while killed and time.monotonic() < end:
                while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                    killed.discard(pid)
                # Who has a parent of his own is reaped by that, or will be adopted. A daemon is not waited for.
                if sys.platform == "linux":
                    killed = {pid for pid in killed if status(pid) is not None}
                time.sleep(_TICK_S)


def _next_ended() -> int:
    """Return the child that can be reaped next, if the system says so before it is; else -1: whichever it is."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13
        return -1
    found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    return -1 if found is None else found.si_pid


def _kill_group(worker: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(worker, signal.SIGKILL)
