"""Why a worker went: decided here once, from the worker's state and from what is known of its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy
from lifepool._core.states import ExitReason, WorkerState
from lifepool.errors import WorkerLost, how_it_ended

if TYPE_CHECKING:
    from lifepool._core.events import WorkerExited
    from lifepool._core.fleet import Worker

#: Signals that others send to end a process (SIGHUP, SIGINT, SIGKILL, SIGTERM); it brings the rest on itself.
_FROM_OUTSIDE = frozenset({1, 2, 9, 15})
_HANGS_HINT = (
    "look for what hangs or takes long: the initializer, an eager resource, or a module that is imported; if it needs "
    "that time, raise start_timeout"
)
_ENDS_HINT = (
    "look for what ends it: a crash in native code or os._exit, in the initializer or in a module that is imported, or "
    "a kill"
)
_OVERDUE = frozenset({ExitReason.NOT_READY_IN_TIME, ExitReason.NOT_IMPORTED_IN_TIME})


def exit_reason(worker: Worker, event: WorkerExited, *, now: float, ending: bool) -> ExitReason:
    """Decide why a worker went; call this before the fleet forgets the worker.

    Args:
        worker: Whose process ended.
        event: What is known of its end.
        now: The instant of the event.
        ending: Whether the whole pool is ending.
    """
    was_ready = worker.ready_at is not None
    if worker.state is WorkerState.STOPPING and worker.exit_reason is not None and (was_ready or ending):
        return worker.exit_reason
    if not was_ready or (ended_early(worker, event, now) and not _was_killed(event)):
        return ExitReason.FAILED_TO_START
    return ExitReason.OUT_OF_MEMORY if event.oom_suspected else ExitReason.DIED


def ended_early(worker: Worker, event: WorkerExited, now: float) -> bool:
    """Decide whether the worker was ready and ended soon after by itself, without having done anything."""
    if worker.state is WorkerState.STOPPING or worker.ready_at is None:
        return False
    has_worked = worker.completed or set(worker.tasks) - set(event.unstarted)
    return not has_worked and now - worker.ready_at < policy.PROBATION_S


def _was_killed(event: WorkerExited) -> bool:
    """Decide whether somebody else ended the process: the user, the kernel for memory, the end of the template."""
    is_unknown = event.signal is None and event.exitcode is None
    return not event.reason and (is_unknown or event.signal in _FROM_OUTSIDE)


def lost_description(worker: Worker, event: WorkerExited, start_timeout: float) -> str:
    """Describe why a worker was ended that had tasks; empty if only its exit status says something."""
    return event.reason or _own_words(worker, start_timeout)


def start_failure(worker: Worker, event: WorkerExited, start_timeout: float) -> tuple[str, str | None]:
    """Describe why a worker could not start (its traceback, why it was ended, or its exit status), and what to do."""
    if event.start_error:
        return event.start_error, event.start_hint
    if known := _own_words(worker, start_timeout) or event.reason:
        return known, _HANGS_HINT if worker.exit_reason is ExitReason.NOT_READY_IN_TIME else event.start_hint
    return f"its process ended before its first task: {how_it_ended(event.exitcode, event.signal)}", _ENDS_HINT


def _own_words(worker: Worker, start_timeout: float) -> str:
    reason = worker.exit_reason
    if reason is None:
        return ""
    return f"{reason.value} ({start_timeout:g} s)" if reason in _OVERDUE else reason.value


def lost_error(event: WorkerExited, description: str, history: tuple[str, ...]) -> WorkerLost:
    """Make the error of the task that a worker was running when it ended.

    Args:
        event: What is known of the end.
        description: Why the worker was ended, if that is known.
        history: The task's recent events.
    """
    return WorkerLost(
        exitcode=event.exitcode,
        signal=event.signal,
        oom_suspected=event.oom_suspected and not description,  # else it was killed for a reason that is known
        reason=description,
        story=history,
    )
