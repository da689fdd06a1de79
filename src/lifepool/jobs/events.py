"""Server-sent events: a job's state and progress as they change. A stream ends by itself, so that a server can stop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from lifepool.jobs.errors import JobError
from lifepool.jobs.views import view_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from lifepool.jobs.jobs import Jobs
    from lifepool.jobs.records import Job

#: Seconds between two looks whether the server is to stop; it waits for its streams as long.
STOP_S = 0.5
#: Seconds of silence after which a comment is sent, so that proxies keep the connection.
SILENCE_S = 15.0
#: Seconds that a stream lasts: the client comes again and goes on where it was. The second one is for servers without
#: a pool, which do not know that they are to stop.
LONGEST_S, LONGEST_WITHOUT_POOL_S = 300.0, 10.0
#: Milliseconds after which a client comes again.
RETRY_MS = 1000


async def stream(jobs: Jobs, job_id: str, after: int, *, details: bool) -> AsyncIterator[str]:
    """Yield events from a version of the job on, until it has ended, or the server is to stop.

    Args:
        jobs: They run.
        job_id: The job; it is there.
        after: The last version that the client has seen; its ``Last-Event-ID``.
        details: As for ``view_of``.
    """
    yield f"retry: {RETRY_MS}\n\n"
    changes = jobs.changes(job_id, after=after)
    upcoming = asyncio.ensure_future(anext(changes, None))
    loop = asyncio.get_running_loop()
    ends = loop.time() + (LONGEST_S if jobs.pool is not None else LONGEST_WITHOUT_POOL_S)
    spoke, state = loop.time(), ""
    try:
        while loop.time() < ends and not jobs.is_stopping:
            await asyncio.wait({upcoming}, timeout=STOP_S)
            if upcoming.done():
                job = upcoming.result()
                if job is None or job.version <= after:  # the client has seen the end
                    return
                yield _event(job, is_new_state=job.state != state, details=details)
                if job.state.is_final:
                    return
                spoke, state = loop.time(), job.state
                upcoming = asyncio.ensure_future(anext(changes, None))
            elif loop.time() - spoke > SILENCE_S:
                yield ": still here\n\n"
                spoke = loop.time()
    except JobError:  # it has expired, or the store can't be reached: the client comes again and is answered so
        return
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)
        await changes.aclose()


def _event(job: Job, *, is_new_state: bool, details: bool) -> str:
    name = "state" if is_new_state else "progress"
    return f"id: {job.version}\nevent: {name}\ndata: {view_of(job, details=details).model_dump_json()}\n\n"
