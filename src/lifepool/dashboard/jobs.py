"""The page's view of jobs: what waits, what runs, what has failed and why; cancelling and retrying.

It reads the store that the jobs of this pool are in, so that every server process shows the same. Nothing here imports
``lifepool.jobs`` unless jobs run in the pool.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from typing import TYPE_CHECKING, Any

from lifepool.dashboard import responses as answers
from lifepool.dashboard.formatting import MAX_MESSAGE, MAX_TRACEBACK, clipped, shown_name
from lifepool.errors import PoolError
from lifepool.instrumentation.jobs import JobsHook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lifepool._pool.life import PoolLife
    from lifepool.dashboard.responses import Answer
    from lifepool.jobs.hook import RunningJobs
    from lifepool.jobs.records import Job, JobFailure
    from lifepool.jobs.store.overview import Overview

logger: logging.Logger = logging.getLogger("lifepool")

#: The actions; each with the id of a job.
ACTIONS = ("cancel-job", "retry-job")
#: Seconds that an answer waits for the store.
PATIENCE_S = 3.0
#: Jobs that are named in one group of dead letters, tags of a job, and characters of a tag.
MAX_NAMED, MAX_TAGS, MAX_TAG = 20, 5, 60
#: Of an id: its instant in milliseconds, with which nobody can ask for a job.
_SHORT = 13
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class JobsView:
    """The jobs of a pool, as the page shows them.

    Args:
        pool: The pool.
        texts: Whether messages and tracebacks are shown.
        private: Leave out what may tell of a person: tags.
    """

    def __init__(self, pool: PoolLife, *, texts: bool, private: bool) -> None:
        self._pool = pool
        self._texts = texts
        self._private = private

    @property
    def is_there(self) -> bool:
        """Whether jobs run in the pool."""
        return self._jobs() is not None

    async def document(self, *, may_act: bool) -> Answer:
        """Answer with what is going on.

        Args:
            may_act: Whether whoever asks may cancel and retry. Only then the answer has whole ids: in many apps a job's
                id is all that is needed to get its result.
        """
        found = await self._looked()
        if not isinstance(found, answers.Answer):
            return answers.of_json(self._document(found, may_act=may_act))
        return found

    async def traceback(self, group: str) -> Answer:
        """Answer with the traceback of the last job of a group of dead letters."""
        found = await self._looked()
        if isinstance(found, answers.Answer):
            return found
        failure = next((job.failure for job in found.dead if _group_of(job) == group), None)
        if failure is None or failure.traceback is None or not self._texts:
            return answers.of_problem(404, "there is no traceback, or not any more")
        return answers.of_json({"traceback": clipped(failure.traceback.strip("\n"), MAX_TRACEBACK)})

    async def perform(self, action: str, job_id: str) -> Answer:
        """Cancel or retry a job.

        Args:
            action: One of ``ACTIONS``.
            job_id: The job.
        """
        jobs = self._jobs()
        if jobs is None:
            return _NO_JOBS
        if not _ID.fullmatch(job_id):
            return answers.of_problem(404, "there is no such job")
        logger.info("the live page of pool %r was asked to %s %s", self._pool.config.name, action, job_id)
        try:
            async with asyncio.timeout(PATIENCE_S):
                job = await (jobs.cancel(job_id) if action == "cancel-job" else jobs.retry(job_id))
        except (PoolError, TimeoutError) as error:
            return _problem(error)
        return answers.of_json({"id": job.id, "state": job.state, "cancel_requested": job.cancel_requested})

    # -- inside -------------------------------------------------------------------------------------------------------

    def _jobs(self) -> RunningJobs | None:
        hook = next((hook for hook in self._pool.hooks if isinstance(hook, JobsHook)), None)
        if hook is None:
            return None
        from lifepool.jobs.hook import RunningJobs

        return hook if isinstance(hook, RunningJobs) else None

    async def _looked(self) -> Overview | Answer:
        jobs = self._jobs()
        if jobs is None:
            return _NO_JOBS
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await jobs.overview()
        except (PoolError, TimeoutError) as error:
            return _problem(error)

    def _document(self, found: Overview, *, may_act: bool) -> dict[str, Any]:
        return {
            "now": found.now,
            "counts": dict(found.states),
            "oldest_queued_s": found.oldest_queued_s,
            "queued": [self._queued(job, may_act) for job in found.queued],
            "running": [self._running(job, may_act) for job in found.running],
            "dead": self._groups(found.dead, may_act),
            "dead_looked_at": len(found.dead),
            "actions": list(ACTIONS) if may_act else [],
        }

    def _job(self, job: Job, may_act: bool) -> dict[str, Any]:
        return {
            "id": job.id if may_act else None,
            "short": job.id[:_SHORT],
            "key": _digest(job.id),
            "name": shown_name(job.name),
            "tags": [] if self._private else [shown_name(tag[:MAX_TAG]) for tag in job.tags[:MAX_TAGS]],
            "attempts": job.attempts,
            "max_attempts": job.max_attempts,
            "created": job.created_at,
        }

    def _queued(self, job: Job, may_act: bool) -> dict[str, Any]:
        failure = job.failure
        return {
            **self._job(job, may_act),
            "priority": job.priority,
            "run_at": job.run_at,
            "failure": None if failure is None else _kind_of(failure),
        }

    def _running(self, job: Job, may_act: bool) -> dict[str, Any]:
        progress = job.progress
        shown = None
        if progress is not None:
            message = None if progress.message is None else clipped(progress.message, MAX_MESSAGE)
            unit = None if progress.unit is None else shown_name(progress.unit)
            shown = {"done": progress.done, "total": progress.total, "message": message, "unit": unit}
        return {
            **self._job(job, may_act),
            "started": job.started_at,
            "timeout": job.timeout,
            "progress": shown,
            "cancel_requested": job.cancel_requested,
        }

    def _groups(self, dead: Iterable[Job], may_act: bool) -> list[dict[str, Any]]:
        """Put those together that have failed for the same reason; the first of each is the latest."""
        groups: dict[str, list[Job]] = {}
        for job in dead:
            groups.setdefault(_group_of(job), []).append(job)
        return [self._group(key, jobs, may_act) for key, jobs in groups.items()]

    def _group(self, key: str, jobs: list[Job], may_act: bool) -> dict[str, Any]:
        last = jobs[0]
        failure = last.failure
        texts = self._texts and failure is not None
        return {
            "key": key,
            "state": last.state,
            "name": shown_name(last.name),
            "error": "" if failure is None else _kind_of(failure),
            "message": clipped(failure.message, MAX_MESSAGE) if texts and failure is not None else "",
            "has_traceback": bool(texts and failure is not None and failure.traceback),
            "count": len(jobs),
            "last": last.finished_at,
            "jobs": [{**self._job(job, may_act), "finished": job.finished_at} for job in jobs[:MAX_NAMED]],
        }


_NO_JOBS = answers.of_problem(404, "no jobs run in this pool")


def _problem(error: Exception) -> Answer:
    if isinstance(error, TimeoutError):
        return answers.of_problem(503, "the job store does not answer")
    status = error.status_hint if isinstance(error, PoolError) else 500
    return answers.of_problem(status, clipped(str(error.args[0]), MAX_MESSAGE))


def _kind_of(failure: JobFailure) -> str:
    """Return the class of the exception without its module, or why it did not succeed if there was none."""
    return shown_name(failure.type.rpartition(".")[2] or failure.reason)


def _group_of(job: Job) -> str:
    """Return what jobs that have failed for the same reason have in common, as a short text for an address."""
    failure = job.failure
    parts = (job.state, job.name, *(() if failure is None else (failure.reason, failure.type)))
    return _digest("\0".join(parts))


def _digest(text: str) -> str:
    """Return what tells texts apart and does not tell them."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
