"""A result file, read again: values by case, event loop, contender and round."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from lifepool.cli.bench.contenders import LIFEPOOL, LIMIT
from lifepool.cli.summary import Spread, ratios_per_round

RESULTS = Path(__file__).parent / "results"


class Result:
    """One run.

    Args:
        data: the content of its JSON file.
    """

    def __init__(self, data: Mapping[str, Any]) -> None:
        self.environment: dict[str, Any] = data["environment"]
        self.plans: dict[tuple[str, str], dict[str, Any]] = {(p["case"], p["loop"]): p for p in data["plans"]}
        self._samples: list[dict[str, Any]] = data["samples"]

    @classmethod
    def load(cls, name: str, folder: Path = RESULTS) -> Self:
        """Read ``NAME.json``."""
        return cls(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))

    def has(self, case: str, loop: str) -> bool:
        """Tell whether the case was measured on this event loop."""
        return (case, loop) in self.plans

    def leading(self, case: str, loop: str) -> dict[str, str]:
        """Return name, unit and direction of the case's first metric."""
        metric: dict[str, str] = self.plans[case, loop]["metrics"][0]
        return metric

    def contenders(self, case: str, loop: str) -> list[str]:
        """Return the contenders that have a value, in the order of the plan."""
        names: list[str] = self.plans[case, loop]["contenders"] if self.has(case, loop) else []
        return [name for name in names if self.by_round(case, loop, name)]

    def peers(self, case: str, loop: str) -> list[str]:
        """Return the other pools that have a value."""
        return [name for name in self.contenders(case, loop) if name not in (LIFEPOOL, LIMIT)]

    def by_round(self, case: str, loop: str, contender: str, metric: str | None = None) -> dict[int, float]:
        """Return the values of the leading or of another metric."""
        if not self.has(case, loop):
            return {}
        name = metric or self.leading(case, loop)["name"]
        key = (case, loop, contender)
        own = [s for s in self._samples if (s["case"], s["loop"], s["contender"]) == key and not s["error"]]
        return {sample["round"]: sample["metrics"][name] for sample in own}

    def spread(self, case: str, loop: str, contender: str, metric: str | None = None) -> Spread | None:
        """Return the median over the rounds, with the range; None if there is nothing."""
        values = self.by_round(case, loop, contender, metric)
        return Spread.of(list(values.values())) if values else None

    def advantage(self, case: str, loop: str, over: Iterable[str]) -> Spread | None:
        """Return how many times better lifepool is than the best of these in each round."""
        ours = self.by_round(case, loop, LIFEPOOL)
        if not ours:
            return None
        lower = self.leading(case, loop)["better"] == "lower"
        ratios: dict[int, list[float]] = {}
        for peer in over:
            theirs = self.by_round(case, loop, peer)
            for index in sorted(set(ours) & set(theirs)):
                ratio = ratios_per_round({0: ours[index]}, {0: theirs[index]}, lower_is_better=lower)
                ratios.setdefault(index, []).extend(ratio)
        best = [min(values) for values in ratios.values() if values]
        return Spread.of(best) if best else None
