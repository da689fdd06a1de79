"""Call what is to be called when a job has ended: functions by import path, in the pool, and webhooks."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from lifepool.errors import QueueFull
from lifepool.jobs.attempts import failure_of
from lifepool.jobs.calls import JobCall
from lifepool.jobs.errors import JobNotFound
from lifepool.jobs.runner import log_failure
from lifepool.jobs.values import encode
from lifepool.jobs.webhooks import is_url, post

if TYPE_CHECKING:
    from lifepool.jobs.attempts import RunsCalls
    from lifepool.jobs.records import Job
    from lifepool.jobs.store.calling import DueCall
    from lifepool.jobs.store.store import Store

logger: logging.Logger = logging.getLogger("lifepool")

#: Calls that are under way at a time.
_ROOM = 8
#: Seconds that a callback may take.
CALLBACK_S = 60.0
#: What outsiders are given of a failure: no traceback.
_OF_FAILURE = ("reason", "type", "message")
#: Seconds after which it is looked again when the store could not be used.
_AGAIN_S = 2.0


def document_of(job: Job) -> dict[str, Any]:
    """Return what callbacks and webhooks get: plain data, without the result."""
    failure = job.failure
    return {
        "type": f"job.{job.state}",
        "id": job.id,
        "name": job.name,
        "function": job.function,
        "state": str(job.state),
        "attempts": job.attempts,
        "tags": list(job.tags),
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "failure": None if failure is None else {name: getattr(failure, name) for name in _OF_FAILURE},
    }


class Deliveries:
    """Makes the calls of jobs that have ended, each until it has worked or was tried for some hours.

    Args:
        pool: Runs callbacks.
        store: Knows what is due.
        key: Signs webhooks; None if there is no secret.
    """

    def __init__(self, pool: RunsCalls, store: Store, key: str | None) -> None:
        self._pool = pool
        self._store = store
        self._key = key
        self._work = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Look for calls that are due."""
        self._work.set()

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._deliver_all())
        self.wake()

    async def stop(self) -> None:
        """End; what is under way is called again by whoever comes next."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = [task for task in (self._loop, *self._under_way) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver_all(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                room = _ROOM - len(self._under_way)
                calls, wait = await self._store.claim_calls(room) if room else ([], None)
            except Exception as error:
                log_failure("it can't be seen now what is to be called after jobs", error)
                calls, wait = [], _AGAIN_S
            for call in calls:
                task = asyncio.create_task(self._deliver(call))
                self._under_way.add(task)
                task.add_done_callback(self._delivered)
            if wait is not None and len(self._under_way) < _ROOM:
                if self._timer is not None:
                    self._timer.cancel()
                self._timer = asyncio.get_running_loop().call_later(wait, self.wake)

    def _delivered(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self.wake()

    async def _deliver(self, call: DueCall) -> None:
        try:
            failure = await self._call(call)
            if failure is not None:
                logger.warning("%s, to be called after job %s, failed: %s", call.target, call.job, failure)
            await self._store.end_call(call, failure)
        except Exception as error:  # it will be called again
            log_failure(f"that {call.target} was called after job {call.job} can't be stored", error)

    async def _call(self, call: DueCall) -> str | None:
        """Make a call; return what went wrong."""
        try:
            document = document_of(await self._store.get(call.job))
        except JobNotFound:  # it has expired
            return None
        if is_url(call.target):
            if self._key is None:
                return "there is no LIFEPOOL_SECRET to sign it with"
            body = json.dumps(document).encode()
            return await asyncio.to_thread(post, call.target, self._key, f"{call.job}.{document['type']}", body)
        encoding, body = encode(((document,), {}), "the job", may_pickle=False)
        try:
            await self._pool.submit(JobCall(call.target, encoding, body, may_pickle=True), timeout=CALLBACK_S)
        except QueueFull as error:
            return str(error)
        except Exception as error:
            found = failure_of("raised", error)
            return f"{found.type}: {found.message}"[:500]
        return None
