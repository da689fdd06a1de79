"""The ratios of earlier runs, and what a new one must not be below.

``results/ratios.json`` holds runs at different times: their range is the noise from one hour to the next. How quickly
two processes wake each other up differs most: on one machine a blocking round trip takes 7 µs at one time and 80 µs at
another, and the ratios differ with it. So a run is compared with those of the same kind alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOLERANCE = 0.15
FEWEST_RUNS = 3  # of a kind, to judge by: fewer say nothing about the noise
MOST_RUNS = 20  # that are kept of each case and kind; the oldest leave first
QUICK = 25e-6  # seconds of a blocking round trip between two processes; below, wake-ups are quick
KEPT = ("date", "commit", "cpu", "cpus", "kernel", "python")
"""What is kept of a run's environment."""


@dataclass(frozen=True)
class Run:
    """One case's ratios, of one run.

    Attributes:
        ratios: how many times faster lifepool was than the standard pool, in each round.
        ping_pong: seconds of a blocking round trip between two processes meanwhile.
    """

    ratios: tuple[float, ...]
    ping_pong: float

    @property
    def ratio(self) -> float:
        """Return the median over the rounds."""
        return median(self.ratios)

    @property
    def wake_ups(self) -> str:
        """Tell whether processes woke each other up quickly, or slowly."""
        return wake_ups_of(self.ping_pong)

    def to_json(self, about: Mapping[str, object]) -> dict[str, object]:
        """Return it for the file."""
        return {
            "ratio": round(self.ratio, 3),
            "low": round(min(self.ratios), 3),
            "high": round(max(self.ratios), 3),
            "rounds": len(self.ratios),
            "ping pong, µs": round(self.ping_pong * 1e6, 1),
            **{key: about[key] for key in KEPT},
        }


def wake_ups_of(ping_pong: float) -> str:
    """Return the kind of a run, by the seconds of its ping-pong."""
    return "quick" if ping_pong < QUICK else "slow"


class Stored:
    """The content of the file.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self._runs: dict[str, list[dict[str, Any]]] = content

    def ratios(self, case: str, wake_ups: str) -> tuple[float, ...]:
        """Return the ratios of a case's earlier runs with such wake-ups."""
        return tuple(run["ratio"] for run in self._runs.get(case, []) if _kind(run) == wake_ups)

    def add(self, case: str, run: Run, about: Mapping[str, object]) -> None:
        """Add a run; the oldest of its kind leaves, if there are many."""
        runs = self._runs.setdefault(case, [])
        runs.append(run.to_json(about))
        alike = [each for each in runs if _kind(each) == run.wake_ups]
        if len(alike) > MOST_RUNS:
            runs.remove(alike[0])

    def write(self) -> None:
        """Write the file."""
        self._path.write_text(json.dumps(self._runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _kind(run: Mapping[str, Any]) -> str:
    return wake_ups_of(run["ping pong, µs"] / 1e6)


def bound(before: Sequence[float]) -> float | None:
    """Return what a ratio must not be below; None if there are too few runs to tell.

    That is 15 % less than the median of the runs before. It is never above the lowest of them: what unchanged code has
    shown is noise.
    """
    if len(before) < FEWEST_RUNS:
        return None
    return min((1 - TOLERANCE) * median(before), *before)
