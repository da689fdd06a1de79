"""Operations for what is called when a job has ended: callbacks and webhooks, each until it has worked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.jobs.store.drivers import Transaction

#: Seconds before a call that has failed is tried again, from the first time on; after the last it is given up.
DELAYS_S = (1, 5, 30, 120, 600, 3600, 6 * 3600)


#: Seconds after which a call that was begun, and of which nothing was heard, is made again: longer than any may take.
UNDER_WAY_S = 120.0


@dataclass(frozen=True, slots=True)
class DueCall:
    """A call that this server makes now.

    Attributes:
        seq: Its number.
        job: The job that has ended.
        target: An import path or a URL.
        attempts: How often it has failed.
    """

    seq: int
    job: str
    target: str
    attempts: int


def claim_calls(transaction: Transaction, server: str, room: int) -> tuple[list[DueCall], float | None]:
    """Take calls that are due; return them, and the seconds until the next one is, if there is one."""
    if transaction.row("SELECT 1 FROM lifepool_job_servers WHERE id = ? {for_share}", server) is None:
        return [], None
    rows = transaction.rows(
        """
        SELECT seq, job, target, attempts FROM lifepool_job_calls
        WHERE due <= {now} ORDER BY due LIMIT ? {skip_locked}
        """,
        room,
    )
    for row in rows:
        transaction.run(
            "UPDATE lifepool_job_calls SET owner = ?, due = {now} + ? WHERE seq = ?", server, UNDER_WAY_S, row[0]
        )
    ((wait,),) = transaction.rows("SELECT min(due) - {now} FROM lifepool_job_calls WHERE due IS NOT NULL")
    return [DueCall(*row) for row in rows], None if wait is None else max(0.0, float(wait))


def end_call(transaction: Transaction, server: str, call: DueCall, failure: str | None) -> None:
    """Delete a call that has worked; put off one that has failed, or give it up: it stays, and is due no more."""
    if failure is None:
        transaction.run("DELETE FROM lifepool_job_calls WHERE seq = ?", call.seq)
        return
    delay = DELAYS_S[call.attempts] if call.attempts < len(DELAYS_S) else None
    transaction.run(
        """
        UPDATE lifepool_job_calls SET owner = NULL, attempts = attempts + 1, failure = ?, due = {now} + ?
        WHERE seq = ? AND owner = ?
        """,
        failure,
        delay,
        call.seq,
        server,
    )


def calls_of(transaction: Transaction, job: str) -> list[tuple[str, int, str | None, bool]]:
    """Return what is still to be called for a job: target, failed attempts, last failure, whether it is given up."""
    rows = transaction.rows(
        "SELECT target, attempts, failure, due FROM lifepool_job_calls WHERE job = ? ORDER BY seq", job
    )
    return [(target, attempts, failure, due is None) for target, attempts, failure, due in rows]
