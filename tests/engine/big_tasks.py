"""Tasks with big payloads, and some that make trouble with them. Runs in workers."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import resource
import stat
import threading
from pathlib import Path
from typing import Any

from lifepool._core.framing import Kind, header
from lifepool.backends.local.shared.files import LOCATION
from tests import tasks


def page_faults_and(text: str) -> tuple[int, str]:
    """How many pages this process was given so far; and the text, so that it is pickled again."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt, text


def digest(data: Any) -> str:
    return hashlib.blake2b(data).hexdigest()


def write_digest(path: str, data: bytes) -> None:
    Path(path).write_text(digest(data))


def filled(count: int, byte: bytes = b"x") -> bytes:
    return byte * count


def hold_with(address: str, data: bytes) -> str:
    tasks.hold(address)
    return digest(data)


def spoil_and_die_once(path: str, data: bytearray) -> str:
    """Overwrites its argument; the second try must get it as it was."""
    found = digest(data)
    data[:] = bytes(len(data))
    tasks.die_unless_tried_before(path)
    return found


def die_with(_data: bytes) -> None:
    os._exit(3)


def fork_and_answer(count: int) -> bytes:
    """Both processes return from this, with different results."""
    return filled(count, b"c" if os.fork() == 0 else b"p")


def answer_with_location(offset: int, length: int) -> None:
    """Claim, on every socket there is, to have put a result somewhere."""
    body = LOCATION.pack(offset, length)
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, header(Kind.RESULT_STORED, len(body)) + body)


class Poisoned:
    """Big, and its pickle fails after the big part was written."""

    def __init__(self, count: int) -> None:
        self.data = bytes(count)
        self.lock = tasks.Session()


def make_poisoned(count: int) -> list[Any]:
    return [bytes(count), Poisoned(count)]


class Reader:
    """Remembers which thread rebuilt it."""

    thread = 0

    def __init__(self, count: int) -> None:
        self.data = bytes(count)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.thread = threading.get_ident()


def made(count: int) -> Reader:
    return Reader(count)


def filled_and_then_dead(path: str, count: int) -> bytes:
    """The next call in this worker ends it."""
    Path(path).touch()
    return filled(count)


def die_after(path: str) -> None:
    if Path(path).exists():
        os._exit(3)


def answer_and_lie(count: int, fifo: str) -> bytes:
    """Once somebody has written into the FIFO, claim to have put another result where there is none."""

    def lie() -> None:
        os.read(os.open(fifo, os.O_RDONLY), 1)
        answer_with_location(2**40, 8)

    threading.Thread(target=lie).start()
    return filled(count)


request: contextvars.ContextVar[str] = contextvars.ContextVar("request")


def tagged(data: bytes) -> tuple[str, int]:
    return request.get(), len(data)


def digest_of_first(parts: list[bytes], _same: bytes) -> str:
    return digest(parts[0])


def unloadable(count: int) -> list[Any]:
    return [bytes(count), tasks.BreaksWhenLoaded()]


_kept: list[Any] = []


def look(array: Any) -> tuple[bool, int, int]:
    """Whether it can be written to, the sum of it, and whether it begins where vectors like it."""
    return array.flags.writeable, int(array.sum()), array.ctypes.data % 64


def write_into(array: Any) -> None:
    array[0] = 1


def write_into_buffer(view: memoryview) -> None:
    view[0] = 1


def keep(array: Any) -> int:
    """Part of it stays in use after the task."""
    _kept.append(array[1:])
    return os.getpid()


def sums_of_kept() -> list[int]:
    return [int(part.sum()) for part in _kept]


def let_go() -> int:
    _kept.clear()
    return os.getpid()


def slice_kept(view: memoryview) -> int:
    _kept.append(view[10:20])
    return len(view)


def bytes_of_kept() -> list[bytes]:
    return [bytes(part) for part in _kept]


def keep_in_a_cycle(array: Any) -> int:
    ring: list[Any] = [array]
    ring.append(ring)
    return os.getpid()


def fork_with(array: Any) -> int:
    """The child has what this process has, and lives as long as it likes."""
    child = os.fork()
    if not child:
        os._exit(int(array[0]))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def raise_with(array: Any) -> None:
    raise ValueError(f"{array[0]}")


def digest_unless_first(path: str, view: memoryview) -> str:
    tasks.die_unless_tried_before(path)
    return digest(view)
