"""Admission: which tasks are let in. Overload is refused at once and with advice, instead of queued without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy, states
from lifepool._core.states import PoolState
from lifepool.errors import PoolClosed, PoolError, QueueFull, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Hashable

    from lifepool._core.decision import DecisionContext
    from lifepool._core.supervisor import Supervisor
    from lifepool._core.task_table import TaskTable

NOT_STARTED_HINT = (
    "start it with install(app, pool), FastAPI(lifespan=pool.lifespan), or 'async with pool:'; "
    "in tests use TestClient as a context manager"
)


class Admission:
    """Say which tasks would be refused. Asking changes nothing, so it can be done before any work is.

    A task with a timeout is admitted if its predicted wait and run time, times a *safety factor*, fit into the timeout.
    The factor is learned from how admitted tasks fare (``learn``). So no model of run times is needed, and the factor
    covers what the prediction can't know: a noisy neighbour, the way to the worker, workers that are being replaced.
    What was learned is forgotten with time, and soon when nobody has to wait.

    Args:
        decision: Shared by all parts of the scheduler.
        table: The tasks that wait or are in preparation.
        supervisor: Whether workers come up.

    Attributes:
        reserved: Positions in the queue that are kept free for calls which wait for room.
    """

    def __init__(self, decision: DecisionContext, table: TaskTable, supervisor: Supervisor) -> None:
        self._decision = decision
        self._limits = decision.limits
        self._queue = table.queue
        self._preparing = table.preparing
        self._supervisor = supervisor
        self._run_times = decision.run_times
        self.reserved = 0
        self._excess = 0.0  # of the safety factor above the least, at the instant when it last changed
        self._changed = 0.0
        self._last_wait = 0.0  # when a task last had to join the queue

    @property
    def safety_factor(self) -> float:
        """Return how many times the predicted wait and run time must fit into a timeout."""
        if not self._excess:
            return policy.SAFETY_FACTOR
        age = self._decision.now - self._changed
        return policy.SAFETY_FACTOR + self._excess * policy.left_after(age, policy.SAFETY_HALF_LIFE_S)

    def learn(self, *, late: bool) -> None:
        """Adapt the safety factor to an admitted task with a timeout.

        Args:
            late: Whether the task waited too long; else it was in time.
        """
        if late or self._excess:
            self._set(policy.next_safety_factor(self.safety_factor, late=late))

    def note_queued(self) -> None:
        """Note that a task has to wait. If no other waited, forget for the calm time since one last had to."""
        now = self._decision.now
        if self._excess and not self._queue.entries:
            calm = policy.left_after(now - self._last_wait, policy.CALM_HALF_LIFE_S)
            self._set(policy.SAFETY_FACTOR + (self.safety_factor - policy.SAFETY_FACTOR) * calm)
        self._last_wait = now

    def _set(self, factor: float) -> None:
        excess = factor - policy.SAFETY_FACTOR
        self._excess = excess if excess > policy.NO_EXCESS else 0.0
        self._changed = self._decision.now

    def predicts(self, name: str) -> bool:
        """Return whether tasks wait, and all run times are known that a prediction for this name rests on."""
        mean, names = self._run_times.mean, self._queue.waiting_by_name
        return bool(names) and mean(name) is not None and all(mean(each) is not None for each in names)

    def refusal(self, timeout: float | None, fair_key: Hashable = None, name: str | None = None) -> PoolError | None:
        """Return why a task would be refused now, or None. This does not count as a refusal.

        Args:
            timeout: The task's timeout in seconds, or None.
            fair_key: The task's key for fairness, or None.
            name: The function's name, if its run time may be known.
        """
        state = self._decision.pool_state
        if state is not states.POOL_RUNNING and state is not PoolState.STARTING:
            return closed_error(state)
        if (crash := self._supervisor.crash_loop) is not None:
            return WorkerStartError(crash.cause, hint=crash.hint)
        queued = len(self._queue.entries) + len(self._preparing) + self.reserved
        if not queued and self._supervisor.fleet.free_worker() is not None:
            return None
        if queued >= self._limits.max_queue:
            return self._full(f"the queue is full ({queued} tasks wait)")
        if fair_key is not None and self._has_its_share(fair_key):
            return self._full(f"{fair_key!r} has its share of the queue already")
        if timeout is not None and queued:
            return self._too_late(timeout, name)
        return None

    def _too_late(self, timeout: float, name: str | None) -> QueueFull | None:
        """Return a refusal if the answer would probably come too late: the work would be done for nobody."""
        wait = self.predicted_wait_s
        run = (name and self._run_times.mean(name)) or 0.0
        missing = self.safety_factor * (wait + run) - timeout
        if missing <= 0:
            return None
        reason = f"with a predicted wait of {wait:.3g} s the timeout of {timeout:g} s would pass"
        return QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, missing))

    def _full(self, reason: str) -> QueueFull:
        # When half the queue has drained there is room for more than one.
        half = self.predicted_wait_s / 2
        return QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, half))

    @property
    def waiting(self) -> int:
        """Return how many tasks have a position in the queue."""
        return len(self._queue.entries) + len(self._preparing)

    @property
    def predicted_wait_s(self) -> float:
        """Return the seconds that a task which joins the queue now would probably wait; 0 if nothing is known yet."""
        names = self._queue.waiting_by_name.items()
        return sum(count * self.expected_run_s(name) for name, count in names) / self.capacity

    def expected_run_s(self, name: str) -> float:
        """Return the seconds that a task of this name probably takes.

        If nothing is known of the name, they are those of a task on average; 0 if nothing is known at all.
        """
        mean = self._run_times.mean(name)
        return mean if mean is not None else self._run_times.overall_s or 0.0

    @property
    def capacity(self) -> int:
        """Return how many tasks run at the same time on the workers that are up, or about to be."""
        return self._supervisor.fleet.slots()

    def _has_its_share(self, key: Hashable) -> bool:
        """Return whether the key has its equal share of the queue; one share is kept free for keys to come."""
        shares = self._queue.keys_waiting + 1
        return self._queue.waiting_of(key) >= max(1, self._limits.max_queue // shares)


def closed_error(state: PoolState) -> PoolClosed:
    """Make the error for a task that comes while the pool does not run."""
    if state is PoolState.CREATED:
        return PoolClosed("the pool was never started", hint=NOT_STARTED_HINT)
    if state is PoolState.DRAINING:
        return PoolClosed("the pool is draining", hint="the server is shutting down: ask another one")
    return PoolClosed("the pool is closed", hint="its lifespan has ended: send tasks before that, or start it again")
