"""Run one thing in a process group of its own: bounded in time, its output kept, nothing of it left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from lifepool.backends.local.shared.unnamed_files import nameless_file
from lifepool.cli.processes import kill_group, wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

LEFT_OVER_BOUND = 3.0  # seconds after the end for its last processes to end by themselves
KILL_BOUND = 5.0  # seconds for killed processes to be gone
OUTPUT_LINES = 12  # of what it printed, kept for the report


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an isolated call.

    Attributes:
        answer: What the function returned; empty if it did not get that far.
        error: Why there is no answer, with the end of what was printed.
        left_over: Processes of it that were still there after its end. They are gone now.
        timed_out: Whether it was ended because its time was over.
    """

    answer: dict[str, Any]
    error: str | None
    left_over: int
    timed_out: bool


def run_isolated(
    function: Callable[[Any], Mapping[str, Any]], request: Mapping[str, Any], timeout: float, cwd: Path | None = None
) -> Outcome:
    """Call ``function(request)`` in a fresh interpreter.

    Output goes to files, not pipes: a worker that outlives its parent holds a pipe open, and whoever reads that waits
    for it.

    Args:
        function: A module-level function; what goes in and comes out is JSON.
        request: Its argument.
        timeout: Seconds after which it is killed, with everything that it has started.
        cwd: The folder it runs in and imports from; None: the current one.
    """
    with nameless_file() as answer, nameless_file() as output:
        where = f"{function.__module__}:{function.__qualname__}"
        arguments = [str(os.getpid()), where, json.dumps(request), str(answer.fileno())]
        command = [sys.executable, "-m", "lifepool.cli.isolated", *arguments]
        with _sigterm_raises():
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
                pass_fds=(answer.fileno(),),
            )
            left_over, timed_out = _end(process, timeout)
        answered = _content(answer)
        if answered and process.returncode == 0:
            return Outcome(json.loads(answered), None, left_over, timed_out=False)
        lines = _content(output).decode(errors="replace").splitlines()
        return Outcome({}, _explain(process.returncode, timeout, lines), left_over, timed_out)


def _content(file: IO[bytes]) -> bytes:
    """Read all that is in the file, whoever has written it."""
    file.seek(0)
    return file.read()


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into SystemExit meanwhile, so that what was started is ended on the way out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: subprocess.Popen[bytes], timeout: float) -> tuple[int, bool]:
    """Wait for the end, bring it about after ``timeout`` seconds, and count who was left behind."""
    left_over, timed_out = 0, False
    try:
        process.wait(timeout)
        left_over = len(wait_until_gone(process.pid, LEFT_OVER_BOUND))
    except subprocess.TimeoutExpired:
        timed_out = True
    finally:  # also when the run is interrupted from the keyboard
        kill_group(process.pid, KILL_BOUND)
        process.wait(KILL_BOUND)
    return left_over, timed_out


def _explain(returncode: int, timeout: float, output: Sequence[str]) -> str:
    if returncode == -signal.SIGKILL:
        reason = f"killed: no answer in {timeout:g} s, or out of memory"
    elif returncode < 0:
        reason = f"ended by {signal.Signals(-returncode).name}"
    else:
        reason = f"exit code {returncode}"
    return "\n".join([reason, *output[-OUTPUT_LINES:]])
