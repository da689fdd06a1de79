"""Functions that tests run in workers. Kept light: every worker imports this module.

A task that has to be *seen running* announces itself at a gate (`tests.engine.gates`): it connects to a Unix socket,
sends its pid, and, if it wants to be held, waits for a byte.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import logging
import os
import pickle
import re
import signal
import socket
import stat
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from lifepool._core.framing import Kind, header
from lifepool._inside.state import report_progress

ENDLESS_S = 10_000.0


# --- plain ones -----------------------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


def echo(value: Any) -> Any:
    return value


def concatenate(*parts: str, separator: str = "") -> str:
    return separator.join(parts)


def keyword_only(*, value: Any) -> Any:
    return value


def nothing() -> None:
    pass


def nest(depth: int) -> list[Any]:
    """A list in a list in a list ..."""
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    return nested


def zeros(count: int) -> bytes:
    return bytes(count)


def fail_for(number: int, bad: int) -> int:
    if number == bad:
        raise ValueError(f"no {bad}")
    return number


def fail_for_three(number: int) -> int:
    return fail_for(number, 3)


def fail(message: str) -> NoReturn:
    raise ValueError(message)


def fail_deeply() -> NoReturn:
    fail("deep down")


# --- being seen, being held -----------------------------------------------------------------------


def announce(address: str) -> socket.socket:
    """Tell the gate that this process is here.

    Close or keep what this returns. One that is merely dropped is closed by a finalizer, which calls its `__repr__` for
    a warning: an interrupt that is raised in there is lost, as everything is that a finalizer raises.
    """
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    connection.sendall(b"%d\n" % os.getpid())
    return connection


def hold(address: str, value: Any = None) -> Any:
    """Wait until the gate lets us through."""
    with announce(address) as connection:
        if not connection.recv(1):
            raise ConnectionError("the gate was closed")
    return value


def hold_one(arguments: tuple[str, Any]) -> Any:
    return hold(*arguments)


def hold_stubbornly(address: str) -> None:
    """Swallow every attempt to break it off."""
    while True:
        with contextlib.suppress(BaseException):
            connection = announce(address)
            while True:
                connection.recv(1)


def clean_up_when_broken_off(address: str, trace: str) -> None:
    try:
        announce(address).recv(1)
    finally:
        Path(trace).write_text("cleaned up")


def catch_exceptions(address: str, trace: str) -> None:
    """`except Exception`, as careful people write it, must not stop an interrupt."""
    try:
        announce(address).recv(1)
    except Exception:
        Path(trace).write_text("swallowed")


def hold_in_python(address: str) -> None:
    _connection = announce(address)
    while True:
        pass


def hold_in_sleep(address: str) -> None:
    _connection = announce(address)
    time.sleep(ENDLESS_S)


def hold_in_c(address: str) -> None:
    """One call into C that keeps the GIL and looks at no signal; it announces itself when it is well inside."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    sum(itertools.chain(map(connection.send, [b"%d\n" % os.getpid()]), itertools.repeat(1)))


def hold_in_regex(address: str) -> None:
    _connection = announce(address)
    re.match(r"(a+)+$", "a" * 64 + "b")


def append_line(path: str, line: str) -> str:
    with open(path, "a") as lines:
        lines.write(f"{line}\n")
    return line


def read_line(path: str) -> str:
    """Of a named pipe: once somebody writes one."""
    with open(path) as lines:
        return lines.readline()


def die_unless_tried_before(path: str) -> str:
    """The first time this kills its worker, the second time it succeeds."""
    tried = Path(path)
    if tried.exists():
        return "survived"
    tried.write_text("tried")
    os._exit(3)


def fail_unless_tried_before(path: str) -> str:
    tried = Path(path)
    if tried.exists():
        return "survived"
    tried.write_text("tried")
    raise OSError("the first try")


def append_and_die(path: str) -> NoReturn:
    append_line(path, "tried")
    os._exit(3)


# --- ways to die ----------------------------------------------------------------------------------


def exit_hard(code: int) -> NoReturn:
    os._exit(code)


def kill_self(number: int) -> None:
    os.kill(os.getpid(), number)
    signal.pause()


def read_null() -> None:
    ctypes.string_at(0)


def exit_softly(code: Any = 0) -> NoReturn:
    sys.exit(code)


def interrupt_like_ctrl_c() -> NoReturn:
    raise KeyboardInterrupt


def perform(action: str, argument: Any = None) -> Any:
    """One name for many actions: run times are learned by name, and so short ones are pipelined with deadly ones."""
    if action == "exit":
        os._exit(argument)
    if action == "kill":
        kill_self(argument)
    if action == "hold":
        return hold(argument)
    return argument


def perform_pair(pair: tuple[str, Any]) -> Any:
    return perform(*pair)


def pid_for(_: object) -> int:
    return os.getpid()


# --- what pickle does not like --------------------------------------------------------------------


class Session:
    def __init__(self) -> None:
        self.name = "session"
        self._lock = threading.Lock()

    def greet(self) -> str:
        return f"this is {self.name}"


class Job:
    def __init__(self) -> None:
        self.text = "some text"
        self.session = Session()


class RefusesPickle:
    def __reduce__(self) -> NoReturn:
        raise RuntimeError("never")


class BreaksWhenLoaded:
    """Pickles well; whoever unpickles it gets an error."""

    def __reduce__(self) -> tuple[object, ...]:
        return (fail, ("can't be rebuilt",))


@dataclass
class Point:
    x: int
    y: int


def make_session() -> Session:
    return Session()


def make_jobs() -> dict[str, list[Job]]:
    return {"jobs": [Job()]}


def make_lambda() -> Any:
    return lambda: None


def make_breaking() -> BreaksWhenLoaded:
    return BreaksWhenLoaded()


class OwnInit(Exception):
    """The classic: `args` do not fit `__init__`."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class HoldsLock(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message, threading.Lock())
        self.lock = threading.Lock()
        self.number = 7


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def raise_own_init() -> NoReturn:
    raise OwnInit(42, detail="of its own")


def raise_holding_lock() -> NoReturn:
    raise HoldsLock("with a lock")


def raise_unprintable() -> NoReturn:
    raise Unprintable


def raise_local_class() -> NoReturn:
    class Local(Exception):
        pass

    raise Local("known here only")


def raise_stop_iteration() -> NoReturn:
    raise StopIteration("stopped")


def raise_base_exception() -> NoReturn:
    raise GeneratorExit("not an Exception")


def raise_cancelled() -> NoReturn:
    import asyncio  # heavy: for this task alone

    raise asyncio.CancelledError


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def raise_with_notes() -> NoReturn:
    error = ValueError("noted")
    error.add_note("a note of the task's")
    raise error


def raise_from_another() -> NoReturn:
    try:
        raise KeyError("the first")
    except KeyError as first:
        raise ValueError("the second") from first


# --- progress -------------------------------------------------------------------------------------


def report_and_hold(address: str, value: Any) -> Any:
    report_progress(value)
    return hold(address, value)


def report_and_return(value: Any) -> Any:
    report_progress(value)
    return value


def report_unpicklable() -> None:
    report_progress(threading.Lock())


def report_unpicklable_then_hold(address: str) -> None:
    with contextlib.suppress(TypeError):
        report_progress(threading.Lock())
    hold(address)


# --- initializers ---------------------------------------------------------------------------------

loaded: list[str] = []


def load(word: str) -> None:
    loaded.append(word)


def what_is_loaded() -> tuple[int, list[str]]:
    return os.getpid(), loaded


def hold_and_tell_what_is_loaded(address: str) -> tuple[int, list[str]]:
    hold(address)
    return what_is_loaded()


def fail_to_load(word: str) -> NoReturn:
    raise LookupError(f"no model called {word}")


def exit_while_loading() -> NoReturn:
    sys.exit("can't load")


def die_while_loading() -> NoReturn:
    os._exit(9)


def hang_while_loading() -> None:
    time.sleep(ENDLESS_S)


def fail_while_file_exists(path: str) -> None:
    if Path(path).exists():
        raise LookupError("the cause is still there")


def is_imported(module: str) -> bool:
    return module in sys.modules


# --- hostile ones ---------------------------------------------------------------------------------


def close_all_descriptors() -> None:
    os.closerange(0, 256)


def write_garbage_to_sockets() -> None:
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, b"neither frame nor ticket " * 50)


def answer_for_another_task() -> None:
    """Forge a well-formed answer on every socket there is, and go on working."""
    forged = header(Kind.RESULT, len(pickle.dumps(1)), 4711) + pickle.dumps(1)
    for fd in range(3, 256):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                os.write(fd, forged)
    time.sleep(ENDLESS_S)


def fork_and_return() -> int:
    """Both processes return from this; returns the child's pid (in the child 0)."""
    return os.fork()


def fork_and_raise() -> NoReturn:
    raise ValueError(os.fork())


def start_threads(count: int) -> int:
    for _ in range(count):
        threading.Thread(target=time.sleep, args=(ENDLESS_S,), daemon=True).start()
    return threading.active_count()


def start_lasting_thread() -> None:
    """Not a daemon: the interpreter waits for it at its end, for ever."""
    threading.Thread(target=time.sleep, args=(ENDLESS_S,)).start()


def ignore_all_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def print_much(lines: int) -> int:
    line = "x" * 99
    for _ in range(lines):
        print(line)
        print(line, file=sys.stderr)
    return lines


def tamper_with_environment() -> None:
    os.environ.clear()
    os.chdir("/")
    sys.path.clear()


def process_group() -> tuple[int, int]:
    """The template's pid and the group's."""
    return os.getppid(), os.getpgrp()


def log_a_line(name: str, text: str) -> None:
    logging.getLogger(name).info(text)
