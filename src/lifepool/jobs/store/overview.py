"""What is going on in a store, in one look: for the live page. A bounded number of rows, each query with an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lifepool.jobs.records import DEAD
from lifepool.jobs.store.reading import counts
from lifepool.jobs.store.rows import job_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lifepool.jobs.records import Job
    from lifepool.jobs.store.drivers import Transaction

#: Jobs that are returned of those that wait, of those that run, and of each kind of dead letter.
MOST_QUEUED, MOST_RUNNING, MOST_DEAD = 25, 50, 100


@dataclass(frozen=True, slots=True)
class Overview:
    """A store at one moment.

    Attributes:
        now: The database's clock, in seconds since the epoch.
        states: How many jobs are in each state.
        oldest_queued_s: Seconds for which the oldest job that may start now has been waiting; None if there is none.
        queued: The next to start, first those that may start now.
        running: Those that run, in the order in which they were submitted.
        dead: Those that have failed or were lost, the newest first.
    """

    now: float
    states: Mapping[str, int]
    oldest_queued_s: float | None
    queued: tuple[Job, ...]
    running: tuple[Job, ...]
    dead: tuple[Job, ...]


def overview(transaction: Transaction) -> Overview:
    """Look at a store."""
    states, oldest = counts(transaction)
    queued = _jobs(transaction, "state = 'queued' AND ready = 1 ORDER BY priority DESC, seq", MOST_QUEUED)
    if len(queued) < MOST_QUEUED:
        most = MOST_QUEUED - len(queued)
        queued += _jobs(transaction, "state = 'queued' AND ready = 0 ORDER BY run_at", most)
    running = _jobs(transaction, "state = 'running' ORDER BY seq", MOST_RUNNING)
    dead: list[Job] = []
    for state in DEAD:  # one after the other: each is the end of an index
        dead += _jobs(transaction, "state = ? ORDER BY seq DESC", MOST_DEAD, state.value)
    dead.sort(key=lambda job: job.finished_at or 0.0, reverse=True)
    return Overview(transaction.now(), states, oldest, tuple(queued), tuple(running), tuple(dead))


def _jobs(transaction: Transaction, which: str, most: int, *parameters: Any) -> list[Job]:
    sql = "SELECT {columns} FROM lifepool_jobs WHERE " + which + " LIMIT ?"  # noqa: S608 - they are ours
    return [job_of(row) for row in transaction.rows(sql, *parameters, most)]
