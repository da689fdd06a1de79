"""What ``lifepool jobs`` does: each function opens the store, asks or changes, and prints."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from lifepool.cli.jobs import documents, render
from lifepool.cli.jobs.session import WrongUsage, opened
from lifepool.errors import PoolError
from lifepool.jobs.paging import cursor_of, position_of
from lifepool.jobs.records import JobQuery, JobState
from lifepool.jobs.store import calling, reading, settling, submitting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.jobs.records import Job
    from lifepool.jobs.store.drivers import Transaction


def list_jobs(
    store: str | None,
    *,
    states: Sequence[str],
    name: str | None,
    tag: str | None,
    cursor: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Print jobs, the newest first.

    Raises:
        WrongUsage: If an option makes no sense.
        NoStore: If the store can't be used.
    """
    known = ", ".join(JobState)
    for state in states:
        if state not in set(JobState):
            raise WrongUsage(f"{state!r} is no state; there are {known}")
    try:
        before = position_of(cursor)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    query = JobQuery(tuple(map(JobState, states)), name, tag, before, limit)
    with opened(store) as session:
        found = session.run(partial(reading.find, query=query))
        states_found, _ = session.run(reading.counts)
    counts = {state.value: states_found[state] for state in JobState if state in states_found}
    jobs = [job for _, job in found[:limit]]
    more = cursor_of(found[limit - 1][0]) if len(found) > limit else None
    if as_json:
        _print_json({"jobs": [documents.job_document(job) for job in jobs], "next": more, "counts": counts})
    else:
        render.show_list(jobs, counts, more, _console())


def show_job(store: str | None, job_id: str, *, as_json: bool) -> None:
    """Print all that is known of a job.

    Raises:
        NoStore: If the store can't be used.
        JobNotFound: If there is none.
    """
    with opened(store) as session:
        job, frame = session.run(partial(reading.get_with_result, job_id=job_id))
        calls = session.run(partial(calling.calls_of, job=job_id))
    result, why_not = documents.opened(job, frame)
    if as_json:
        names = ("target", "attempts", "failure", "is_given_up")
        more = {
            "result": documents.as_json(result),
            "result_not_shown": why_not,
            "on_done": [dict(zip(names, call, strict=True)) for call in calls],
        }
        _print_json({**documents.job_document(job), **more})
        return
    shown = None if frame is None else repr(result) if why_not is None else f"not shown: {why_not}"
    render.show_job(job, calls, shown, _console())


def cancel(store: str | None, job_ids: Sequence[str], *, as_json: bool) -> bool:
    """Cancel jobs; return whether all were there."""
    return _each(store, job_ids, lambda job_id: partial(settling.cancel, job=job_id), _cancelled, as_json=as_json)


def retry(store: str | None, job_ids: Sequence[str], *, as_json: bool) -> bool:
    """Queue jobs again; return whether all could be."""
    return _each(
        store,
        job_ids,
        lambda job_id: partial(submitting.retry, job_id=job_id),
        lambda _: "queued again",
        as_json=as_json,
    )


def _queued(_: Job) -> str:
    return "queued again"


def _cancelled(job: Job) -> str:
    if job.state is JobState.CANCELLED:
        return "cancelled"
    if not job.state.is_final:
        return "it runs, and is being broken off"
    return f"it had ended already: {job.state}"


def _each(
    store: str | None,
    job_ids: Sequence[str],
    operation: Callable[[str], Callable[[Transaction], Job]],
    said: Callable[[Job], str],
    *,
    as_json: bool,
) -> bool:
    """Do something to each job, one after the other, and say what came of it; go on if one can't be."""
    lines: list[dict[str, Any]] = []
    console, is_well = _console(), True
    with opened(store) as session:
        for job_id in job_ids:
            try:
                job = session.run(operation(job_id))
            except PoolError as error:
                is_well = False
                lines.append({"id": job_id, "error": str(error.args[0])})
            else:
                lines.append({**documents.job_document(job), "error": None, "said": said(job)})
            if not as_json:
                console.print(lines[-1]["error"] or f"{job_id}: {lines[-1]['said']}", markup=False, soft_wrap=True)
    if as_json:
        _print_json([{key: value for key, value in line.items() if key != "said"} for line in lines])
    return is_well


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))  # noqa: T201 - that is the output
