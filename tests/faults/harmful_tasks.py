"""What the tests of this folder have workers do. Light: every worker imports this module."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from pathlib import Path
from typing import NoReturn

from tests.tasks import ENDLESS_S, announce, hold


def sockets() -> list[socket.socket]:
    """This process's connected sockets, as objects that must be detached."""
    found = []
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                found.append(socket.socket(fileno=fd))
    return found


def wait_at_the_gate_while_loading(address: str) -> None:
    hold(address)


def answer_through_a_narrow_socket(size: int) -> bytes:
    """The answer does not fit into what the kernel keeps for a reader that does not read."""
    for end in sockets():
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        end.detach()
    return bytes(size)


def say(raw: bytes) -> None:
    """Write something of one's own on the wire, and go on working."""
    for end in sockets():
        with contextlib.suppress(OSError):
            end.send(raw)
        end.detach()
    time.sleep(ENDLESS_S)


def say_and_return(raw: bytes) -> str:
    """Write something of one's own on the wire (not where tickets are read from), and answer as usual."""
    ends = sockets()
    ends[0].sendall(raw)
    for end in ends:
        end.detach()
    return "answered"


def hold_deaf(address: str) -> None:
    """Hold with every signal blocked that can be."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    announce(address).recv(1)


def raise_much(size: int) -> NoReturn:
    raise ValueError("x" * size)


def allocate(size: int) -> int:
    return len(bytearray(size))


_kept: list[bytes] = []


def keep(size: int) -> int:
    """Occupy memory for good; returns the worker's pid."""
    _kept.append(b"x" * size)
    return os.getpid()


def die_while_loading_if_told_to(path: str) -> None:
    if Path(path).exists():
        os._exit(9)
