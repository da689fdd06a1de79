"""What a process knows about being a worker. Read by ``Pool`` to refuse starting in one, written by the worker."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

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

#: Whether this process is a worker of a pool.
is_worker = False

#: Set when somebody tried to start a pool in this worker, whatever became of the error.
start_refused = False

#: Called when this worker exits normally, the last one first.
exit_calls: list[Callable[[], None]] = []

#: The number of the task that this worker runs; 0 if none.
current_task: Callable[[], int] = int

#: Sends the running task's progress; None outside of tasks.
progress_sink: Callable[[object], None] | None = None


def report_progress(value: object) -> None:
    """Tell the caller how far the running task is; it sees it as ``handle.progress``.

    Values that come faster than a hundred a second are thinned out. Outside of a task this does nothing, so that a
    function can be called anywhere.

    Args:
        value: Anything that can be pickled; by custom a fraction from 0 to 1.
    """
    if progress_sink is not None:
        progress_sink(value)
