"""A process that is sent SIGTERM the moment it was forked, before anything else runs in it. To be preloaded."""

from __future__ import annotations

import os
import signal

_numbers: list[int] = []


def _kill_me() -> None:
    for number in _numbers:
        os.kill(os.getpid(), number)


# A worker's own calls after a fork are registered later, and so come later.
os.register_at_fork(after_in_child=_kill_me)


def fork_and_kill(number: int) -> tuple[int, bool]:
    """The exit code of the forked process, and whether this one blocks the signal after that."""
    _numbers.append(number)
    pid = os.fork()
    if pid == 0:
        signal.alarm(10)  # nobody waits for ever
        try:
            signal.pause()
        finally:
            os._exit(0)
    _numbers.clear()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, number in signal.pthread_sigmask(signal.SIG_BLOCK, ())
