"""What a process knows about being a worker. Read by ``Pool`` to refuse starting in one, written by the worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD_HINT = (
    "the script starts a pool or a server as soon as it is imported, and workers import it: put the call under "
    "'if __name__ == \"__main__\":'"
)

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
