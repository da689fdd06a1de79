"""Jobs for people: a table, and all that is known of one. Text from elsewhere is made visible, and never markup."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from lifepool.cli.jobs.documents import instant
from lifepool.cli.top.quantities import age
from lifepool.dashboard.formatting import clipped, shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from lifepool.jobs.records import Job, JobProgress

    Call = tuple[str, int, str | None, bool]

_MAX_MESSAGE, _MAX_TRACEBACK, _MAX_RESULT = 300, 20_000, 2_000
#: Columns of a name in the table at most, and of the remark at least.
_MAX_NAME, _LEAST_REMARK = 30, 8
_STYLES = {"running": "cyan", "succeeded": "green", "failed": "red", "lost": "magenta", "cancelled": "dim"}


def show_list(jobs: Sequence[Job], counts: Mapping[str, int], more: str | None, console: Console) -> None:
    """Print some jobs, how many there are in all, and how to go on."""
    total = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "no jobs"
    console.print(Text(f"in the store: {total}"))
    if jobs:
        console.print(_table(jobs, console.width))
    if more is not None:
        console.print(Text(f"there are more: add --cursor {more}"))


def _table(jobs: Sequence[Job], width: int) -> Table:
    """Make the table; what does not fit beside the others is cut from the remark, never from the id."""
    now = time.time()
    names, ages = [shown_name(job.name)[:_MAX_NAME] for job in jobs], [age(now - job.created_at) for job in jobs]
    table = Table(box=None, pad_edge=False, header_style="bold")
    used = 0
    for title, least in (("id", 36), ("state", 10), ("name", max(map(len, names))), ("age", max(map(len, ages)))):
        table.add_column(title, no_wrap=True, min_width=least, justify="right" if title == "age" else "left")
        used += max(least, len(title)) + 2
    rest = width - used
    if rest >= _LEAST_REMARK:
        table.add_column("", no_wrap=True, overflow="ellipsis", max_width=rest)
    for job, name, old in zip(jobs, names, ages, strict=True):
        remark = [Text(_remark(job))] if rest >= _LEAST_REMARK else []
        table.add_row(job.id, _state(job), Text(name), old, *remark)
    return table


def show_job(
    job: Job, calls: Sequence[tuple[str, int, str | None, bool]], result: str | None, console: Console
) -> None:
    """Print all that is known of a job."""
    failure, progress = job.failure, job.progress
    facts: list[tuple[str, Any]] = [
        ("id", job.id),
        ("name", shown_name(job.name)),
        ("function", shown_name(job.function)),
        ("state", _state(job)),
        ("progress", None if progress is None else _far(progress)),
        ("attempts", f"{job.attempts} of at most {job.max_attempts}"),
        ("retries", f"{min(job.failures, job.retries)} of {job.retries}"),
        ("accepted", instant(job.created_at)),
        ("not before", instant(job.run_at)),
        ("started", instant(job.started_at)),
        ("ended", instant(job.finished_at)),
        ("deleted", instant(job.expires_at)),
        ("timeout", None if job.timeout is None else f"{job.timeout:g} s for each attempt"),
        ("priority", job.priority or None),
        ("limit key", None if job.limit_key is None else shown_name(job.limit_key)),
        ("idempotency key", None if job.idempotency_key is None else shown_name(job.idempotency_key)),
        ("tags", ", ".join(map(shown_name, job.tags)) or None),
        ("result", None if result is None else clipped(result, _MAX_RESULT)),
        ("why", None if failure is None else _why(failure.reason, failure.type, failure.message)),
        *((f"on_done {number}", _call(call)) for number, call in enumerate(calls, 1)),
    ]
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value is not None:
            table.add_row(name, value if isinstance(value, Text) else Text(str(value)))
    console.print(table)
    if failure is not None and failure.traceback:
        console.print(Text(f"\n{clipped(failure.traceback.strip(), _MAX_TRACEBACK)}"), soft_wrap=True)


def _state(job: Job) -> Text:
    text = "cancelling" if job.cancel_requested and not job.state.is_final else job.state.value
    return Text(text, style=_STYLES.get(job.state.value, ""))


def _remark(job: Job) -> str:
    """Say the one thing about a job that matters most in its state."""
    if job.state == "running" and job.progress is not None:
        return _far(job.progress)
    if job.state == "queued" and job.run_at is not None and job.run_at > time.time():
        return f"starts in {age(job.run_at - time.time())}"
    if job.failure is not None and job.state != "succeeded":
        return _why(job.failure.reason, job.failure.type, job.failure.message).partition("\n")[0]
    return ""


def _far(progress: JobProgress) -> str:
    part = f"{100 * progress.done / progress.total:.0f} %, " if progress.total else ""
    total = "" if progress.total is None else f" of {progress.total:g}"
    unit = "" if progress.unit is None else f" {shown_name(progress.unit)}"
    message = "" if progress.message is None else f": {clipped(progress.message, _MAX_MESSAGE)}"
    return f"{part}{progress.done:g}{total}{unit}{message}"


def _why(reason: str, error: str, message: str) -> str:
    kind = shown_name(error.removeprefix("builtins.")) or reason
    return f"{kind}: {clipped(message, _MAX_MESSAGE)}" if message else kind


def _call(call: Call) -> str:
    target, attempts, failure, is_given_up = call
    state = "given up" if is_given_up else "to be called"
    tried = f" after {attempts} failed attempts: {shown_name(failure or '')}" if attempts else ""
    return f"{shown_name(target)}, {state}{tried}"
