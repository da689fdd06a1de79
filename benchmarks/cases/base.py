"""What a case is: a measurement of one contender, its metrics and its parameters."""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

Parameters = Mapping[str, float]
"""Durations in seconds, sizes in bytes, rates per second, counts."""


@dataclass(frozen=True)
class Metric:
    """One number of a measurement; a case's first metric is the one that ratios are made of."""

    name: str
    unit: str
    better: Literal["lower", "higher"] = "lower"


@dataclass(frozen=True)
class Outcome:
    """One measurement of one contender: a value for each metric, and what explains it."""

    metrics: Mapping[str, float]
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """A question put to every contender in the same way.

    Attributes:
        name: how the case is chosen on the command line.
        title: what is measured, one line for the table.
        metrics: what :attr:`measure` returns, the leading one first.
        contenders: names that :attr:`measure` accepts, in the order of the first round.
        quick_contenders: the few that a smoke run measures.
        measure: runs one contender once, in a fresh process.
        full: parameters of a real run. ``workers`` is always added.
        quick: parameters of a smoke run; its figures mean nothing.
        requires: packages that a contender needs; it is left out where one is not installed.
        loops: whether the kind of event loop matters.
        default: the event loops on which it is part of a run that names no cases; empty: only with ``--full``.
        opt_in: whether it is never run unless it is named: it needs what is not in everybody's environment.
        rounds: of a real run; more where a figure differs much from one process to the next.
        timeout: seconds after which one measurement is ended.
    """

    name: str
    title: str
    metrics: tuple[Metric, ...]
    contenders: tuple[str, ...]
    quick_contenders: tuple[str, ...]
    measure: Callable[[str, Parameters], Coroutine[Any, Any, Outcome]]
    full: Parameters
    quick: Parameters
    requires: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    loops: bool = True
    default: tuple[str, ...] = ()
    opt_in: bool = False
    rounds: int = 5
    timeout: float = 60.0

    def missing(self, contender: str) -> tuple[str, ...]:
        """Return the packages that the contender needs and that are not installed."""
        needed = self.requires.get(contender, ())
        return tuple(package for package in needed if not _is_installed(package))


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a submodule, when its package is not there
        return False


def latency_columns(unit: str) -> tuple[Metric, ...]:
    """Return the metrics that :func:`lifepool.cli.summary.latency_metrics` fills."""
    return tuple(Metric(name, unit) for name in ("p50", "p90", "p99", "max"))
