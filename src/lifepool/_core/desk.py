"""What a decision has at hand: the settings, the time, the timers, the counters, and the commands written so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifepool._core.statistics import Tally
from lifepool._core.timers import TimerQueue

if TYPE_CHECKING:
    from lifepool._core.commands import Command
    from lifepool._core.policy import Limits


class Desk:
    """Shared by the scheduler and the supervisor, so that both write to one list of commands, in order.

    Attributes:
        limits: The pool's settings.
        timers: Every deadline there is.
        tally: What happened so far.
        now: The instant of the event that is being decided about.
        out: The commands decided on, in order.
    """

    __slots__ = ("limits", "now", "out", "tally", "timers")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.timers = TimerQueue()
        self.tally = Tally()
        self.now = 0.0
        self.out: list[Command] = []
