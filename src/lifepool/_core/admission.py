"""The door: who is let in. Overload is refused here, at once and with advice, instead of being queued without end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core import policy, states
from lifepool._core.states import PoolState
from lifepool.errors import PoolClosed, PoolError, QueueFull, WorkerStartError

if TYPE_CHECKING:
    from lifepool._core.counters import RunTimes
    from lifepool._core.decision import Desk
    from lifepool._core.queue import TaskQueue
    from lifepool._core.supervisor import Supervisor

NOT_STARTED_HINT = (
    "start it with install(app, pool), FastAPI(lifespan=pool.lifespan), or 'async with pool:'; "
    "in tests use TestClient as a context manager"
)


class Door:
    """Says who would be refused. Asking changes nothing, so it can be done before any work is.

    How much of a timeout the prediction may fill is learned from how the tasks fared that were let in (``learn``): no
    model of run times is needed for that, and what the prediction does not know of (a noisy neighbour, the way to the
    worker, workers that are being replaced) is in it. What was learned is forgotten with time, and soon when nobody has
    to wait.

    Args:
        desk: Shared with the scheduler.
        queue: Who waits.
        held: Tasks that will wait as soon as their payloads are ready; they have their places already.
        supervisor: Whether workers come up.
        run_times: How long tasks take.
    """

    def __init__(
        self,
        desk: Desk,
        queue: TaskQueue,
        held: set[int],
        supervisor: Supervisor,
        run_times: RunTimes,
    ) -> None:
        self._desk = desk
        self._limits = desk.limits
        self._queue = queue
        self._held = held
        self._supervisor = supervisor
        self._run_times = run_times
        self.kept = 0  # places in the queue that are kept for those in line
        self._excess = 0.0  # caution above the least, at the instant when it last changed
        self._changed = 0.0
        self._last_wait = 0.0  # when somebody last had to join the queue

    @property
    def caution(self) -> float:
        """How many times the predicted wait and run time must fit into a timeout."""
        if not self._excess:
            return policy.CAUTION
        age = self._desk.now - self._changed
        return policy.CAUTION + self._excess * policy.left_after(age, policy.CAUTION_HALF_LIFE_S)

    def learn(self, *, late: bool) -> None:
        """A task with a timeout that was let in has been in time, or has waited too long."""
        if late or self._excess:
            self._set(policy.next_caution(self.caution, late=late))

    def joins_queue(self) -> None:
        """Note that a task found no place. If nobody waited before it, the time since somebody last had to was calm."""
        now = self._desk.now
        if self._excess and not self._queue.entries:
            calm = policy.left_after(now - self._last_wait, policy.CALM_HALF_LIFE_S)
            self._set(policy.CAUTION + (self.caution - policy.CAUTION) * calm)
        self._last_wait = now

    def _set(self, caution: float) -> None:
        excess = caution - policy.CAUTION
        self._excess = excess if excess > policy.NO_EXCESS else 0.0
        self._changed = self._desk.now

    def predicts(self, name: str) -> bool:
        """Tell whether somebody waits, and all run times that a prediction for this name rests on are known."""
        mean, names = self._run_times.mean, self._queue.waiting_by_name
        return bool(names) and mean(name) is not None and all(mean(each) is not None for each in names)

    def refusal(
        self, state: PoolState, timeout: float | None, fair_key: str | None, name: str | None
    ) -> PoolError | None:
        """Why a task would be turned away now, or None.

        Args:
            state: The pool's state.
            timeout: The task's timeout in seconds, or None.
            fair_key: The task's key for fairness, or None.
            name: The function's name, if its run time may be known.
        """
        if state is not states.POOL_RUNNING and state is not PoolState.STARTING:
            return _closed(state)
        if (crash := self._supervisor.crash_loop) is not None:
            return WorkerStartError(crash.cause, hint=crash.hint)
        queued = len(self._queue.entries) + len(self._held) + self.kept
        if not queued and self._supervisor.fleet.free_worker() is not None:
            return None
        if queued >= self._limits.max_queue:
            return self._full(f"the queue is full ({queued} tasks wait)")
        if fair_key is not None and self._has_its_share(fair_key):
            return self._full(f"{fair_key!r} has its share of the queue already")
        if timeout is not None and queued:
            return self._hopeless(timeout, name)
        return None

    def _hopeless(self, timeout: float, name: str | None) -> QueueFull | None:
        """A refusal if the answer would probably come too late: then the work would be done for nobody."""
        wait = self.predicted_wait_s
        run = (name and self._run_times.mean(name)) or 0.0
        missing = self.caution * (wait + run) - timeout
        if missing <= 0:
            return None
        reason = f"with a predicted wait of {wait:.3g} s the timeout of {timeout:g} s would pass"
        return QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, missing))

    def _full(self, reason: str) -> QueueFull:
        # When half the queue has drained there is room for more than one.
        half = self.predicted_wait_s / 2
        return QueueFull(reason, retry_after=max(policy.LEAST_RETRY_S, half))

    @property
    def predicted_wait_s(self) -> float:
        """Seconds that a task which joins the queue now would probably wait; 0 if nothing is known yet."""
        names = self._queue.waiting_by_name.items()
        return sum(count * self.expected_run_s(name) for name, count in names) / self.capacity

    def expected_run_s(self, name: str) -> float:
        """Return the seconds that a task of this name probably takes: as others, if nothing is known of it; else 0."""
        mean = self._run_times.mean(name)
        return mean if mean is not None else self._run_times.overall_s or 0.0

    @property
    def capacity(self) -> int:
        """Tasks that run at the same time with the workers that are up, or about to be."""
        return max(1, self._supervisor.fleet.counted()) * self._limits.slots

    def _has_its_share(self, key: str) -> bool:
        """Whether the key holds its equal share of the queue; one share is kept free for keys to come."""
        shares = self._queue.keys_waiting + 1
        return self._queue.waiting_of(key) >= max(1, self._limits.max_queue // shares)


def _closed(state: PoolState) -> PoolClosed:
    if state is PoolState.CREATED:
        return PoolClosed("the pool was never started", hint=NOT_STARTED_HINT)
    if state is PoolState.DRAINING:
        return PoolClosed("the pool is draining", hint="the server is shutting down: ask another one")
    return PoolClosed("the pool is closed", hint="its lifespan has ended: send tasks before that, or start it again")
