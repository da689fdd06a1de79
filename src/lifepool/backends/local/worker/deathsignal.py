"""Die with the parent process, also in an endless loop in C: the kernel sees to it (Linux)."""

from __future__ import annotations

import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent ends; elsewhere than on Linux nothing happens.

    Args:
        parent: The parent's pid. If it is the parent no more, it died before the kernel was asked, and so do we.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
