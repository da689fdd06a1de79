"""A worker's life is tied to its server's, also when the worker never reads its socket again."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from multiprocessing import forkserver
from typing import Any

_PR_SET_PDEATHSIG = 1


def tie_to_server() -> None:
    """Die with the template, which dies with the server.

    The fork server of ``multiprocessing`` hands every child the write end of the pipe by which it notices that nobody
    needs it any more. A worker must not hold it: with the server killed and the worker in an endless loop, the
    template would wait for the worker and the worker for the template.
    """
    server: Any = vars(forkserver)["_forkserver"]  # multiprocessing has no public name for it
    alive = server._forkserver_alive_fd
    if alive is not None:
        os.close(alive)
        server._forkserver_alive_fd = None
        server._forkserver_address = None
    if sys.platform == "linux":
        template = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != template:  # it died in between, and the signal with it
            os._exit(1)
