"""A worker's life is tied to its server's, also when the worker never reads its socket again."""

from __future__ import annotations

import os
from multiprocessing import forkserver
from typing import Any

from lifepool.backends.local.worker.deathsignal import die_with_parent


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
    die_with_parent(os.getppid())
