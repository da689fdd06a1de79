"""Operations by which a server takes jobs, keeps them, and takes over those of a dead one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool.jobs.records import ClaimedJob, JobFailure
from lifepool.jobs.rules import Ending, Outcome
from lifepool.jobs.store.parts import load
from lifepool.jobs.store.settling import end_attempt

if TYPE_CHECKING:
    from lifepool.jobs.store.drivers import Transaction

#: Expired jobs that are deleted at a time.
_MOST_EXPIRED = 500

#: Seconds after which it is looked again for jobs whose ``limit_key`` another server has just looked at.
_CONTENDED_S = 0.05

_SERVER_LOST = JobFailure("server-lost", "", "the server that ran it died, or stood still for longer than its lease")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a server gets.

    Attributes:
        jobs: They are its own now.
        wait: Seconds after which another look makes sense, because a delayed job is due then; None: there is none.
        again: Whether another look makes sense at once: places stayed free because of limits.
    """

    jobs: tuple[ClaimedJob, ...]
    wait: float | None
    again: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """What a server learns when it renews its lease.

    Attributes:
        owned: The token of each job that the store says it runs.
        cancelled: Those of them that are to stop.
        requeued: How many jobs of dead servers were taken over.
    """

    owned: dict[str, int]
    cancelled: frozenset[str]
    requeued: int


def register(transaction: Transaction, server: str, lease: float) -> None:
    """Enter a server."""
    transaction.run(
        "INSERT INTO lifepool_job_servers (id, lease_until) VALUES (?, {now} + ?) ON CONFLICT DO NOTHING",
        server,
        lease,
    )


def unregister(transaction: Transaction, server: str) -> None:
    """Take a server out; what it still has goes back into the queue, uncounted."""
    transaction.run("DELETE FROM lifepool_job_servers WHERE id = ?", server)
    rows = transaction.rows("SELECT id FROM lifepool_jobs WHERE state = 'running' AND owner = ?", server)
    for (job,) in rows:
        end_attempt(transaction, job, Outcome(Ending.RELEASED))
    transaction.run("UPDATE lifepool_job_calls SET owner = NULL, due = {now} WHERE owner = ?", server)
    transaction.wake()  # limits that its jobs have filled are free as well


def claim(transaction: Transaction, server: str, room: int) -> Claim | None:
    """Take up to ``room`` jobs, of the highest priority and then the oldest.

    Returns:
        What it gets; None if its lease has ended: another server has taken it out, and its jobs over.
    """
    if transaction.row("SELECT 1 FROM lifepool_job_servers WHERE id = ? {for_share}", server) is None:
        return None
    transaction.run(
        "UPDATE lifepool_jobs SET ready = 1 WHERE state = 'queued' AND ready = 0 AND run_at <= {now}",
    )
    candidates = transaction.rows(
        """
        SELECT seq, limit_key, max_of_key FROM lifepool_jobs AS job
        WHERE state = 'queued' AND ready = 1 AND (limit_key IS NULL OR max_of_key > (
            SELECT count(*) FROM lifepool_jobs AS other
            WHERE other.state = 'running' AND other.limit_key = job.limit_key
        ))
        ORDER BY priority DESC, seq LIMIT ? {skip_locked}
        """,
        room,
    )
    chosen, is_contended = _within_limits(transaction, candidates)
    jobs = [_started(transaction, server, seq) for seq in chosen]
    if len(candidates) == room and _is_any_ready(transaction):
        transaction.wake()
    ((due,),) = transaction.rows("SELECT min(run_at) - {now} FROM lifepool_jobs WHERE state = 'queued' AND ready = 0")
    waits = [] if due is None else [max(0.0, float(due))]
    if is_contended:
        waits.append(_CONTENDED_S)
    again = bool(jobs) and len(jobs) < len(candidates)
    return Claim(tuple(jobs), min(waits, default=None), again)


def _within_limits(transaction: Transaction, candidates: list[tuple[Any, ...]]) -> tuple[list[int], bool]:
    """Leave out those whose ``limit_key`` has enough running, with those that are chosen before them.

    Returns:
        The others, and whether some were left out only because another server looks at their key just now.
    """
    running: dict[str, int | None] = {}
    chosen = []
    for seq, key, limit in candidates:
        if key is not None:
            if key not in running:
                running[key] = _running_of(transaction, key)
            count = running[key]
            if count is None or count >= limit:
                continue
            running[key] = count + 1
        chosen.append(seq)
    return chosen, None in running.values()


def _running_of(transaction: Transaction, key: str) -> int | None:
    """Return how many jobs with this key run; None if another server looks at them just now."""
    if not transaction.driver.try_lock_key(transaction, key):
        return None
    row = transaction.row("SELECT count(*) FROM lifepool_jobs WHERE state = 'running' AND limit_key = ?", key)
    return 0 if row is None else int(row[0])


def _started(transaction: Transaction, server: str, seq: int) -> ClaimedJob:
    (row,) = transaction.rows(
        """
        UPDATE lifepool_jobs
        SET state = 'running', owner = ?, token = token + 1, attempts = attempts + 1, started_at = {now},
            progress = NULL, version = version + 1
        WHERE seq = ? RETURNING id, token, name, function, timeout, attempts, arguments
        """,
        server,
        seq,
    )
    job, token, name, function, timeout, attempt, arguments = row
    transaction.changed(job)
    return ClaimedJob(job, token, name, function, timeout, attempt, load(transaction, seq, "arguments", arguments))


def _is_any_ready(transaction: Transaction) -> bool:
    return transaction.row("SELECT 1 FROM lifepool_jobs WHERE state = 'queued' AND ready = 1 LIMIT 1") is not None


def renew(transaction: Transaction, server: str, lease: float) -> Renewal | None:
    """Renew the lease, take over what dead servers have left, and delete what has expired.

    Returns:
        What it learns; None if its lease has ended: another server has taken it out, and its jobs over.
    """
    kept = transaction.run("UPDATE lifepool_job_servers SET lease_until = {now} + ? WHERE id = ?", lease, server)
    if not kept:
        return None
    requeued = _take_over(transaction, server)
    _expire(transaction)
    rows = transaction.rows(
        "SELECT id, token, cancel_requested FROM lifepool_jobs WHERE state = 'running' AND owner = ?", server
    )
    owned = {job: token for job, token, _ in rows}
    return Renewal(owned, frozenset(job for job, _, cancelled in rows if cancelled), requeued)


def _take_over(transaction: Transaction, server: str) -> int:
    others = [row[0] for row in transaction.rows("SELECT id FROM lifepool_job_servers WHERE id <> ?", server)]
    for dead in transaction.driver.dead(others):
        transaction.run("DELETE FROM lifepool_job_servers WHERE id = ?", dead)
    transaction.run("DELETE FROM lifepool_job_servers WHERE lease_until < {now}")
    orphans = transaction.rows(
        """
        SELECT id FROM lifepool_jobs WHERE state = 'running'
        AND owner NOT IN (SELECT id FROM lifepool_job_servers) {skip_locked}
        """
    )
    for (job,) in orphans:
        end_attempt(transaction, job, Outcome(Ending.CRASHED, failure=_SERVER_LOST))
    transaction.run(
        """
        UPDATE lifepool_job_calls SET owner = NULL, due = {now}
        WHERE owner IS NOT NULL AND owner NOT IN (SELECT id FROM lifepool_job_servers)
        """
    )
    if orphans:
        transaction.wake()
    return len(orphans)


def _expire(transaction: Transaction) -> None:
    rows = transaction.rows(
        "SELECT seq, id FROM lifepool_jobs WHERE expires_at < {now} LIMIT ? {skip_locked}", _MOST_EXPIRED
    )
    for seq, job in rows:
        transaction.run("DELETE FROM lifepool_job_tags WHERE seq = ?", seq)
        transaction.run("DELETE FROM lifepool_job_parts WHERE seq = ?", seq)
        transaction.run("DELETE FROM lifepool_job_calls WHERE job = ?", job)
        transaction.run("DELETE FROM lifepool_jobs WHERE seq = ?", seq)
    if rows:
        transaction.driver.shrink(transaction)


def report(transaction: Transaction, server: str, reports: dict[str, str]) -> None:
    """Store the progress of running jobs."""
    for job, progress in reports.items():
        count = transaction.run(
            """
            UPDATE lifepool_jobs SET progress = ?, version = version + 1
            WHERE id = ? AND owner = ? AND state = 'running'
            """,
            progress,
            job,
            server,
        )
        if count:
            transaction.changed(job)
