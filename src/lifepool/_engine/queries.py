"""What can be asked of an engine, from any thread, while its event loop goes on changing it."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from lifepool._engine.snapshot import look_at, settled_look, snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._core.scheduler import Scheduler
    from lifepool._core.states import PoolState, TaskState
    from lifepool._engine.handle import TaskHandle
    from lifepool._engine.snapshot import Traffic
    from lifepool.backends.base import Backend
    from lifepool.errors import PoolError, WorkerStartError
    from lifepool.hooks import TaskRecord
    from lifepool.statistics import PoolStatistics, WorkerSnapshot


class EngineViews:
    """The engine's side for those who look. Nothing here changes anything."""

    _scheduler: Scheduler
    _backend: Backend
    _handles: dict[int, TaskHandle[Any]]
    _broken: PoolError | None
    _traffic: Traffic
    _clock: Callable[[], float]

    @property
    def state(self) -> PoolState:
        """Where the pool is."""
        return self._scheduler.state

    @property
    def is_broken(self) -> bool:
        """Whether a bug of ours has stopped it for good."""
        return self._broken is not None

    @property
    def crash_loop(self) -> WorkerStartError | None:
        """Why no worker comes up, while that is so."""
        return self._scheduler.crash_loop

    @property
    def has_free_worker(self) -> bool:
        """Whether a task that is submitted now starts at once."""
        return self._scheduler.fleet.free_worker() is not None

    def task_state(self, task: int) -> TaskState | None:
        """Return the state of a task without an outcome."""
        return self._scheduler.task_state(task)

    @property
    def running(self) -> int:
        """Tasks without an outcome that are with a worker."""
        return self._scheduler.running

    @property
    def waiting(self) -> int:
        """Tasks without an outcome that are with no worker."""
        return self._scheduler.waiting

    def statistics(self, state: PoolState) -> PoolStatistics:
        """Look at everything once; ``state`` is the pool's."""
        return settled_look(lambda: snapshot(self._scheduler, state, self._clock(), self._traffic))

    def workers(self, *, memory: bool = True) -> tuple[WorkerSnapshot, ...]:
        """Look at every worker once; without their memory it costs no system call."""
        handles, pid_of, fleet = self._handles, self._backend.pid, self._scheduler.fleet
        return settled_look(
            lambda: tuple(look_at(each, handles, pid_of(each.id), self._clock(), memory=memory) for each in fleet)
        )

    def record_of(self, task: int) -> TaskRecord | None:
        """Return what hooks are told of a task that has no outcome yet; None if none watched when it came."""
        handle = self._handles.get(task)
        return None if handle is None else handle._record

    def oldest_records(self, most: int) -> list[TaskRecord]:
        """Return the records of tasks that have no outcome yet, in the order in which they were submitted."""

        def look() -> list[TaskRecord]:
            records = (handle._record for handle in self._handles.values())
            return list(islice((record for record in records if record is not None), most))

        return settled_look(look)
