"""What the machine itself allows: the same exchanges with nothing but system calls.

No pool between two processes can beat these; the distance to them is what a pool costs. The other
process is forked: a measurement has a process to itself, with no thread that a fork could break.
"""

import mmap
import os
import socket
import time
from collections.abc import Callable

PING = b"p"
CHUNK = 64  # bytes asked for in one read; a message is one byte
JOIN_BOUND = 5.0  # seconds; the other process ends by itself as soon as its socket closes


def ping_pong(duration: float, warmup: float) -> list[float]:
    """Return seconds of each blocking one-byte round trip over a socketpair to a process."""

    def bounce(end: socket.socket) -> None:
        while message := end.recv(CHUNK):
            end.sendall(message)

    def exchange(end: socket.socket) -> None:
        end.sendall(PING)
        end.recv(CHUNK)

    return _measure(bounce, exchange, duration, warmup)


def shared_memory_echo(size: int, duration: float, warmup: float) -> list[float]:
    """Return seconds of each echo of ``size`` bytes: four copies and one ping-pong.

    Copies go to memory that is there already: new memory would cost page faults, several times what a copy does.
    """
    payload = os.urandom(size)
    with mmap.mmap(-1, size) as memory, memoryview(memory) as shared:

        def bounce(end: socket.socket) -> None:
            argument = memoryview(bytearray(size))
            while message := end.recv(CHUNK):
                argument[:] = shared  # a task owns its argument: one copy out
                shared[:] = argument
                end.sendall(message)

        result = memoryview(bytearray(size))

        def exchange(end: socket.socket) -> None:
            shared[:] = payload
            end.sendall(PING)
            end.recv(CHUNK)
            result[:] = shared

        return _measure(bounce, exchange, duration, warmup)


def memory_copy(size: int, duration: float) -> list[float]:
    """Return seconds of each copy of ``size`` bytes into an anonymous memory map."""
    payload = os.urandom(size)
    with mmap.mmap(-1, size) as target:

        def copy() -> None:
            target[:size] = payload

        copy()  # the first one also pays for the pages
        return _timed(copy, duration)


def _measure(
    bounce: Callable[[socket.socket], None],
    exchange: Callable[[socket.socket], None],
    duration: float,
    warmup: float,
) -> list[float]:
    """Time ``exchange`` on one end while a forked process runs ``bounce`` on the other."""
    from multiprocessing import get_context  # here, so that a cold start finds it not loaded

    ours, theirs = socket.socketpair()

    def other_side() -> None:
        ours.close()  # or it would hold its own peer open and never see the end
        bounce(theirs)

    process = get_context("fork").Process(target=other_side, daemon=True)
    process.start()
    theirs.close()
    ours.settimeout(JOIN_BOUND)
    try:
        _timed(lambda: exchange(ours), warmup)
        return _timed(lambda: exchange(ours), duration)
    finally:
        ours.close()
        process.join(JOIN_BOUND)


def _timed(exchange: Callable[[], object], duration: float) -> list[float]:
    """Return the seconds of each exchange, repeated until ``duration`` seconds have passed."""
    samples: list[float] = []
    end = time.perf_counter() + duration
    while (before := time.perf_counter()) < end or not samples:
        exchange()
        samples.append(time.perf_counter() - before)
    return samples
