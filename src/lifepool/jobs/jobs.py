"""``Jobs``: the one class users of jobs meet."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Never, ParamSpec, Self, TypeVar, TypeVarTuple, Unpack, overload

from lifepool._pool.lifespans import own_lifespan
from lifepool._usercode.callables import check_function, refuse_keywords
from lifepool.errors import PayloadTooLarge
from lifepool.jobs import options as opt
from lifepool.jobs.decorated import JobFunction
from lifepool.jobs.errors import JobsNotStarted
from lifepool.jobs.functions import path_of, split_call
from lifepool.jobs.ids import new_id
from lifepool.jobs.paging import cursor_of, position_of
from lifepool.jobs.records import DEAD, Job, JobPage, JobQuery, JobState, NewJob
from lifepool.jobs.rules import SPARE_ATTEMPTS
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.service import Runs, Service, serving
from lifepool.jobs.store.addresses import check_url, make_driver
from lifepool.jobs.values import decode, encode
from lifepool.jobs.webhooks import key_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime
    from types import TracebackType

    from fastapi import Response

    from lifepool.jobs.options import Duration, Target
    from lifepool.jobs.views import JobView
    from lifepool.pool import Pool

logger = logging.getLogger("lifepool")

P = ParamSpec("P")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")

#: Seconds that a job stays after it has ended, unless it says otherwise: a week.
KEEP_S = 7 * 24 * 3600.0
#: Seconds after which another server takes over the jobs of one that gives no sign of life.
LEASE_S = 15.0
#: Seconds after which ``wait`` looks again without having been notified.
LOOK_AGAIN_S = 2.0
#: Bytes from which on signing is done in a thread.
_LARGE = 1 << 20
_MAX_PAGE = 500


#: What a pool's readiness gives as its reasons when its server is to stop.
_ENDING = frozenset({"terminating", "draining", "closed"})


class Jobs:
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
        self.pool = pool
        self._url = check_url(store)
        secret = os.environ.get("LIFEPOOL_SECRET") if secret is None else secret
        self._sealer = Sealer(secret)
        self._webhook_key = key_of(secret) if secret else None
        self._max_running = None if max_running is None else opt.whole("max_running", max_running, least=1)
        self._keep = opt.seconds("keep", keep)
        self._lease = opt.seconds("lease", lease) or LEASE_S
        self._drain_timeout = drain_timeout
        self._service: Service | None = None
        self._stack: AsyncExitStack | None = None
        self._holders = 0
        self._app: Any = None
        self._route: str | None = None

    def __repr__(self) -> str:
        return f"<Jobs {self._url.rpartition('@')[2]!r}>"

    @property
    def webhook_key(self) -> str | None:
        """The key with which receivers check webhooks (``whsec_...``); None if there is no secret."""
        return self._webhook_key

    # -- life ---------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._holders += 1
        if self._holders > 1:
            return self
        try:
            async with AsyncExitStack() as stack:
                if self.pool is not None:
                    await stack.enter_async_context(self.pool)
                self._service = await stack.enter_async_context(self._serving())
                self._stack = stack.pop_all()
        except BaseException:
            self._holders -= 1
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holders -= 1
        stack = self._stack
        if self._holders or stack is None:
            return
        self._stack = None
        try:
            await stack.aclose()
        finally:
            self._service = None

    def lifespan(self, app_or_lifespan: Any, /) -> Any:
        """The life of the jobs and of their pool as an ASGI lifespan: ``FastAPI(lifespan=jobs.lifespan)``.

        Around the app's own: ``FastAPI(lifespan=jobs.lifespan(own))``. Handlers find both as ``request.state.jobs``
        and ``request.state.pool``.

        Raises:
            TypeError: If it is neither an app nor a lifespan function.
        """
        own = own_lifespan(app_or_lifespan)

        @asynccontextmanager
        async def both(app: Any) -> AsyncIterator[dict[str, Any]]:
            self._app = app
            async with AsyncExitStack() as stack:
                state: dict[str, Any] = {}
                if self.pool is not None:
                    state |= await stack.enter_async_context(self.pool.lifespan(app)) or {}
                await stack.enter_async_context(self)
                own_state = None if own is None else await stack.enter_async_context(own(app))
                yield {**state, "jobs": self, **(own_state or {})}

        return both if own is not None else both(app_or_lifespan)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(
        self,
        fn: Callable[[Unpack[Ts]], Any],
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
        fn, args, own_keywords = split_call(fn, args)
        check_function(getattr(fn, "function", fn))
        path, job_id = path_of(fn), new_id()
        encoding, body = encode((args, own_keywords), "args", may_pickle=self._sealer.signs)
        self._check_size(body)
        frame = ("arguments", job_id, path, encoding, body)
        is_large = len(body) > _LARGE
        retries = opt.whole("retries", retries, least=0)
        new = NewJob(
            id=job_id,
            name=opt.text("name", name) or path.partition(":")[2],
            function=path,
            arguments=await asyncio.to_thread(self._sealer.seal, *frame) if is_large else self._sealer.seal(*frame),  # type: ignore[arg-type]
            payload_hash=hashlib.sha256(b"\0".join((path.encode(), encoding.encode(), body))).hexdigest(),
            idempotency_key=opt.text("idempotency_key", idempotency_key),
            timeout=opt.seconds("timeout", timeout),
            retries=retries,
            max_attempts=retries + SPARE_ATTEMPTS
            if max_attempts is None
            else opt.whole("max_attempts", max_attempts, least=1),
            keep=self._keep if keep is None else opt.seconds("keep", keep),
            priority=opt.whole("priority", priority, least=-(2**31)),
            run_at=opt.instant(run_at),
            limit_key=opt.text("limit_key", limit_key),
            limit=opt.whole("limit", limit, least=1),
            tags=opt.texts("tags", tags),
            on_done=opt.targets(on_done, may_sign=self._webhook_key is not None),
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
        return dataclasses.replace(job, result=await self._result(job, frame))

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

    @property
    def is_stopping(self) -> bool:
        """Whether the server is to stop, or the jobs have ended: then answers that last should end."""
        if self._service is None:
            return True
        return self.pool is not None and not _ENDING.isdisjoint(self.pool.readiness().reasons)

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

    def _serving(self) -> AbstractAsyncContextManager[Service]:
        pool, runs = self.pool, None
        if pool is not None:
            drain = pool.config.drain_timeout if self._drain_timeout is None else self._drain_timeout
            runs = Runs(pool, self._max_running or pool.max_workers, self._lease, drain)
        return serving(make_driver(self._url), self._sealer, runs, self._webhook_key)

    def _running(self) -> Service:
        if self._service is None:
            raise JobsNotStarted
        return self._service

    def _location_of(self, job_id: str) -> str:
        """Return the path of a job in the app; where ``job_router`` is by convention, if it can't be found there."""
        if self._app is not None and self._route is not None:
            with suppress(Exception):  # Starlette's NoMatchFound: the router is not in this app
                return f"{self._app.root_path}{self._app.url_path_for(self._route, job_id=job_id)}"
        return f"/jobs/{job_id}"

    def _check_size(self, body: bytes) -> None:
        limit = None if self.pool is None else self.pool.config.max_payload
        if limit is not None and len(body) > limit:
            raise PayloadTooLarge("arguments", len(body), limit)

    async def _result(self, job: Job, frame: bytes) -> Any:
        if len(frame) > _LARGE:
            return await asyncio.to_thread(self._opened, job, frame)
        return self._opened(job, frame)

    def _opened(self, job: Job, frame: bytes) -> Any:
        return decode(*self._sealer.open("result", job.id, job.function, frame))


__all__ = ["Jobs"]
