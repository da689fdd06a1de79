"""Compare the installed pools in interleaved rounds, and report."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lifepool.cli.bench.cases import CASES, Case, measure_speed, measure_survival
from lifepool.cli.bench.contenders import CONTENDERS, LIFEPOOL, POOLS
from lifepool.cli.isolation import run_isolated
from lifepool.cli.rounds import rotated
from lifepool.cli.summary import Spread, ratios_per_round
from lifepool.cli.versions import package_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MEASUREMENT_BOUND_S = 60.0
"""For one pool in one round; some seconds on a healthy machine."""
#: What pip calls a package, where that is not the name it is imported by.
PIP_NAMES = {"deadpool": "deadpool-executor"}


@dataclass(frozen=True, slots=True)
class Row:
    """One pool in one case.

    Attributes:
        pool: Its name.
        figure: The medians of the rounds; None if all of them failed.
        ratio: How many times better lifepool was, within each round; None for itself and where one of both failed.
        failures: Why rounds have no figure.
    """

    pool: str
    figure: Spread | None
    ratio: Spread | None
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One case, a row for each pool."""

    case: Case
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Survival:
    """How often one pool went on after the death of a worker; ``detail`` is of the last time."""

    pool: str
    survived: int
    rounds: int
    detail: str


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that was measured.

    Attributes:
        machine: What it was measured on and with.
        rounds: How often.
        workers: In each pool.
        missing: What to install so that all peers take part.
        tables: The speed, by case.
        survivals: What a worker's death does, by pool.
    """

    machine: dict[str, str]
    rounds: int
    workers: int
    missing: tuple[str, ...]
    tables: tuple[Table, ...]
    survivals: tuple[Survival, ...]


@dataclass(slots=True)
class _Samples:
    """What the rounds gave so far: figures by pool and round."""

    figures: dict[str, dict[int, dict[str, float]]] = field(default_factory=dict)
    failures: dict[str, list[str]] = field(default_factory=dict)
    deaths: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def bench(
    *,
    rounds: int = 5,
    workers: int,
    duration: float = 0.4,
    loop: str = "asyncio",
    pools: Sequence[str] = POOLS,
    announce: Callable[[str], None] = lambda text: None,
) -> BenchReport:
    """Measure the pools that are installed.

    Args:
        rounds: How often each is measured.
        workers: In each pool.
        duration: Seconds for each figure.
        loop: ``asyncio`` or ``uvloop``.
        pools: Which; those that are not installed are left out.
        announce: Called with what is measured next.
    """
    chosen = [name for name in pools if _is_installed(name)]
    request = {"workers": workers, "loop": loop, "duration": duration}
    samples = _Samples()
    for index in range(rounds):
        for name in rotated(chosen, index):
            announce(f"round {index + 1} of {rounds}: {name}")
            _measure(samples, {**request, "contender": name}, index)
    return BenchReport(
        machine=_machine(loop),
        rounds=rounds,
        workers=workers,
        missing=tuple(_pip_name(name) for name in pools if name not in chosen),
        tables=tuple(_table(case, chosen, samples) for case in CASES),
        survivals=tuple(_survival(name, samples.deaths[name]) for name in chosen),
    )


def _measure(samples: _Samples, request: dict[str, Any], index: int) -> None:
    name = request["contender"]
    speed = run_isolated(measure_speed, request, MEASUREMENT_BOUND_S)
    if speed.error is None:
        samples.figures.setdefault(name, {})[index] = speed.answer
    else:
        samples.failures.setdefault(name, []).append(speed.error)
    death = run_isolated(measure_survival, request, MEASUREMENT_BOUND_S)
    answer = death.answer or {"survived": False, "detail": (death.error or "").partition("\n")[0]}
    samples.deaths.setdefault(name, []).append(answer)


def _table(case: Case, chosen: Sequence[str], samples: _Samples) -> Table:
    def by_round(name: str) -> dict[int, float]:
        return {index: each[case.name] for index, each in samples.figures.get(name, {}).items()}

    rows = []
    for name in chosen:
        own = by_round(name)
        ratios = ratios_per_round(by_round(LIFEPOOL), own, lower_is_better=case.better == "lower")
        rows.append(
            Row(
                pool=name,
                figure=Spread.of(list(own.values())) if own else None,
                ratio=Spread.of(ratios) if ratios and name != LIFEPOOL else None,
                failures=tuple(samples.failures.get(name, ())),
            )
        )
    return Table(case, tuple(rows))


def _survival(name: str, deaths: Sequence[dict[str, Any]]) -> Survival:
    return Survival(name, sum(each["survived"] for each in deaths), len(deaths), deaths[-1]["detail"])


def _is_installed(name: str) -> bool:
    package = CONTENDERS[name].package
    return package is None or importlib.util.find_spec(package) is not None


def _pip_name(name: str) -> str:
    package = CONTENDERS[name].package or name
    return PIP_NAMES.get(package, package)


def _machine(loop: str) -> dict[str, str]:
    peers = package_versions([_pip_name(name) for name in CONTENDERS if CONTENDERS[name].package])
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.platform(),
        "cpus": str(os.cpu_count()),
        "loop": loop,
        "packages": ", ".join(f"{name} {number}" for name, number in peers.items()),
    }
