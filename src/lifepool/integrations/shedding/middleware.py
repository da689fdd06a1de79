"""The ASGI middleware: it asks the pools and the loop how they are, and admits or refuses each request."""

from __future__ import annotations

import asyncio
import time
from math import inf
from random import random
from typing import TYPE_CHECKING

from lifepool.instrumentation.lag import LagMeter
from lifepool.integrations.request_scope import KEY, serve_watched
from lifepool.integrations.shedding.admitted import AdmittedRequests
from lifepool.integrations.shedding.controller import Controller, pool_wait
from lifepool.integrations.shedding.refusals import Refusals
from lifepool.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lifepool.integrations.asgi import ASGIApp, Receive, Scope, Send
    from lifepool.integrations.shedding.admitted import Arrival

#: Where a server finds the middleware in the state of its lifespan.
STATE_KEY = "lifepool.shedding"
#: Where the middleware finds in a request's scope that the server has had it admitted.
ADMITTED_KEY = "lifepool.admitted"
#: Paths that are always served: who looks whether a server is well must not be refused because it is busy.
EXEMPT = ("/health", "/healthz", "/livez", "/metrics", "/readyz")
#: Seconds between two looks at the loop while there are requests.
BEAT_S = 0.01
#: Seconds for which a look at the pools holds while requests are refused, which changes nothing in them.
FRESH_S = 0.002
#: Seconds without a request after which nothing is looked at any more.
IDLE_S = 2.0


class LoadShedding:
    """ASGI middleware: requests that could not be answered in time are refused, before their bodies are read.

    ``app.add_middleware(LoadShedding, pool=pool)``. Add it last, so that it is the outermost: what it refuses costs no
    other middleware anything. Around the whole app, ``service = LoadShedding(app, pool=pool)``, it costs the framework
    nothing either.

    A request is admitted if it would wait no longer than the pool's ``target_wait`` for a worker and for the event
    loop; in a burst three times as long. Otherwise it is answered 503 at once, with ``Retry-After`` and problem+json.
    Of a burst that is admitted, a few requests begin in each turn of the loop: probes are answered between them. An
    admitted request is not refused half way through. One whose tasks have all waited in vain for ten times the target,
    because workers hang or run times have changed, gets ``QueueFull``. WebSockets are not refused.

    ``pool.statistics().requests`` counts what was decided.

    With ``lifepool.integrations.uvicorn.SheddingProtocol`` as its protocol, the server asks before it makes a request
    of what it has read, which makes refusals cheaper.

    Args:
        app: The app inside.
        pool: The pool that requests use; of several, the longest wait counts.
        exempt: Paths that are always served, besides ``EXEMPT``. One that ends with ``/`` stands for all below it.

    Raises:
        TypeError: If no pool is given, or a path is no text.

    Attributes:
        is_refusing: Whether somebody was refused of late.
    """

    def __init__(self, app: ASGIApp, *, pool: Pool | Sequence[Pool], exempt: Iterable[str] = ()) -> None:
        self.is_refusing: bool = False
        self._app = app
        self._pools = (pool,) if isinstance(pool, Pool) else tuple(pool)
        if not self._pools or not all(isinstance(each, Pool) for each in self._pools):
            raise TypeError("LoadShedding needs a pool: app.add_middleware(LoadShedding, pool=pool)")
        paths = (exempt,) if isinstance(exempt, str) else tuple(exempt)
        if not all(isinstance(path, str) for path in paths):
            raise TypeError(f"exempt={exempt!r}: expected paths, as in exempt=['/static/']")
        self._exempt = frozenset((*EXEMPT, *paths))
        self._exempt_ends = tuple(self._exempt)
        self._exempt_below = tuple(path for path in paths if path.endswith("/"))
        self._target = min(each.config.target_wait for each in self._pools)
        self._controller = Controller(self._target)
        self._requests = AdmittedRequests()
        self._refusals = Refusals()
        self._meter = LagMeter(BEAT_S, kept=0, on_tick=self._beat)
        self._last = 0.0  # when a request came
        self._looked = -inf  # when the pools were asked
        self._found = (0.0, 0.0, 0.0)  # what a newcomer would wait: to begin, for a worker; and how long a task takes
        self._loop: asyncio.AbstractEventLoop | None = None  # while it is looked at
        self._watched: asyncio.AbstractEventLoop | None = None  # the last that was

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse one request."""
        if scope["type"] != "http" or KEY in scope or self._is_exempt(scope):
            if scope["type"] == "lifespan" and "state" in scope:
                scope["state"].setdefault(STATE_KEY, self)
            await self._app(scope, receive, send)
            return
        arrival: Arrival | None = scope.pop(ADMITTED_KEY, None)
        if arrival is None:
            now = time.monotonic()
            retry_after = self.refuse(now)
            if retry_after is not None:
                await self._refusals.answer(scope, receive, send, now, retry_after)
                return
            arrival = self.admit(now)
        self._count("admitted")
        request = self._requests.begin(scope, receive, arrival)
        try:
            await self._requests.turn(request)
            await serve_watched(self._app, request, scope, send)
        finally:
            request.finish()

    def _is_exempt(self, scope: Scope) -> bool:
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path.startswith(root):
            path = path[len(root) :]
        return path in self._exempt or path.startswith(self._exempt_below)

    def may_be_exempt(self, path: str) -> bool:
        """Tell whether a path is always served once some root path, which only the app knows, is taken off it."""
        return path.endswith(self._exempt_ends) or any(below in path for below in self._exempt_below)

    def admit(self, now: float) -> Arrival:
        """Note that a request is admitted that ``refuse`` has not refused, before it is handed to the app."""
        return self._requests.admit(now)

    def refuse(self, now: float) -> int | None:
        """Decide about a request that comes now.

        Args:
            now: The monotonic instant.

        Returns:
            Seconds after which to come again; it is counted as refused. None: it is not.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # the first request, after a pause, or the app was started again
            self._begin(loop)
        self._last = now
        begin, wait, run = self._found if now - self._looked < FRESH_S else self._look(now)
        overdue = max(0.0, now - self._meter.due)
        refusal = self._controller.refusal(now, wait, overdue, run, begin)
        if refusal is None:
            self._looked = -inf
            return None
        self.is_refusing = True
        self._count(refusal)
        return self._controller.retry_after(max(wait, begin), random())  # noqa: S311 - no secret

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at this loop from now on. What was known of another one is no more."""
        if self._watched is not loop:
            self._watched = loop
            self._controller = Controller(self._target)
            self._requests = AdmittedRequests()
            self._refusals = Refusals()
        self._loop = loop
        self._meter.start()

    def _look(self, now: float) -> tuple[float, float, float]:
        """Return how long a newcomer would wait until it begins, and for a worker; and how long a task takes."""
        arriving, wait, run = self._requests.arriving(now), 0.0, 0.0
        for pool in self._pools:
            engine = pool._engine
            if engine is not None:
                load = engine.queries.load()
                wait, run = max(wait, pool_wait(load, arriving)), max(run, load.run_s)
        self._looked, self._found = now, (self._requests.begin_wait(), wait, run)
        return self._found

    def _beat(self, now: float, lag: float) -> None:
        """Look at how long requests wait, and give up those that have waited in vain."""
        begin, wait, run = self._look(now)
        self._controller.observe(now, wait, lag, run, begin)
        self.is_refusing = self._controller.refused_lately(now)
        self._refusals.give_up_late(now)
        if run:
            for _ in range(self._requests.drop(now, self._controller.drop_after(run))):
                self._count("dropped")
        if not self._requests.under_way and now - self._last > IDLE_S and not self._controller.overloaded:
            self._meter.stop()
            self._loop = None

    def _count(self, decision: str) -> None:
        engine = self._pools[0]._engine
        if engine is not None:
            engine.count_request(decision)
