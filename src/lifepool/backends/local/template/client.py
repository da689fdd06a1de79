"""Start a template from the server, ask it for workers, and end it.

The server is never forked: it has threads, an event loop and open connections, and a fork would copy their state in
the middle of things. So ``multiprocessing`` has its fork server; but it keeps one for the whole program, listens on a
path in the file system, and ends when a fork fails. A pool has a template of its own: its modules are its own, and it
must end with the pool. It is asked on a pair of connected sockets, which needs no path, and nobody else can ask.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import weakref
from multiprocessing import reduction, resource_tracker, spawn, util
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.main_script import main_script
from lifepool.backends.local.template.messages import GRANTED, receive_message, send_message
from lifepool.backends.local.template.preparation import preparation, search_path
from lifepool.backends.local.template.program import MAIN, Instructions
from lifepool.backends.local.template.surroundings import Surroundings, current_folder, surroundings
from lifepool.backends.local.worker.descendants import leave_reaping_to
from lifepool.backends.start_failures import what_to_do

if TYPE_CHECKING:
    from lifepool.backends.local.worker.startup import MainScript

logger: logging.Logger = logging.getLogger("lifepool")

#: Seconds that a template has to end when its end of the socket is closed.
CLOSED_S = 1.0
#: Seconds that a template has to answer when it is parked or taken again; it does nothing else then.
ANSWER_S = 1.0

_ENDED_HINT = "the process from which workers are forked ended, or was ended, while it was asked"

_KILLED_HINT = "look for who ended it: a kill, the kernel for its memory, or a signal that a task has sent"

#: The folder that this very lifepool is in.
_HOME = str(Path(__file__).parents[4])

#: What a template's command does: find this very lifepool, and be a template.
_PROGRAM = (
    "import sys; sys.path[:] = {path}; from lifepool.backends.local.template.program import run_template; "
    "run_template({line}, {tracker})"
)


class TemplateEnded(Exception):
    """The template ended, or refused, before it could fork a worker.

    Attributes:
        hint: What to do about it.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class ForkedWorker(Protocol):
    """A worker that was forked from a template, as the template's client needs it."""

    def kill(self) -> None:
        """End the process, and all that its tasks have started."""

    def dispose(self) -> None:
        """Release what this process has of it."""


class Template:
    """The clean process that a pool's workers are forked from; started with the first worker.

    Args:
        preload: Modules that it imports before it forks anything; without them, workers don't start.
        modules: Those that it imports after them; without these, workers do.
        name: The pool's, for its log lines.

    Attributes:
        main: Where workers find ``__main__``, or None. If it is imported ahead, this process does that too.
    """

    def __init__(self, preload: tuple[str, ...], modules: tuple[str, ...] = (), *, name: str) -> None:
        self.main: MainScript | None = main_script()
        self._preload = preload
        self._modules = modules
        self._name = name
        self._left_out: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None
        self._line: socket.socket | None = None
        self._begun: socket.socket | None = None  # the line of one that has no instructions yet
        self._importing = ""  # what it said last that it imports
        self._environment = dict(os.environ)
        self.workers: weakref.WeakSet[ForkedWorker] = weakref.WeakSet()
        self._left: list[ForkedWorker] = []
        self._is_parked = False
        leave_reaping_to(self)
        forked.register(self)

    @property
    def pid(self) -> int | None:
        """Return its process; None if there is none."""
        return None if self._process is None else self._process.pid

    def surroundings(self) -> Surroundings:
        """Return the server's folder, and what has changed in its environment since this template was made."""
        return surroundings(self._environment)

    def begin(self) -> None:
        """Start its process, which loads what every template needs, before there are instructions for it.

        Raises:
            OSError: If the machine is at a limit.
        """
        with forked.making:
            self._begun = self._spawn()

    def fork(self, fds: list[int]) -> tuple[int, int]:
        """Ask for a child. Blocks for as long as the start of the template takes, if it has to be started.

        Args:
            fds: Descriptors that the child is to have.

        Returns:
            The descriptor from which the child's pid and exit code can be read, and the one for its instructions.

        Raises:
            TemplateEnded: If it can't be started, and why.
            OSError: If the machine is at a limit.
        """
        line = self._ready_line()
        status, child_status = os.pipe()
        try:
            child_instructions, instructions = os.pipe()
        except OSError:
            _close(status, child_status)
            raise
        try:
            reduction.sendfds(line, [child_instructions, child_status, _tracker(), *fds])
        except BaseException:
            _close(status, instructions)
            raise
        finally:
            _close(child_instructions, child_status)
        return status, instructions

    def why_silent(self) -> TemplateEnded:
        """Say why nothing was heard of a worker that was asked for."""
        template = self._process
        code = None if template is None else _exit_code(template)
        if code is None:
            return TemplateEnded("the template process did not say why", "see what it printed to the standard error")
        return TemplateEnded(
            f"the template process, from which workers are forked, {_how_it_ended(code)}", _KILLED_HINT
        )

    def kill(self) -> None:
        """End every worker and the template. For one that hangs, and could not end them itself."""
        for worker in list(self.workers):
            worker.kill()
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def stop(self, *, patiently: bool = True) -> None:
        """Let it go, and reap it. It takes what is left of its workers with it.

        Args:
            patiently: Wait for ever: somebody else kills it if it hangs. Else it is killed after ``CLOSED_S``.
        """
        self.close_line()
        if self._process is not None:
            if not patiently and _exit_code(self._process) is None:
                self.kill()
            self._process.wait()
            self._process = None
        left, self._left = self._left, []
        for each in left:
            each.dispose()

    def park(self) -> bool:
        """Have it wait for another pool, or end by itself; False if it can't: something is left of its workers."""
        if self._line is None or self._left:
            return False
        self._is_parked = self._answers(self._line, [])
        self.workers.clear()
        return self._is_parked

    def dispose_later(self, process: ForkedWorker) -> None:
        """Let go of a process that may still live when the template ends, and it with it."""
        self._left.append(process)

    def let_go_in_child(self) -> None:
        """Let go in a forked copy of the server: the template is none of its business."""
        self.close_line()
        if self._process is not None:
            self._process.returncode = 0  # it is not this process's child: do not ask, nor warn
            self._process = None

    def close_line(self) -> None:
        """Close this process's end of the socket; the template ends when nobody holds it any more."""
        for line in (self._line, self._begun):
            if line is not None:
                line.close()
        self._line = self._begun = None

    # -- its start --------------------------------------------------------------------------------------------------

    def _ready_line(self) -> socket.socket:
        """Return the socket of a template that is ready; start one if there is none (any more)."""
        if self._line is not None and self._process is not None and self._process.poll() is None:
            if not self._is_parked:
                return self._line
            if self._answers(self._line, [1, 2]):  # standard output and error may be others by now
                self._is_parked = False
                return self._line
        line, self._begun = self._begun, None
        if line is None:
            self.stop(patiently=not self._is_parked)  # reaps one that has ended
            self._is_parked = False
            line = self._spawn()
        try:
            while True:
                send_message(line, self._instructions())
                if self._hear(line):
                    self._line = line
                    return line
        except (EOFError, OSError) as error:
            line.close()
            raise self._ended(error) from None
        except BaseException:
            line.close()
            raise

    @staticmethod
    def _answers(line: socket.socket, fds: list[int]) -> bool:
        """Send a request that is about no worker (see ``forking.py``), and return whether it is granted."""
        try:
            line.settimeout(ANSWER_S)
            if fds:
                reduction.sendfds(line, fds)
            else:
                line.sendall(b"\0")
            granted = line.recv(1) == GRANTED
            line.settimeout(None)
        except OSError:
            return False
        return granted

    def _spawn(self) -> socket.socket:
        tracker = _tracker()
        ours, theirs = socket.socketpair()
        try:
            # Its own folder comes last: another lifepool may come first there, as it does here.
            path = [*search_path(), _HOME]
            program = _PROGRAM.format(path=ascii(path), line=theirs.fileno(), tracker=tracker)
            executable = os.fsdecode(spawn.get_executable() or sys.executable or "")
            # An import must not read what is typed for the server, nor stop because it tries to.
            self._process = subprocess.Popen(
                [executable, *interpreter_flags(), "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), tracker),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return ours

    def _hear(self, line: socket.socket) -> bool:
        """Wait until the template is ready; False if it begins anew and wants its instructions again."""
        while True:
            kind, *rest = receive_message(line)
            if kind == "importing":
                (self._importing,) = rest
            elif kind == "left out":
                self._note_left_out(*rest)
                return False
            elif kind == "refused":
                raise OSError(*rest)
            else:
                return True

    def _instructions(self) -> Instructions:
        return Instructions(
            preparation=preparation(f"lifepool-{self._name}-template"),
            surroundings=self.surroundings(),
            main=self.main if self.main is not None and self.main.ahead else None,
            modules=(*self._preload, *self._modules),
            left_out=frozenset(self._left_out),
        )

    def _note_left_out(self, refused: dict[str, tuple[str, str]]) -> None:
        for name, (why, what) in refused.items():
            self._left_out.add(name)
            if why == "left open":
                logger.warning(
                    "pool %r: importing %s leaves %s, which workers must not share. So it is imported by each worker "
                    "instead of once for all: they start later and share no memory. Open it in an initializer or a "
                    "pool.resource instead",
                    self._name,
                    _shown(name),
                    what,
                )
            elif name != MAIN and name not in self._preload:  # of the others, the workers report
                logger.warning(
                    "pool %r: %s can't be imported ahead of the first task: %s", self._name, _shown(name), what
                )

    def _ended(self, error: Exception) -> TemplateEnded:
        """Say why there is no template."""
        template = self._process
        doing = f" while it imported {_shown(self._importing)}" if self._importing else ""
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            message = f"the template process, from which workers are forked, could not start: {error}"
            hint = what_to_do(error) or _ENDED_HINT
        else:
            assert template is not None  # noqa: S101 - it was started, or there were another error
            code = _exit_code(template)
            message = f"the template process, from which workers are forked, {_how_it_ended(code)}{doing}"
            if code in (-signal.SIGKILL, -signal.SIGTERM):
                hint = _KILLED_HINT
            elif doing:
                does = "ends the process" if code is not None else "closes files that are not its own"
                hint = f"look at what importing {_shown(self._importing)} does: it {does}"
            else:
                hint = "look at what it printed to the standard error of this program"
            if code is None:
                template.kill()
                template.wait()
        self._importing = ""
        return TemplateEnded(message, hint)


def _exit_code(template: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code of a template that has closed its end of the socket, as it does when it ends, or None."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return template.wait(CLOSED_S)
    return None


def _how_it_ended(code: int | None) -> str:
    if code is None:
        return "has closed its connection to this program"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def interpreter_flags() -> list[str]:
    """Return the options that this interpreter was started with; ``multiprocessing`` passes on some of ``-X`` only."""
    flags: list[str] = vars(util)["_args_from_interpreter_flags"]()
    passed = {flag.partition("=")[0] for flag in flags}
    for name, value in vars(sys)["_xoptions"].items():
        if name not in passed:
            flags += ["-X", name if value is True else f"{name}={value}"]
    if current_folder() is None:
        flags.append("-P")  # or Python 3.13.0 looks into the folder that was deleted, and fails
    return flags


def _tracker() -> int:
    number = resource_tracker.getfd()
    assert number is not None  # noqa: S101 - it was just made sure that there is one
    return number


def _shown(name: str) -> str:
    return "the main script" if name == MAIN else repr(name)


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
