"""Two backends of one pool: this machine and a cluster. Commands go to the one whose worker they are about.

The cluster's workers have negative numbers (``lifepool._core.routing``). What the cluster reports passes a listener,
which tells the scheduler what it needs to know besides: that nothing goes through, and what was given back unstarted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from lifepool._core.events import ReachChanged, TaskLost, TaskRefused, TasksTaken, WorkerExited, WorkerResized
from lifepool.backends.base import Backend
from lifepool.errors import BackendUnavailable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool._core.events import KeptViews, WorkerLoaded, WorkerLoading
    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.base import Capabilities, Listener, Payload
    from lifepool.backends.remote.functions import RemoteCall
    from lifepool.statistics import ClusterStatistics


class Cluster(Backend, Protocol):
    """A backend that is a cluster."""

    def why_unavailable(self) -> str | None:
        """Say why a call can't be sent now; None if it can."""

    def cluster_statistics(self) -> ClusterStatistics | None:
        """Return one look at it, from any thread; None before it was opened."""


class RoutedBackend:
    """This machine's workers and a cluster.

    Args:
        local: Runs tasks on this machine.
        remote: Runs tasks on a cluster.
        prefers_remote: Whether tasks go to the cluster first.

    Attributes:
        local: As given.
        remote: As given.
        prefers_remote: As given.
        capabilities: What both can do.
    """

    def __init__(self, local: Backend, remote: Cluster, *, prefers_remote: bool) -> None:
        self.local: Backend = local
        self.remote: Cluster = remote
        self.prefers_remote: bool = prefers_remote
        self.capabilities: Capabilities = weaker(local.capabilities, remote.capabilities)

    async def open(self, listener: Listener) -> None:
        """Open both."""
        await self.local.open(listener)
        await self.remote.open(ClusterListener(listener, self.remote))

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Have the workers of both send what they log."""
        self.local.forward_logs(on_record, per_second, level)
        self.remote.forward_logs(on_record, per_second, level)

    def cluster_statistics(self) -> ClusterStatistics | None:
        """Return one look at the cluster, from any thread; None before it was opened."""
        return self.remote.cluster_statistics()

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> Payload | asyncio.Future[Any]:
        """Make a call ready for this machine."""
        return self.local.prepare(fn, args, propagated, lent=lent, copy=copy)

    def prepare_here(self, call: RemoteCall) -> Payload | asyncio.Future[Any]:
        """Make a call that was made ready for the cluster ready for this machine."""
        from lifepool.backends.remote.functions import MovedCall

        return self.local.prepare(MovedCall(call.spec), (call.pickled,), lent=True)

    def _of(self, worker: int) -> Backend:
        return self.remote if worker < 0 else self.local

    def start_worker(self, worker: int) -> None:
        """Start a worker."""
        self._of(worker).start_worker(worker)

    def stop_worker(self, worker: int) -> None:
        """Let a worker exit."""
        self._of(worker).stop_worker(worker)

    def kill_worker(self, worker: int) -> None:
        """End a worker."""
        self._of(worker).kill_worker(worker)

    def send(self, worker: int, task: int, payload: Any) -> None:
        """Give a worker a task."""
        self._of(worker).send(worker, task, payload)

    def retract(self, worker: int) -> tuple[int, ...]:
        """Take back what a worker has not started."""
        return () if worker < 0 else self.local.retract(worker)

    def interrupt(self, worker: int, task: int) -> None:
        """Break off a task."""
        self._of(worker).interrupt(worker, task)

    def pid(self, worker: int) -> int | None:
        """Return a worker's process."""
        return self._of(worker).pid(worker)

    def abandon(self) -> None:
        """End the workers of this machine without the event loop."""
        try:
            self.remote.abandon()
        finally:
            self.local.abandon()

    async def close(self) -> None:
        """Close both, the cluster first."""
        try:
            await self.remote.close()
        finally:
            await self.local.close()


def weaker(one: Capabilities, other: Capabilities) -> Capabilities:
    """Return what both can do; how tasks are taken back, and how the event loop waits, are this machine's own."""
    return replace(
        one,
        kill=one.kill and other.kill,
        interrupt=one.interrupt and other.interrupt,
        progress=one.progress and other.progress,
        crash_isolation=one.crash_isolation and other.crash_isolation,
        views=one.views and other.views,
        logs=one.logs and other.logs,
        remote=True,
    )


class ClusterListener:
    """Pass on what the cluster reports.

    Args:
        listener: The engine.
        cluster: Says whether calls go through.
    """

    def __init__(self, listener: Listener, cluster: Cluster) -> None:
        self._listener = listener
        self._cluster = cluster
        self._unreachable: str | None = None

    def ready(self, worker: int, cpu_share: float | None = None) -> None:
        """Pass it on."""
        self._listener.ready(worker, cpu_share)

    def returned(
        self,
        worker: int,
        task: int,
        value: object,
        error: BaseException | None,
        *,
        run_s: float,
        size: int = 0,
        shared: bool = False,
        memory: int | None = None,
        kept: KeptViews | None = None,
    ) -> None:
        """Tell what was answered from what was given back: that runs elsewhere, unless it may have started."""
        if not isinstance(error, BackendUnavailable) or run_s > 0:
            self._listener.returned(
                worker, task, value, error, run_s=run_s, size=size, shared=shared, memory=memory, kept=kept
            )
        elif error.may_have_started:
            reason = "the connection broke while it was being sent, so it may have run"
            self._listener.feed(TaskLost(worker, task, WorkerExited(worker, reason=reason)))
        else:
            self._listener.feed(TaskRefused(worker, task, error))

    def progressed(self, worker: int, task: int, value: object) -> None:
        """Pass it on."""
        self._listener.progressed(worker, task, value)

    def exited(self, event: WorkerExited) -> None:
        """Pass it on."""
        self._listener.exited(event)

    def feed(
        self, event: WorkerLoading | WorkerLoaded | TaskLost | TasksTaken | TaskRefused | ReachChanged | WorkerResized
    ) -> None:
        """Pass it on. The slots of a cluster change with whether it can be reached: look at that first."""
        if isinstance(event, WorkerResized):
            unreachable = self._cluster.why_unavailable()
            if unreachable != self._unreachable:
                self._unreachable = unreachable
                self._listener.feed(ReachChanged(unreachable))
            if unreachable is not None:
                return  # it has slots without end then, to refuse all: the scheduler does that
        self._listener.feed(event)

    def time_left(self, task: int) -> float | None:
        """Return the seconds until the task's deadline, or None if it has none."""
        return self._listener.time_left(task)

    def forked(self) -> None:
        """Pass it on."""
        self._listener.forked()
