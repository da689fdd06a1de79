"""Operations that only read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lifepool.jobs.errors import JobNotFound
from lifepool.jobs.store.parts import load
from lifepool.jobs.store.rows import job_of

if TYPE_CHECKING:
    from lifepool.jobs.records import Job, JobQuery
    from lifepool.jobs.store.drivers import Transaction


def get(transaction: Transaction, job_id: str) -> Job:
    """Return a job.

    Raises:
        JobNotFound: If there is none.
    """
    row = transaction.row("SELECT {columns} FROM lifepool_jobs WHERE id = ?", job_id)
    if row is None:
        raise JobNotFound(job_id)
    return job_of(row)


def get_with_result(transaction: Transaction, job_id: str) -> tuple[Job, bytes | None]:
    """Return a job and its sealed result, if it has one.

    Raises:
        JobNotFound: If there is none.
    """
    row = transaction.row("SELECT seq, result, {columns} FROM lifepool_jobs WHERE id = ?", job_id)
    if row is None:
        raise JobNotFound(job_id)
    seq, result, *columns = row
    job = job_of(tuple(columns))
    return job, None if job.result_size is None else load(transaction, seq, "result", result)


def result_part(transaction: Transaction, job_id: str, part: int) -> bytes:
    """Return one part of a job's sealed result; all but the last have ``PART_BYTES``.

    Raises:
        JobNotFound: If there is none.
    """
    row = transaction.row("SELECT seq, result FROM lifepool_jobs WHERE id = ?", job_id)
    if row is not None and row[1] is not None and part == 0:
        return bytes(row[1])
    sql = "SELECT data FROM lifepool_job_parts WHERE seq = ? AND role = 'result' AND part = ?"
    found = None if row is None else transaction.row(sql, row[0], part)
    if found is None:
        raise JobNotFound(job_id)
    return bytes(found[0])


def find(transaction: Transaction, query: JobQuery) -> list[tuple[int, Job]]:
    """Return jobs with their sequence numbers, the newest first; one more than asked for, if there is one."""
    conditions: list[str] = ["1 = 1"]
    parameters: list[Any] = []
    if query.states:
        conditions.append("state IN (" + ", ".join("?" * len(query.states)) + ")")
        parameters += [state.value for state in query.states]
    if query.name is not None:
        conditions.append("name = ?")
        parameters.append(query.name)
    if query.tag is not None:
        conditions.append("seq IN (SELECT seq FROM lifepool_job_tags WHERE tag = ?)")
        parameters.append(query.tag)
    if query.before is not None:
        conditions.append("seq < ?")
        parameters.append(query.before)
    where = " AND ".join(conditions)
    sql = "SELECT seq, {columns} FROM lifepool_jobs WHERE " + where + " ORDER BY seq DESC LIMIT ?"  # noqa: S608 - they are ours
    rows = transaction.rows(sql, *parameters, query.limit + 1)
    return [(seq, job_of(tuple(columns))) for seq, *columns in rows]


def counts(transaction: Transaction) -> tuple[dict[str, int], float | None]:
    """Return how many jobs are in each state, and for how many seconds the oldest has been waiting that may start."""
    states = dict(transaction.rows("SELECT state, count(*) FROM lifepool_jobs GROUP BY state"))
    row = transaction.row(
        "SELECT {now} - min(COALESCE(run_at, created_at)) FROM lifepool_jobs WHERE state = 'queued' AND ready = 1",
    )
    return {str(state): int(count) for state, count in states.items()}, None if row is None else row[0]
