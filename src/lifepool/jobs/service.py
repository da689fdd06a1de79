"""What runs while jobs do: the store, the runner, the deliveries, and who is notified of what."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from lifepool.jobs.deliveries import Deliveries
from lifepool.jobs.hook import RunningJobs
from lifepool.jobs.ids import new_id
from lifepool.jobs.runner import Runner, RunningPool
from lifepool.jobs.store.drivers import CALL, STOP, WAKE
from lifepool.jobs.store.store import Store
from lifepool.jobs.watching import Watchers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from lifepool.hooks import Hook
    from lifepool.jobs.sealing import Sealer
    from lifepool.jobs.store.drivers import Driver


class WatchedPool(RunningPool, Protocol):
    """What jobs need of the pool that they run in."""

    def add_hook(self, hook: Hook) -> None:
        """Have one more hook watch it."""

    def remove_hook(self, hook: Hook) -> None:
        """Have a hook watch it no more."""


class Runs(NamedTuple):
    """How jobs run here.

    Attributes:
        pool: Where; it runs.
        most: At a time.
        lease: Seconds after which others take them over.
        drain_timeout: Seconds that they have to finish when the server stops.
    """

    pool: WatchedPool
    most: int
    lease: float
    drain_timeout: float


class Service:
    """One life of the jobs in this process.

    Attributes:
        store: It is open.
        watchers: Those who wait for jobs.
    """

    def __init__(self, driver: Driver) -> None:
        self.watchers: Watchers = Watchers()
        self.store: Store = Store(driver, new_id(), self._pass_on)
        self._runner: Runner | None = None
        self._deliveries: Deliveries | None = None

    @property
    def has_room(self) -> bool:
        """Whether a job could start here now."""
        return self._runner is not None and self._runner.room > 0

    def wake(self) -> None:
        """Look for work."""
        if self._runner is not None:
            self._runner.wake()

    async def start(self, stack: AsyncExitStack, sealer: Sealer, runs: Runs, webhook_key: str | None) -> None:
        """Begin to run jobs; the stack ends that."""
        runner = Runner(runs.pool, self.store, sealer, max_running=runs.most, lease=runs.lease)
        stack.push_async_callback(runner.stop, runs.drain_timeout)
        await runner.start()
        self._runner = runner
        deliveries = Deliveries(runs.pool, self.store, webhook_key)
        stack.push_async_callback(deliveries.stop)
        deliveries.start()
        self._deliveries = deliveries

    def _pass_on(self, message: str) -> None:
        """Pass on what the store, or another server, has to say."""
        if message == WAKE:
            self.wake()
        elif message == CALL:
            if self._deliveries is not None:
                self._deliveries.wake()
        elif message.startswith(STOP):
            if self._runner is not None:
                self._runner.cancel(message.removeprefix(STOP))
        else:
            self.watchers.wake(message)


@contextmanager
def _shown(service: Service, pool: WatchedPool) -> Iterator[None]:
    """Let the pool's metrics and its live page find the jobs."""
    hook = RunningJobs(service.store, service.wake)
    pool.add_hook(hook)
    try:
        yield
    finally:
        with suppress(ValueError):  # it was removed already
            pool.remove_hook(hook)


@asynccontextmanager
async def serving(driver: Driver, sealer: Sealer, runs: Runs | None, webhook_key: str | None) -> AsyncIterator[Service]:
    """Open the store and, with a pool, run its jobs; then end it all.

    Args:
        driver: Of the store.
        sealer: For arguments and results.
        runs: How jobs run here; None: they don't.
        webhook_key: Signs webhooks.
    """
    service = Service(driver)
    async with AsyncExitStack() as stack:
        await service.store.open()
        stack.push_async_callback(service.store.close)
        stack.callback(service.watchers.wake_all)
        if runs is not None:
            stack.enter_context(_shown(service, runs.pool))
            await service.start(stack, sealer, runs, webhook_key)
        yield service
