"""A stopwatch for nested stages: each nanosecond belongs to the innermost stage that runs, and to no other.

The stopwatch costs time itself: one part of that is measured within the stage, the other within the stage that calls
it. How the cost is divided is found by timing a function that does nothing (``calibrate``); how large it is, by how
much more time the same work takes with the stopwatch than without (``Overhead.scaled``). It is taken off by
``Stage.net_ns``.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

CALIBRATION_CALLS = 50_000
CALIBRATION_ROUNDS = 7


class Stage:
    """What was measured of one stage.

    Attributes:
        ns: Nanoseconds within it and outside of the stages that it called, the stopwatch's own included.
        calls: How often it was entered.
        children: How often it entered another stage.
    """

    __slots__ = ("calls", "children", "name", "ns")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ns = self.calls = self.children = 0

    def net_ns(self, overhead: Overhead) -> float:
        """Return nanoseconds without the stopwatch's."""
        return self.ns - self.calls * overhead.within - self.children * overhead.around


@dataclass(frozen=True)
class Overhead:
    """Nanoseconds that timing one call adds within its stage, and around it."""

    within: float
    around: float

    def scaled(self, per_call: float) -> Overhead:
        """Return the same division of so many nanoseconds a call."""
        factor = per_call / (self.within + self.around)
        return Overhead(self.within * factor, self.around * factor)


class Stopwatch:
    """Time wrapped functions."""

    def __init__(self) -> None:
        self.stages: dict[str, Stage] = {}
        self.rest = Stage("rest")
        self._current = self.rest
        self._since = perf_counter_ns()

    def stage(self, name: str) -> Stage:
        """Return the stage of this name; made when first asked for."""
        return self.stages.setdefault(name, Stage(name))

    def wrap(self, function: Callable[..., Any], stage: str | Callable[..., str]) -> Callable[..., Any]:
        """Return a function that does the same and is timed.

        Args:
            function: What to time.
            stage: Its stage's name, or what tells that from the positional arguments.
        """
        if isinstance(stage, str):
            return self._wrap(function, self.stage(stage))
        timed: dict[str, Callable[..., Any]] = {}

        def choose(*args: Any, **kwargs: Any) -> Any:
            name = stage(*args)
            if name not in timed:
                timed[name] = self._wrap(function, self.stage(name))
            return timed[name](*args, **kwargs)

        return choose

    def _wrap(self, function: Callable[..., Any], own: Stage) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            outer = self._current
            now = perf_counter_ns()
            outer.ns += now - self._since
            outer.children += 1
            own.calls += 1
            self._current = own
            self._since = now
            try:
                return function(*args, **kwargs)
            finally:
                now = perf_counter_ns()
                own.ns += now - self._since
                self._current = outer
                self._since = now

        return timed

    def restart(self) -> None:
        """Forget what was measured; within whatever stage runs now, the measuring goes on."""
        for stage in (self.rest, *self.stages.values()):
            stage.ns = stage.calls = stage.children = 0
        self._since = perf_counter_ns()

    def stop(self) -> None:
        """Add what has passed since the last change of stages."""
        now = perf_counter_ns()
        self._current.ns += now - self._since
        self._since = now


def calibrate() -> Overhead:
    """Measure what the stopwatch costs: the best of some rounds, since everything that disturbs makes it slower."""
    rounds = [_calibrate_once() for _ in range(CALIBRATION_ROUNDS)]
    return Overhead(min(within for within, _ in rounds), min(around for _, around in rounds))


def _calibrate_once() -> tuple[float, float]:
    def nothing(_a: object, _b: object) -> None:
        pass

    def per_call(function: Callable[[object, object], object] | None) -> float:
        began = perf_counter_ns()
        if function is None:
            for _ in range(CALIBRATION_CALLS):
                pass
        else:
            for _ in range(CALIBRATION_CALLS):
                function(None, None)
        return (perf_counter_ns() - began) / CALIBRATION_CALLS

    looping = per_call(None)
    calling = per_call(nothing) - looping
    watch = Stopwatch()
    timed = watch.wrap(nothing, "nothing")
    watch.restart()
    per_call(timed)
    watch.stop()
    within = watch.stages["nothing"].ns / CALIBRATION_CALLS - calling
    around = watch.rest.ns / CALIBRATION_CALLS - looping
    return within, around
