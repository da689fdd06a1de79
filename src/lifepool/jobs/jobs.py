"""``Jobs``: the one class users of jobs meet."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Never, ParamSpec, TypeVar, TypeVarTuple, overload

from lifepool._usercode.callables import refuse_keywords
from lifepool.jobs import options as opt
from lifepool.jobs.decorated import JobFunction
from lifepool.jobs.errors import WrongJobState
from lifepool.jobs.life import JobsLife
from lifepool.jobs.paging import cursor_of, position_of
from lifepool.jobs.records import DEAD, Job, JobPage, JobQuery, JobState
from lifepool.jobs.results import StoredResult, decoded, open_result
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.store.addresses import check_url
from lifepool.jobs.submission import Submissions
from lifepool.jobs.webhooks import key_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable
    from datetime import datetime

    from fastapi import Response

    from lifepool.jobs.options import Duration, Target
    from lifepool.jobs.views import JobView
    from lifepool.pool import Pool

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Seconds that a job stays after it has ended, unless it says otherwise: a week.
KEEP_S = 7 * 24 * 3600.0
#: Seconds after which another server takes over the jobs of one that gives no sign of life.
LEASE_S = 15.0
#: Seconds after which ``wait`` looks again without having been notified.
LOOK_AGAIN_S = 2.0
_MAX_PAGE = 500


class Jobs(JobsLife):
    """Work that outlives the request, and the server.

    A job is a call of a function that is stored before ``submit`` returns. It runs in the pool of a server that uses
    the same store: at least once, also if that server is killed half-way. Nothing is opened when this is made; it
    starts with the app (``FastAPI(lifespan=jobs.lifespan)``, which starts the pool too) or with ``async with jobs:``.

    Args:
        pool: Where jobs run. It is started and ended with the jobs. None: nothing runs here; jobs can be submitted and
            looked at.
        store: ``"sqlite:///jobs.db"``, ``"postgresql+psycopg://user@host/database"``; ``LIFEPOOL_JOBS_STORE`` if None.
        secret: Signs what is stored, and webhooks; ``LIFEPOOL_SECRET`` if None. With one nothing unsigned is accepted,
            and what JSON can't carry may be pickled.
        max_running: Jobs that run here at a time. None: as many as the pool has workers.
        keep: How long a job stays after it has ended, unless it says otherwise.
        lease: Seconds without a sign of life after which other servers take over the jobs of this one.
        drain_timeout: Seconds that running jobs have to finish when the server stops; they are given back to the queue
            then. None: the pool's.

    Raises:
        ValueError: If an argument or its environment variable makes no sense.
    """

    def __init__(
        self,
        pool: Pool | None,
        *,
        store: str | None = None,
        secret: str | None = None,
        max_running: int | None = None,
        keep: Duration | None = KEEP_S,
        lease: float = LEASE_S,
        drain_timeout: float | None = None,
    ) -> None:
        url = check_url(store)
        secret = os.environ.get("LIFEPOOL_SECRET") if secret is None else secret
        super().__init__(
            pool,
            url=url,
            sealer=Sealer(secret),
            webhook_key=key_of(secret) if secret else None,
            max_running=None if max_running is None else opt.whole("max_running", max_running, least=1),
            lease=opt.seconds("lease", lease) or LEASE_S,
            drain_timeout=drain_timeout,
        )
        max_payload = None if pool is None else pool.config.max_payload
        self._submissions = Submissions(self._sealer, opt.seconds("keep", keep), max_payload, may_sign=bool(secret))
        self._route: str | None = None

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        fn: Callable[[*Ts], Any],
        /,
        *args: *Ts,
        idempotency_key: str | None = None,
        timeout: Duration | None = None,
        retries: int = 0,
        max_attempts: int | None = None,
        keep: Duration | None = None,
        priority: int = 0,
        run_at: datetime | Duration | None = None,
        limit_key: str | None = None,
        limit: int = 1,
        tags: Iterable[str] = (),
        name: str | None = None,
        on_done: Target | Iterable[Target] | None = None,
        **keywords: Never,
    ) -> Job:
        """Store the call ``fn(*args)``; when this returns it is going to run, whatever happens to this server.

        Args:
            fn: A function at the top level of a module; stored by its import path. A ``functools.partial`` may give
                it keywords.
            *args: Its arguments. They are stored as JSON, or as a signed pickle if there is a secret.
            idempotency_key: Of all calls with the same key only the first is stored; the others return its job.
            timeout: Seconds for each attempt; what takes longer is broken off, as a task of the pool. None: no limit.
            retries: How often it runs again after it has raised or timed out, after 1, 2, 4... seconds.
            max_attempts: How often it may be started, also if servers or workers die; ``lost`` after that. None: three
                more than the retries. 1: it never runs twice.
            keep: How long it stays after it has ended. None: as ``Jobs(keep=...)``. ``math.inf``: for ever.
            priority: Higher goes first.
            run_at: Not before: a ``datetime``, a ``timedelta`` from now, or seconds since the epoch.
            limit_key: Of the jobs with the same one only ``limit`` run at a time, on all servers together.
            limit: See ``limit_key``.
            tags: For filters.
            name: What people see. None: the function's name.
            on_done: Called when the job has ended, at least once: functions, import paths, or URLs for a webhook.
            **keywords: None: those of the function go through ``functools.partial``.

        Returns:
            The job as it is stored; ``is_new`` tells whether this call has stored it.

        Raises:
            IdempotencyConflict: If the key was used for another call.
            JobNotStorable: If the function or an argument can't be stored.
            PayloadTooLarge: If the arguments are above the pool's ``max_payload``.
            StoreUnavailable: If the store is locked or can't be reached. If the connection was lost while it was
                stored, the job may be there: submit it again with the same ``idempotency_key``.
            StoreFull: If there is no space left.
            JobsNotStarted: If the jobs do not run.
            ValueError: If an option makes no sense.

        Cancellation:
            It may be stored or not.
        """
        if keywords:
            refuse_keywords("submit", keywords, Jobs.submit)
        service = self._running()
        new = await self._submissions.new_job(
            fn,
            args,
            idempotency_key=idempotency_key,
            timeout=timeout,
            retries=retries,
            max_attempts=max_attempts,
            keep=keep,
            priority=priority,
            run_at=run_at,
            limit_key=limit_key,
            limit=limit,
            tags=tags,
            name=name,
            on_done=on_done,
        )
        job = await service.store.submit(new, wake=not service.has_room)
        service.wake()
        return job

    async def get(self, job_id: str) -> Job:
        """Return a job, with its result if it has succeeded.

        Raises:
            JobNotFound: If there is none.
            JobNotCallable: If its result can't be read here: see the message.
            StoreError: If the store can't be used.
        """
        job, frame = await self._running().store.get_with_result(job_id)
        if frame is None:
            return job
        return dataclasses.replace(job, result=await decoded(job, frame, self._sealer))

    async def open_result(self, job: Job | str) -> StoredResult:
        """Find the stored result of a job that has succeeded, to read it in pieces, whatever its size.

        Args:
            job: The job, or its id.

        Raises:
            JobNotFound: If there is none.
            WrongJobState: If it has not succeeded.
            JobNotCallable: If the result was not signed with this secret, or is of another version.
            StoreError: If the store can't be used.
        """
        store = self._running().store
        job = await store.get(job) if isinstance(job, str) else job
        if job.state is not JobState.SUCCEEDED:
            raise WrongJobState(job.id, job.state, "it has no result")
        return await open_result(store, job, self._sealer)

    async def look(self, job_id: str) -> Job:
        """Return a job without its result, which is quick however large that is.

        Raises:
            JobNotFound: If there is none.
            StoreError: If the store can't be used.
        """
        return await self._running().store.get(job_id)

    async def list(
        self,
        *,
        state: JobState | str | Iterable[JobState | str] | None = None,
        name: str | None = None,
        tag: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> JobPage:
        """Return some of the jobs, the newest first, without their results.

        Args:
            state: In this state, or one of these.
            name: Of this name.
            tag: With this tag.
            cursor: Where to go on: ``next`` of the page before.
            limit: How many at most, up to 500.

        Raises:
            ValueError: If an argument makes no sense.
            StoreError: If the store can't be used.
        """
        states = () if state is None else (state,) if isinstance(state, str) else tuple(state)
        size = min(opt.whole("limit", limit, least=1), _MAX_PAGE)
        query = JobQuery(tuple(map(JobState, states)), name, tag, position_of(cursor), size)
        found = await self._running().store.find(query)
        more = cursor_of(found[size - 1][0]) if len(found) > size else None
        return JobPage(tuple(job for _, job in found[:size]), more)

    async def dead_letters(self, *, cursor: str | None = None, limit: int = 50) -> JobPage:
        """Return jobs that have failed or were lost, the newest first: what somebody has to look at."""
        return await self.list(state=DEAD, cursor=cursor, limit=limit)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: one that waits ends at once; one that runs is broken off, wherever that is; else it stays.

        Returns:
            The job as it is now: ``cancel_requested`` if it still runs.

        Raises:
            JobNotFound: If there is none.
            StoreError: If the store can't be used.
        """
        return await self._running().store.cancel(job_id)

    async def retry(self, job_id: str) -> Job:
        """Queue a job again that has failed, was lost or cancelled; its attempts are counted anew.

        Raises:
            JobNotFound: If there is none.
            WrongJobState: If it has not ended so.
            StoreError: If the store can't be used.
        """
        service = self._running()
        job = await service.store.retry(job_id)
        service.wake()
        return job

    async def wait(self, job_id: str, timeout: Duration | None = None) -> Job:
        """Wait until a job has ended, on whatever server, and return it with its result.

        Raises:
            TimeoutError: If it has not ended within ``timeout`` seconds. It goes on.
            JobNotFound: If there is none.
            JobsNotStarted: If the jobs end here meanwhile.
            StoreError: If the store can't be used.

        Cancellation:
            The job goes on.
        """
        async with asyncio.timeout(opt.seconds("timeout", timeout)):
            async for job in self.changes(job_id):
                if job.state.is_final:
                    break
        return await self.get(job_id)

    async def changes(self, job_id: str, *, after: int = 0) -> AsyncGenerator[Job]:
        """Yield a job without its result whenever it has changed, at first as it is, until it has ended.

        Changes that come faster than they are read are yielded as one.

        Args:
            job_id: The job.
            after: The ``version`` of it that is known already.

        Raises:
            JobNotFound: If there is none, or not any more.
            JobsNotStarted: If the jobs end here meanwhile.
            StoreError: If the store can't be used.
        """
        with self._running().watchers.watch(job_id) as changed:
            while True:
                changed.clear()
                job = await self._running().store.get(job_id)
                if job.version > after or job.state.is_final:
                    after = job.version
                    yield job
                if job.state.is_final:
                    return
                try:
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await changed.wait()
                except TimeoutError:
                    continue

    def accepted(self, job: Job, response: Response) -> JobView:
        """Make the answer to a request that has submitted a job: status 202, ``Location`` and ``Retry-After``.

        ``Location`` is where ``job_router(jobs)`` answers in the app whose lifespan this is.

        Args:
            job: What ``submit`` has returned.
            response: FastAPI's, of which status and headers are set.

        Returns:
            The body.
        """
        from lifepool.jobs.views import view_of

        response.status_code = 202
        response.headers["Location"] = self._location_of(job.id)
        response.headers["Retry-After"] = "1"
        return view_of(job, details=False)

    def locate_with(self, route: str) -> None:
        """Say which route answers for a job, by its name; ``job_router`` does."""
        self._route = route

    async def counts(self) -> tuple[dict[str, int], float | None]:
        """Return how many jobs are in each state, and the age in seconds of the oldest that waits for a worker.

        Raises:
            StoreError: If the store can't be used.
        """
        return await self._running().store.counts()

    @overload
    def job(self, function: Callable[P, T], /) -> JobFunction[P, T]: ...

    @overload
    def job(self, /, **options: Any) -> Callable[[Callable[P, T]], JobFunction[P, T]]: ...

    def job(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Turn a plain function into one that is stored as a job when it is called, and returns that.

        ``@jobs.job`` or ``@jobs.job(retries=2)``; the options are those of ``submit``. The plain function stays
        reachable as ``decorated.function``. Other options for one call: ``decorated.options(tags=["urgent"])(...)``.

        Raises:
            TypeError: If the function is local or async, or an option is unknown.
        """

        def decorate(function: Callable[..., Any]) -> JobFunction[..., Any]:
            return JobFunction(self, function, options)

        return decorate if function is None else decorate(function)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _location_of(self, job_id: str) -> str:
        """Return the path of a job in the app; where ``job_router`` is by convention, if it can't be found there."""
        if self._app is not None and self._route is not None:
            with suppress(Exception):  # Starlette's NoMatchFound: the router is not in this app
                return f"{self._app.root_path}{self._app.url_path_for(self._route, job_id=job_id)}"
        return f"/jobs/{job_id}"


__all__ = ["Jobs"]
