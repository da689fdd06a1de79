"""Order statistics of measured samples."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Self


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile: always a value that was really measured.

    Args:
        ordered: samples in rising order, at least one.
        share: between 0 and 1.
    """
    rank = math.ceil(share * len(ordered))
    return ordered[max(0, min(len(ordered), rank) - 1)]


def latency_metrics(seconds: Sequence[float], scale: float) -> dict[str, float]:
    """Return p50, p90, p99 and max of latencies in seconds, multiplied by ``scale``."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: percentile(ordered, share) * scale for name, share in shares.items()}


@dataclass(frozen=True)
class Spread:
    """A median over rounds, with the smallest and the largest round beside it."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Return the spread of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


def ratios_per_round(subject: Mapping[int, float], peer: Mapping[int, float], *, lower_is_better: bool) -> list[float]:
    """Return how many times better the subject was than the peer in each round both have.

    Both ran within seconds of each other in a round, so drift of the machine (other load, clock
    speed) hits both and cancels out; a ratio of two medians over the whole run would keep it.
    """
    shared = [index for index in sorted(subject) if index in peer]
    pairs = [(subject[index], peer[index]) for index in shared]
    if lower_is_better:
        return [theirs / ours for ours, theirs in pairs if ours > 0]
    return [ours / theirs for ours, theirs in pairs if theirs > 0]
