"""Tasks that kill: their own worker, or the node around it."""

from __future__ import annotations

import os
import signal
import time
from typing import NoReturn

import psutil


def die_and_say_when(path: str) -> NoReturn:
    """Note the instant, which all processes of a machine share, and be killed."""
    with open(path, "w") as file:
        file.write(repr(time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def kill_the_node(path: str) -> NoReturn:
    """Leave a line, and kill the process that has started the template of this worker: the node."""
    with open(path, "a") as file:
        file.write("it ran\n")
    os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
    time.sleep(60)
    raise AssertionError("the node is still there")
