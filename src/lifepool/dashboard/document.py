"""Build the page's JSON document from the recorder's tables, and from nothing else."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import lifepool
from lifepool.dashboard.cluster import cluster_of
from lifepool.dashboard.formatting import shown_name, visible
from lifepool.dashboard.task_details import details_of
from lifepool.dashboard.time_series import COLUMNS, MAX_POINTS, RECENT_POINTS, WINDOW_POINTS
from lifepool.dashboard.verdict import verdict
from lifepool.instrumentation.loop import LoopWatch

if TYPE_CHECKING:
    from lifepool._pool.life import PoolLife
    from lifepool.dashboard.recorder import Recorder
    from lifepool.statistics import PoolStatistics, WorkerSnapshot

#: Marks on the workers' lanes in one answer: those of a second, or at first those of the last minute.
MAX_MARKS = 1000
#: Times that the event loop was blocked, and characters of where that was.
MAX_BLOCKS, MAX_LOCATION = 5, 200
#: The format of the document; the page and the terminal say so if they meet another one.
VERSION = 1


def document(pool: PoolLife, recorder: Recorder, *, since: str = "", actions: tuple[str, ...] = ()) -> dict[str, Any]:
    """Build the document: all that the page shows, as plain values for JSON.

    Args:
        pool: What is shown.
        recorder: What is known of its past.
        since: The ``cursor`` of the last answer; only newer points and marks are given then. One of another server
            process or of an earlier start counts as none.
        actions: What whoever asks may do.
    """
    pool.tell_hooks()
    statistics = pool.statistics() if recorder.sample is None else recorder.sample.statistics
    tick = recorder.history.number
    after, continued = _position(since, recorder)
    about, counts, window = _pool(pool, statistics), _counts(statistics), recorder.history.window()
    start_errors = (recorder.start_error(exit) for _, exit in reversed(recorder.exits))
    return {
        "lifepool": lifepool.__version__,
        "version": VERSION,
        "cursor": f"{recorder.instance}-{tick}",
        "continued": continued,
        "now": recorder.clock() if recorder.sample is None else recorder.sample.t,
        "time": time.time(),
        "server": {
            "instance": recorder.instance,
            "pid": recorder.pid,
            "host": visible(recorder.host),
            "processes": recorder.server_processes,
        },
        "actions": list(actions),
        "verdict": verdict(
            reasons=about["reasons"],
            config=about,
            counts=counts,
            lately=recorder.history.window(RECENT_POINTS),
            window=window,
            start_error=next((error for error in start_errors if error), None),
        ),
        "pool": about,
        "counts": counts,
        "cluster": cluster_of(statistics.cluster),
        "window": window,
        "history": {"columns": COLUMNS, "points": recorder.history.since(after), "kept": MAX_POINTS},
        "workers": [_worker(each) for each in recorder.workers],
        "exits": _exits(recorder),
        "blocks": _blocks(pool),
        "marks": recorder.recent_tasks.between(max(after, tick - WINDOW_POINTS), tick, MAX_MARKS),
        "oldest": recorder.oldest,
        "names": recorder.names.slowest(),
        "failures": recorder.failures.recent(),
    }


def task_details(pool: PoolLife, recorder: Recorder, task: int) -> dict[str, Any] | None:
    """Return all that is known of a task; None if it has its outcome and was not kept."""
    pool.tell_hooks()
    record = pool.task_record(task)
    if record is not None:
        details = details_of(record, recorder.history.number, private=recorder.private)
    else:
        found = recorder.details(task)
        if found is None:
            return None
        details = found
    return {**details.as_dict(), "now": recorder.clock(), "time": time.time()}


def _position(cursor: str, recorder: Recorder) -> tuple[int, bool]:
    instance, _, number = cursor.partition("-")
    tick = recorder.history.number
    if instance != recorder.instance or not (number.isascii() and number.isdigit() and len(number) < 12):
        return 0, False
    after = int(number)
    return (after, True) if tick - MAX_POINTS <= after <= tick else (0, False)


def _pool(pool: PoolLife, statistics: PoolStatistics) -> dict[str, Any]:
    config, readiness = pool.config, pool.readiness()
    return {
        "name": shown_name(config.name),
        "state": statistics.state if pool.state.value != "closed" else "closed",
        "ready": readiness.ready,
        "reasons": list(readiness.reasons),
        "degraded": list(readiness.degraded),
        "max_workers": config.max_workers,
        "min_workers": config.min_workers,
        "max_queue": config.max_queue,
        "timeout": config.timeout,
        "max_worker_memory": config.max_worker_memory,
        "max_tasks_per_worker": config.max_tasks_per_worker,
    }


def _counts(statistics: PoolStatistics) -> dict[str, Any]:
    names = (
        "submitted", "refused", "retried", "completed", "failed", "cancelled", "timed_out", "lost", "queued", "running",
        "utilisation", "bytes_sent", "bytes_received", "predicted_wait_s",
    )  # fmt: skip
    counts = {name: getattr(statistics, name) for name in names}
    routing = statistics.routing and {**asdict(statistics.routing), "breaker_reason": None}  # it may name machines
    return {
        **counts, "workers": dict(statistics.workers), "restarts": dict(statistics.restarts), "routing": routing,
    }  # fmt: skip


def _worker(worker: WorkerSnapshot) -> dict[str, Any]:
    found = worker.as_dict()
    if worker.task_name is not None:
        found["task_name"] = shown_name(worker.task_name)
    return found


def _blocks(pool: PoolLife) -> list[dict[str, Any]] | None:
    """Return what has blocked the event loop lately; None if nothing watches it."""
    watch = next((hook for hook in pool.hooks if isinstance(hook, LoopWatch)), None)
    if watch is None:
        return None
    return [
        {"t": block.since, "seconds": block.seconds, "place": visible(block.blocking_call.location[-MAX_LOCATION:])}
        for block in list(watch.blocks)[: -MAX_BLOCKS - 1 : -1]
    ]


def _exits(recorder: Recorder) -> list[dict[str, Any]]:
    return [
        {
            "t": t,
            "worker": exit.worker,
            "reason": exit.reason,
            "exitcode": exit.exitcode,
            "signal": exit.signal,
            "completed": exit.completed,
            "start_error": recorder.start_error(exit),
        }
        for t, exit in reversed(recorder.exits)
    ]
