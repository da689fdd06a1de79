"""The decision context: what a decision has at hand.

The limits, the time, the timers, the counters, the learned run times, the recent events, the pool's state, and the
commands so far.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from lifepool._core.commands import SetTimer
from lifepool._core.counters import RunTimes, Tally
from lifepool._core.history import History
from lifepool._core.states import PoolState
from lifepool._core.timers import TimerQueue

if TYPE_CHECKING:
    from lifepool._core.commands import Command
    from lifepool._core.policy import Limits


class DecisionContext:
    """Hold what all parts of the scheduler share, so that they write to one list of commands, in order.

    Attributes:
        limits: The pool's settings.
        timers: Every deadline there is.
        tally: What happened so far.
        run_times: How long functions take.
        gap_s: Seconds from the end of a task until the worker can have its next, at the longest of late.
        history: The recent events.
        pool_state: The state of the pool; only ``PoolStates`` changes it.
        now: The instant of the event that is being decided about.
        out: The commands decided on, in order.
        armed: The instant last asked for by ``SetTimer``, until it has come.
    """

    __slots__ = ("armed", "gap_s", "history", "limits", "now", "out", "pool_state", "run_times", "tally", "timers")

    def __init__(self, limits: Limits) -> None:
        self.limits: Limits = limits
        self.timers: TimerQueue = TimerQueue()
        self.tally: Tally = Tally()
        self.run_times: RunTimes = RunTimes()
        self.gap_s: float = 0.0
        self.history: History = History()
        self.pool_state: PoolState = PoolState.CREATED
        self.now: float = 0.0
        self.out: list[Command] = []
        self.armed: float | None = None

    def arm(self) -> None:
        """Ask for the alarm at the earliest deadline, if that is earlier than the instant asked for before."""
        self.timers.newest = inf
        earliest = self.timers.earliest()
        if earliest is not None and (self.armed is None or earliest < self.armed):
            self.armed = earliest
            self.out.append(SetTimer(earliest))
