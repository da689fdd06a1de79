"""The circuit breaker of a cluster: whether tasks are sent there, so that none waits for one that is lost.

Theory of operation
    *Closed*: tasks are sent. It opens at once when nothing goes through to the cluster, and after a few failures in a
    row, each a task that was given back unstarted or lost with its node. What a task itself does (raise, crash its
    worker, pass its timeout) is no failure of the cluster.

    *Open*: no task is sent. It stays so for a pause, which doubles from one opening to the next up to a bound, and for
    as long as nothing goes through.

    *Half-open*: one task at a time is sent, as a trial. One that is answered closes the breaker, one that fails opens
    it again. A long trial passes as well once its node would have been missed if it were gone.
"""

from __future__ import annotations

from enum import StrEnum

#: Failures in a row that open the breaker: one node that goes takes a few tasks along, and the others go on.
FAILURES_TO_OPEN = 5
#: Seconds for which it stays open, doubling from the first to the last value: a cluster that comes back is found soon,
#: and one that goes up and down is seldom tried.
PAUSE_FIRST_S, PAUSE_LAST_S = 1.0, 30.0
#: Seconds after which a trial that still runs has passed: a node that is gone is missed sooner.
TRIAL_S = 5.0
#: So many seconds closed, and the next pause is the first again.
CALM_S = 60.0


class BreakerState(StrEnum):
    """The state of a circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitBreaker:
    """Decide whether tasks are sent to a cluster. Times are monotonic seconds, and given to it.

    Attributes:
        state: Where it is.
        reason: Why it last opened; None if it never did.
        unreachable: Why nothing goes through to the cluster; None if all does.
        opened: How often it opened.
    """

    def __init__(self) -> None:
        self.state: BreakerState = BreakerState.CLOSED
        self.reason: str | None = None
        self.unreachable: str | None = None
        self.opened: int = 0
        self._failures = 0  # in a row
        self._pause = PAUSE_FIRST_S
        self._until = 0.0  # while open: the end of the pause
        self._closed_at: float | None = None
        self._trial: int | None = None  # while half-open: the task
        self._trial_since = 0.0

    def allows(self, now: float) -> bool:
        """Return whether a task may be sent now; after a pause this begins to let trials through."""
        if self.state is BreakerState.CLOSED:
            return True
        if self.unreachable is not None or now < self._until:
            return False
        self.state = BreakerState.HALF_OPEN
        if self._trial is not None and now - self._trial_since >= TRIAL_S:
            self._close(now)
            return True
        return self._trial is None

    def sent(self, task: int, now: float) -> None:
        """Note that a task is sent: while half-open it is the trial."""
        if self.state is BreakerState.HALF_OPEN and self._trial is None:
            self._trial, self._trial_since = task, now

    def ended(self, task: int) -> None:
        """Note that a task ended without saying anything of the cluster: if it was the trial, another may be."""
        if task == self._trial:
            self._trial = None

    def answered(self, now: float) -> None:
        """Note that the cluster has answered a task. While open that is an old one, and changes nothing."""
        self._failures = 0
        if self.state is BreakerState.HALF_OPEN:
            self._close(now)

    def failed(self, reason: str, now: float) -> None:
        """Note that the cluster has failed a task."""
        self._failures += 1
        is_trial = self.state is BreakerState.HALF_OPEN
        if is_trial or (self.state is BreakerState.CLOSED and self._failures >= FAILURES_TO_OPEN):
            self._open(reason, now)

    def reach(self, unreachable: str | None, now: float) -> None:
        """Note why nothing goes through to the cluster, or with None that all does."""
        self.unreachable = unreachable
        if unreachable is not None:
            if self.state is BreakerState.OPEN:
                self.reason = unreachable
            else:
                self._open(unreachable, now)

    def _open(self, reason: str, now: float) -> None:
        if self._closed_at is not None and now - self._closed_at >= CALM_S:
            self._pause = PAUSE_FIRST_S
        self.state, self.reason = BreakerState.OPEN, reason
        self.opened += 1
        self._failures, self._trial, self._closed_at = 0, None, None
        self._until = now + self._pause
        self._pause = min(2 * self._pause, PAUSE_LAST_S)

    def _close(self, now: float) -> None:
        self.state = BreakerState.CLOSED
        self._failures, self._trial, self._closed_at = 0, None, now
