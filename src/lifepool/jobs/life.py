"""Start and end jobs, with an app or without; ``Jobs`` adds what is done with them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from lifepool._pool.lifespans import own_lifespan
from lifepool.jobs.errors import JobsNotStarted
from lifepool.jobs.service import Runs, Service, serving
from lifepool.jobs.store.addresses import make_driver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from lifepool.jobs.sealing import Sealer
    from lifepool.pool import Pool

#: What a pool's readiness gives as its reasons when its server is to stop.
_ENDING = frozenset({"terminating", "draining", "closed"})


class JobsLife:
    """The life of jobs in this process.

    Args:
        pool: Where they run; None: nothing runs here.
        url: Of the store.
        sealer: Signs what is stored.
        webhook_key: Signs webhooks; None if there is no secret.
        max_running: Jobs at a time; None: as many as the pool has workers.
        lease: Seconds without a sign of life after which others take the jobs of this server over.
        drain_timeout: Seconds that running jobs have to finish when the server stops; None: the pool's.
    """

    def __init__(
        self,
        pool: Pool | None,
        *,
        url: str,
        sealer: Sealer,
        webhook_key: str | None,
        max_running: int | None,
        lease: float,
        drain_timeout: float | None,
    ) -> None:
        self.pool = pool
        self._url = url
        self._sealer = sealer
        self._webhook_key = webhook_key
        self._max_running = max_running
        self._lease = lease
        self._drain_timeout = drain_timeout
        self._service: Service | None = None
        self._stack: AsyncExitStack | None = None
        self._holders = 0
        self._changing = asyncio.Lock()  # who comes second waits until the start, or the end, is done
        self._app: Any = None

    def __repr__(self) -> str:
        return f"<Jobs {self._url.rpartition('@')[2]!r}>"

    @property
    def webhook_key(self) -> str | None:
        """The key with which receivers check webhooks (``whsec_...``); None if there is no secret."""
        return self._webhook_key

    @property
    def is_stopping(self) -> bool:
        """Whether the server is to stop, or the jobs have ended: then answers that last should end."""
        if self._service is None:
            return True
        return self.pool is not None and not _ENDING.isdisjoint(self.pool.readiness().reasons)

    async def __aenter__(self) -> Self:
        async with self._changing:
            if self._stack is None:
                async with AsyncExitStack() as stack:
                    if self.pool is not None:
                        await stack.enter_async_context(self.pool)
                    self._service = await stack.enter_async_context(self._serving(self.pool))
                    self._stack = stack.pop_all()
            self._holders += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._holders -= 1
        async with self._changing:
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

    # -- inside -------------------------------------------------------------------------------------------------------

    def _serving(self, pool: Pool | None) -> AbstractAsyncContextManager[Service]:
        runs = None
        if pool is not None:
            drain = pool.config.drain_timeout if self._drain_timeout is None else self._drain_timeout
            runs = Runs(pool, self._max_running or pool.max_workers, self._lease, drain)
        return serving(make_driver(self._url), self._sealer, runs, self._webhook_key)

    def _running(self) -> Service:
        if self._service is None:
            raise JobsNotStarted
        return self._service
