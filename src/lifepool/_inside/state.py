"""Hold what a process knows about being a worker: written by the worker, read by what behaves differently in one.

A task may start a pool of its own. What must not is a module while a worker imports it: a script without the
``__main__`` guard would start its pool again in each worker, and so for ever.
"""

from __future__ import annotations

import enum
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

from lifepool.errors import PoolClosed

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

GUARD_HINT = (
    "the script starts a pool or a server as soon as it is imported, and workers import it: put the call under "
    "'if __name__ == \"__main__\":'"
)


class TaskInterrupted(BaseException):
    """Raised inside a task that passed its timeout or was cancelled. Let it through: the worker is killed else.

    Not an ``Exception``, so that ``except Exception`` in a task does not swallow it.
    """


#: Where ``__main__`` was read from. Taken now: the interpreter deletes it from there as soon as the script has ended,
#: and work that was submitted in its last lines has to start its workers then.
main_file: str | None = getattr(sys.modules.get("__main__"), "__file__", None)
main_id = id(sys.modules.get("__main__"))  # tools put another one in its place
main_argv = tuple(sys.argv)  # the program may change them once it has read them
UNSTARTED_HINT = (
    "this is a worker, and has its own copy of the module with the pool: call the function directly, or let the task "
    "start a pool of its own with 'async with Pool(max_workers=...)'"
)
DEPTH_HINT = "a thread that a module starts at its import, and that starts a pool, does so in each worker again"

#: So many pools may be inside each other.
MOST_NESTED = 3


class Phase(enum.Enum):
    """What a worker is doing, as far as starting a pool is concerned."""

    IMPORTING = enum.auto()
    INITIALIZING = enum.auto()
    SERVING = enum.auto()


#: Whether this process is a worker of a pool.
is_worker = False

#: None if it is no worker, and imports nothing on the behalf of one.
phase: Phase | None = None

#: How many pools this process is inside of.
depth = 0

#: Set when somebody tried to start a pool in this worker, whatever became of the error.
start_refused = False

#: Called when this worker exits normally, the last one first.
exit_calls: list[Callable[[], None]] = []

#: The number of the task that this worker runs; 0 if none.
current_task: Callable[[], int] = int

#: Around the loading of what outlives its task: processes that are started meanwhile do not end with the task.
keeping_processes: Callable[[], AbstractContextManager[None]] = nullcontext

#: Sends the running task's progress; None outside of tasks.
progress_sink: Callable[[object], None] | None = None


def check_start() -> None:
    """Refuse to start a pool where that would start one again and again.

    Raises:
        PoolClosed: If a module that a worker imports got here, or pools are nested too deep.
    """
    global start_refused
    if phase is Phase.IMPORTING or (phase is Phase.SERVING and _is_between_tasks()):
        start_refused = True
        raise PoolClosed("a pool can't be started while a worker imports the module", hint=GUARD_HINT)
    if depth >= MOST_NESTED:
        raise PoolClosed(f"pools are nested {depth} deep already", hint=DEPTH_HINT)


def _is_between_tasks() -> bool:
    """Return whether the thread that runs tasks runs none: it rebuilds the arguments of one, and imports for that."""
    return threading.current_thread() is threading.main_thread() and current_task() == 0


def become_ordinary() -> None:
    """Forget that this process is a worker: it is a fork of one."""
    global is_worker, phase, current_task, progress_sink, keeping_processes
    is_worker, phase, current_task, progress_sink = False, None, int, None
    keeping_processes = nullcontext
    exit_calls.clear()


def report_progress(value: object) -> None:
    """Tell the caller how far the running task is; it sees it as ``handle.progress``.

    Of values that come faster than a hundred a second only the latest are sent; the last one of a task always is. A
    thread that a task has started reports for that task, as long as it runs. Outside of a task this does nothing, so
    that a function can be called anywhere.

    Args:
        value: Anything that can be pickled; by custom a fraction from 0 to 1.

    Raises:
        TaskNotPicklable: If it can't be sent. It may be raised as the task's error when the function has returned.
    """
    if progress_sink is not None:
        progress_sink(value)
