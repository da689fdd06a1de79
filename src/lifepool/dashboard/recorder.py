"""The hook behind the page: it counts each task, keeps a sample of them, and takes a sample of the pool once a second.

What it costs is bounded from all sides. A settled task is a few additions; how many tasks and texts are kept in a
second has a limit; every table has one too. Pages that are open read what is there and add nothing to it.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from lifepool._host.cpus import cpu_budget
from lifepool.dashboard.by_function import Names
from lifepool.dashboard.failures import Failures
from lifepool.dashboard.formatting import MAX_TRACEBACK, arguments_of, clipped
from lifepool.dashboard.task_details import ARGUMENTS, RecentTasks, details_of, under_way
from lifepool.dashboard.time_series import History, Sample
from lifepool.errors import QueueFull
from lifepool.hooks import Hook

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.dashboard.task_details import TaskDetails
    from lifepool.errors import PoolError
    from lifepool.hooks import TaskRecord, WatchedPool, WorkerExit
    from lifepool.statistics import WorkerSnapshot

#: Seconds between two heartbeats. How late one comes is the lag of the event loop: what blocks it for longer is seen.
BEAT_S = 0.1
BEATS_PER_SAMPLE = 10
#: Tasks kept per heartbeat: of any tasks, of those that ran long, of those that failed.
ANY_PER_BEAT, LONG_PER_BEAT, FAILED_PER_BEAT = 4, 8, 4
LONG_S = 0.1
#: Calls per heartbeat whose arguments are written down, where that was asked for.
ARGUMENTS_PER_BEAT = 20
#: Ends of workers that are remembered.
MAX_EXITS = 20
#: Tasks in the list of those that have been there for longest.
MAX_OLDEST = 8
#: Outcomes that are no failure.
_FINE = ("completed", "cancelled")


class Recorder(Hook):
    """Record what one pool does, for its page.

    Args:
        texts: Whether messages and tracebacks of errors are kept.
        private: Leave out what may tell of a person: arguments and ``fair_key``.
        clock: Monotonic seconds.
    """

    def __init__(
        self, *, texts: bool = True, private: bool = True, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._identify()
        self.clock = clock
        self.history: History = History()
        self.names: Names = Names()
        self.failures: Failures = Failures(texts=texts)
        self.recent_tasks: RecentTasks = RecentTasks()
        self.exits: deque[tuple[float, WorkerExit]] = deque(maxlen=MAX_EXITS)
        self.server_processes: int = 1  # that each have such a pool, as far as can be seen
        self.workers: tuple[WorkerSnapshot, ...] = ()
        self.oldest: list[dict[str, Any]] = []
        self.sample: Sample | None = None
        self.private = private
        self.texts = texts
        self._timer: asyncio.TimerHandle | None = None
        self._beats = 0
        self._lag_s = 0.0
        self._refill()

    def _identify(self) -> None:
        """Note what tells this server process from its siblings and its successor."""
        self.instance: str = secrets.token_hex(4)
        self.pid: int = os.getpid()
        self.host: str = socket.gethostname()

    def _refill(self) -> None:
        self._any, self._long, self._failed = ANY_PER_BEAT, LONG_PER_BEAT, FAILED_PER_BEAT
        self._arguments = ARGUMENTS_PER_BEAT

    # -- tasks ----------------------------------------------------------------------------------------------------

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """Count the tasks; keep the details of a few."""
        kept = [task for task in self.names.settled(tasks) if task.outcome in _FINE]
        for task in kept:
            self.names.remember(task.name, self._keep(task))
        for task in tasks:
            if task.outcome not in _FINE:
                self._task_failed(task)
            elif isinstance(task.error, QueueFull):  # one of the first of its function, refused while it waited
                self.task_refused(task, task.error)
            elif self._any > 0:
                if task not in kept:
                    self._any -= 1
                    self._keep(task)
            elif task.run_s is not None and task.run_s > LONG_S and self._long > 0 and task not in kept:
                self._long -= 1
                self._keep(task)

    def _task_failed(self, task: TaskRecord) -> None:
        self.names.failed(task.name)
        failure = self.failures.add(task, task.outcome or "failed", task.error, self.clock())
        if self._failed > 0:
            self._failed -= 1
            self._keep(task, failure.number)

    def _keep(self, task: TaskRecord, failure: int | None = None) -> TaskDetails:
        details = details_of(task, self.history.number + 1, private=self.private, failure=failure)
        self.recent_tasks.add(details)
        return details

    def details(self, task: int) -> TaskDetails | None:
        """Return the details of a task that has its outcome, if they were kept."""
        return self.recent_tasks.find(task) or self.names.find(task)

    def task_refused(self, task: TaskRecord, error: PoolError) -> None:
        """Count a refusal as a failure."""
        self.failures.add(task, "refused", error, self.clock())

    # -- workers and the pool -------------------------------------------------------------------------------------

    def worker_exited(self, exit: WorkerExit) -> None:
        """Keep why a worker has ended."""
        self.exits.append((self.clock(), exit))

    def start_error(self, exit: WorkerExit) -> str | None:
        """Return why a worker could not start, if that may be shown."""
        return clipped(exit.start_error, MAX_TRACEBACK) if self.texts and exit.start_error else None

    def pool_started(self, pool: WatchedPool) -> None:
        """Begin to take a sample of the pool once a second."""
        if self.pid != os.getpid():
            self._identify()  # the app was loaded before its server forked
        self.server_processes = (pool.config.sizing or cpu_budget()).server_processes
        self.recent_tasks.clear()
        self.names.forget_details()
        self.take(pool)
        loop = asyncio.get_running_loop()
        self._stop()
        self._timer = loop.call_later(BEAT_S, self._beat, pool, loop, self.clock() + BEAT_S)

    def pool_closed(self, pool: WatchedPool) -> None:
        """Take a last sample."""
        self._stop()
        self.take(pool)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self, pool: WatchedPool, loop: asyncio.AbstractEventLoop, due: float) -> None:
        now = self.clock()
        self._lag_s = max(self._lag_s, now - due)
        self._refill()
        self._beats += 1
        if self._beats % BEATS_PER_SAMPLE == 0:
            self.take(pool)
        if pool.state.value == "closed":  # without pool_closed: its end was cut short
            self._timer = None
            return
        due = max(due + BEAT_S, now)
        self._timer = loop.call_later(due - now, self._beat, pool, loop, due)

    def take(self, pool: WatchedPool) -> None:
        """Take a sample of the pool: some ten microseconds, and as many for each worker."""
        self.workers = pool.workers()
        self.oldest = [under_way(task) for task in pool.task_records(MAX_OLDEST)]
        busy_s = sum(worker.running_s or 0.0 for worker in self.workers)
        self.sample = Sample(self.clock(), pool.statistics(), busy_s, self._lag_s)
        self.history.add(self.sample)
        self._lag_s = 0.0
        self.failures.refill()


class ArgumentRecorder(Recorder):
    """A recorder that also keeps what tasks were called with, where that was asked for."""

    def task_called(self, task: TaskRecord, args: tuple[Any, ...]) -> None:
        """Keep the arguments of a few calls."""
        if self._arguments > 0:
            self._arguments -= 1
            task.notes[ARGUMENTS] = arguments_of(args)
