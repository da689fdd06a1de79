"""Policy: every constant of behaviour, and choices that are functions of numbers alone.

Each constant says where it comes from. The functions say how deep to pipeline, how long to back off, how much to learn.
Those on the way of every task are ``Final``: compiled, they are numbers in the code then, and not looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

#: A worker keeps at most this much work, in estimated seconds, behind the task it runs. A result needs ~100 us to come
#: home and the next task as long to come back: one such gap a millisecond is what pipelining saves.
PIPELINE_S: Final = 1e-3
#: Tasks longer than this are never pipelined: the gap is then below 2 % of the run time.
PIPELINE_TASK_S: Final = 5e-3
#: Never more than this many tasks at one worker, however short they are: past 8 nothing is gained any more.
PIPELINE_DEPTH: Final = 8
#: But the gap is as long as a turn of the server's loop. In an overload a turn takes tens of milliseconds, and what a
#: worker has must last until the next one: it gets up to so many tasks then.
PIPELINE_MOST: Final = 32
#: The longest gap of late counts, up to so many seconds: one block of the loop says nothing of the next turn.
GAP_MOST_S: Final = 0.1
#: Each answer leaves this share of it. A turn in which tens of answers come does not make it forgotten, some turns do.
GAP_KEPT: Final = 0.99
#: Of tasks this short, in seconds, or shorter, a pipeline is full before it holds ``PIPELINE_S`` of work.
_SHORTEST: Final = PIPELINE_S / (PIPELINE_DEPTH - 1)
#: A task that runs longer than this was not short after all: what is pipelined behind it is taken back.
OVERRUN_S: Final = 5e-3
#: A worker that has not even taken its task after so many seconds is not slow but stopped: it is replaced. Generous,
#: because on a starved machine a healthy process may not be scheduled for a while.
CLAIM_S = 2.0
#: Tasks estimated below this are not stolen for an idle worker: they will be done before the theft is.
STEAL_TASK_S: Final = 0.3e-3

#: Seconds an interrupted task has to come to an end before its worker is killed: enough for ``finally`` blocks.
INTERRUPT_GRACE_S = 0.25
#: Seconds an idle worker has to exit when asked to (exit handlers of the user's libraries run then).
STOP_GRACE_S = 2.0

#: A worker that keeps views of the shared arguments of more tasks than this is replaced: each is a mapping of its own,
#: and the memory behind it can't be used for other arguments.
KEPT_VIEWS_MOST = 64

#: Backoff of worker starts after failures in a row, doubling from the first to the last value, in seconds.
RESTART_FIRST_S, RESTART_LAST_S = 0.1, 5.0
#: So many failed starts in a row, with no worker left, mean a crash loop: waiting tasks get the error, and new ones are
#: refused.
CRASH_LOOP_STARTS = 3
#: A worker that was ready for so many seconds, and then ends without having done anything, did start. Pauses between
#: starts are not longer: workers that always end later than that are not started more often either.
PROBATION_S = 5.0

#: A task is admitted if this many times its predicted wait and run time fit into its timeout. Estimates are right on
#: average; of a queue filled to the brim, half would be late, and the workers busy with what nobody waits for any more.
#: The more run times differ, the more it takes: so the factor is learned, from the least to the most.
SAFETY_FACTOR: Final = 1.25
SAFETY_FACTOR_MOST: Final = 6.0
#: Each admitted task that waited too long raises the factor by this step; each that was in time lowers it, at a rate
#: at which the two are even when ``LATE_SHARE`` is late. With a lower factor than that, workers are kept busy by what
#: is given up on; with a higher one, the queue is so short that they may run out of work.
SAFETY_STEP, LATE_SHARE = 0.1, 0.01
#: So many waiting tasks for each that can run at a time are admitted for good, though nothing is known of their
#: function: they are the first to run, and the fewer there are, the less is to be gained.
FIRST_FEW = 3
#: The others are reviewed each time that this part of their timeout has passed, so that they are refused while a
#: client can still ask another server. Never more often than the second, in seconds.
REVIEW_SHARE, LEAST_REVIEW_S = 1 / 16, 0.01
#: The least advice to a refused client, in seconds: sooner it would only be refused again.
LEAST_RETRY_S = 0.05
#: What the factor is above the least is forgotten by half in so many seconds. An overload that goes on must keep
#: teaching faster than is forgotten: with 10 s the goodput of tasks of 0.4 s falls by 5 %, with a minute by 1 to 2 %.
SAFETY_HALF_LIFE_S = 60.0
#: While nobody has to wait there is no overload, and the next one will be another: so many seconds then.
CALM_HALF_LIFE_S = 1.0
#: A factor so little above the least counts as the least.
NO_EXCESS = 0.01

#: Of the tasks that nobody will run, because the pool is closed or no worker comes up, so many are settled at once, and
#: the next after so many seconds: a queue may hold a million, and the event loop has other things to do meanwhile.
SETTLED_AT_ONCE, SETTLE_PAUSE_S = 500, 0.5e-3
#: So many timers that are due, such as the timeouts of tasks that were submitted together, are dealt with at once.
TIMERS_AT_ONCE = 500

#: Backoff of a task's retries, doubling, in seconds; half of it is jitter, so that tasks lost together are not all
#: tried again at the same instant.
RETRY_FIRST_S, RETRY_LAST_S = 0.05, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The scheduler's settings; times in seconds, memory in bytes."""

    max_workers: int
    min_workers: int
    max_queue: int
    slots: int = 1  # tasks a worker runs at the same time
    max_tasks_per_worker: int | None = None
    max_worker_memory: int | None = None
    max_kept_bytes: int | None = None  # of shared arguments that a worker may keep views of beyond their tasks
    idle_timeout: float = 60.0
    start_timeout: float = 60.0
    cpus: float | None = None  # that starts share with all else; None: all workers start at once
    can_kill: bool = True  # a running task can be ended by ending its worker
    can_interrupt: bool = True
    numbering: int = 1  # workers are numbered 1, 2, ...; with -1 they are -1, -2, ..., unlike those beside them
    is_cluster: bool = False  # what a worker has may wait there; ``TasksTaken`` says when it does no more
    can_retract: bool = True  # what a worker has not started can be taken back, so that pipelining is safe
    settled_at_once: int = SETTLED_AT_ONCE
    timers_at_once: int = TIMERS_AT_ONCE


def pipeline_depth(estimate_s: float | None, gap_s: float = 0.0) -> int:
    """Return how many tasks of this run time a worker may have, the running one included.

    Args:
        estimate_s: Seconds that such a task runs; None if that is not known.
        gap_s: Seconds from the end of a task until the next one can be there.
    """
    if estimate_s is None or estimate_s > max(PIPELINE_TASK_S, gap_s):
        return 1
    if gap_s > PIPELINE_S:
        return min(PIPELINE_MOST, 1 + max(1, int(gap_s / max(estimate_s, _SHORTEST))))
    if estimate_s <= _SHORTEST:
        return PIPELINE_DEPTH
    return 1 + max(1, int(PIPELINE_S / estimate_s))


def next_gap(gap_s: float, seen_s: float) -> float:
    """Return the gap, after an answer for which the worker, or what it had ahead, waited for ``seen_s`` seconds."""
    kept = gap_s * GAP_KEPT
    return min(seen_s, GAP_MOST_S) if seen_s > kept else kept


def workers_for_short(limits: Limits) -> int:
    """Return how many busy workers are enough for very short tasks, or 0 if there are never more than that."""
    if limits.cpus is None or limits.slots > 1 or not limits.can_retract:
        return 0
    enough = max(1, math.ceil(limits.cpus))
    return enough if limits.max_workers > enough else 0


#: Workers that wait rather than compute while they start are started together, but no more for each CPU than this.
STARTS_FOR_EACH_CPU = 32


def starts_at_once(cpus: float, cpu_share: float | None) -> int:
    """Return how many workers may start at the same time: as many as keep the CPUs busy.

    Args:
        cpus: CPUs that there are for them.
        cpu_share: The share of a start in which a worker uses a CPU; None if that is not known yet.
    """
    share = 1.0 if cpu_share is None else min(max(cpu_share, 1 / STARTS_FOR_EACH_CPU), 1.0)
    return max(1, math.ceil(cpus / share))


#: A successor is started this many times the seconds of the last start ahead: starts vary, and wait for one another.
START_MARGIN = 2.0


def recycle_lead(max_tasks: int, start_s: float, pace_s: float) -> int:
    """Return how many tasks before its last one a worker's successor is started, so that capacity does not dip.

    Args:
        max_tasks: Tasks that a worker runs in its life.
        start_s: Seconds that the start of a worker took lately.
        pace_s: Seconds from one task to the next of this worker, idle ones included.
    """
    if max_tasks <= 1:
        return 0
    ahead = START_MARGIN * start_s / max(pace_s, 1e-6)
    return min(max(1, math.ceil(ahead)), max_tasks - 1)


def restart_delay(failures: int) -> float:
    """Return the seconds to wait after this many failed starts in a row (at least one)."""
    return float(min(RESTART_FIRST_S * 2 ** min(failures - 1, 30), RESTART_LAST_S))


def retry_delay(attempt: int, jitter: float) -> float:
    """Return the seconds before try number ``attempt`` (the first retry is 1); ``jitter`` is in [0, 1)."""
    full = min(RETRY_FIRST_S * 2 ** min(attempt - 1, 30), RETRY_LAST_S)
    return float(full * (0.5 + 0.5 * jitter))


def left_after(seconds: float, half_life: float) -> float:
    """Return the share that is left after so many seconds of what is forgotten by half in ``half_life``."""
    return float(0.5 ** (max(0.0, seconds) / half_life))


def next_safety_factor(factor: float, *, late: bool) -> float:
    """Return the safety factor after one more task that was late, or in time."""
    change = 1 + SAFETY_STEP if late else 1 - SAFETY_STEP * LATE_SHARE
    return min(max(factor * change, SAFETY_FACTOR), SAFETY_FACTOR_MOST)
