"""Find what calls cost such that simulated runs cost what the measured ones did."""

from dataclasses import replace
from typing import Any

from benchmarks.scale.demands import MIB, Demand, Demands, cpu_of
from benchmarks.scale.simulation import Outcome, Setup, simulate

PLACES = ("web", "redis", "agent")
CASES = ("one at a time", "no-op", "no-op apart", "sleep")
ALONE, SHARED, APART, SLEEP = CASES
ROUNDS, CALLS = 14, 3000
#: How close the model comes to runs.
RATE_WITHIN, MEDIAN_WITHIN = 0.15, 0.25
#: Runs whose rates it misses, and by how much at most.
MISSED = {("one at a time", 8): 0.35, ("no-op", 2): 0.25}
#: No price of these is taken for less, in seconds: a figure that a run can't tell from another is not nothing.
LEAST_S = 2e-6
#: What the price of company may be, see ``Demands.crowd``.
CROWDS = tuple(each / 200 for each in range(31))
_LARGE, _SMALL = ("payload 1 MiB", 1.0), ("payload 64 KiB", 1 / 16)


def setup_of(runs: dict[str, Any], run: dict[str, Any]) -> Setup:
    """Return what was measured, for the simulation: all on one machine."""
    task_s = runs["sleep_s"] if run["case"] == SLEEP else 0.0
    return Setup(
        nodes=run["nodes"], workers=run["workers"], window=run["window"], task_s=task_s, shares=run["case"] != APART,
        cores=runs["machine"]["cpus"],
    )  # fmt: skip


def fit(runs: dict[str, Any], *, rounds: int = ROUNDS, calls: int = CALLS, begin: Demands | None = None) -> Demands:
    """Take a call's costs from runs.

    Of each place three figures are wanted: for a turn, for a message, and for a call. What a call has cost there is
    known from each run, but not how many turns and messages there were for it: that is taken from simulations with the
    figures so far, until these stay.

    Args:
        runs: What was measured.
        rounds: How often the figures are made better.
        calls: How many are simulated for each run, each time.
        begin: Figures to begin with.
    """
    compared = [run for run in runs["runs"] if run["case"] in CASES]
    demands = begin or _first_guess(runs)
    for _ in range(rounds):
        seen = [simulate(demands, setup_of(runs, run), calls=calls) for run in compared]
        tried = [_all_prices(runs, compared, seen, crowd) for crowd in CROWDS]
        crowd, places = min(tried, key=lambda found: _off(runs, compared, seen, *found))
        demands = replace(
            demands,
            web=places["web"],
            redis=places["redis"],
            agent=places["agent"],
            crowd=crowd,
            wait_s=_better(demands.wait_s, _medians(compared, seen)),
            turnover_s=_better(demands.turnover_s, _turns_of_a_slot(compared, seen)),
        )
    return demands


def _first_guess(runs: dict[str, Any]) -> Demands:
    web, redis, agent = (Demand(0.0, 0.0, cpu_of(runs, place, APART, 1)) for place in PLACES)
    counts = [run["nodes"] for run in runs["runs"] if run["case"] == APART]
    workers = [cpu_of(runs, "worker", "no-op", nodes) for nodes in counts]
    return Demands(
        web=web,
        redis=redis,
        agent=agent,
        worker_s=sum(workers) / len(workers),
        worker_mib_s=_mib(runs, "worker"),
        wait_s=0.0,
        turnover_s=0.0,
        beat_s=runs["beat_s"],
        idle_s=runs["idle_s"],
    )


def _counts(place: str, run: dict[str, Any], outcome: Outcome, crowd: float) -> list[float]:
    """Return what there was for a call: turns, messages and calls; dearer ones count for more."""
    by = 1 + crowd * (run["nodes"] - 1)
    return [by * count for count in (outcome.turns[place], outcome.messages, 1.0)]


def _all_prices(
    runs: dict[str, Any], compared: list[dict[str, Any]], seen: list[Outcome], crowd: float
) -> tuple[float, dict[str, Demand]]:
    """Return the prices with which the runs cost what they did; each run counts by how far off it is in parts."""
    found = {}
    for place in PLACES:
        rows = []
        for run, outcome in zip(compared, seen, strict=True):
            cost = cpu_of(runs, place, run["case"], run["nodes"])
            rows.append([count / cost for count in _counts(place, run, outcome, crowd)])
        least = [LEAST_S, _engine(runs) if place == "agent" else LEAST_S, LEAST_S]
        turn_s, message_s, call_s = least_squares(rows, least)
        found[place] = Demand(turn_s, message_s, call_s, _mib(runs, place))
    return crowd, found


def _off(
    runs: dict[str, Any], compared: list[dict[str, Any]], seen: list[Outcome], crowd: float, places: dict[str, Demand]
) -> float:
    """Return how far off prices are, in all places."""
    total = 0.0
    for place, demand in places.items():
        for run, outcome in zip(compared, seen, strict=True):
            turns, messages, calls = _counts(place, run, outcome, crowd)
            cost = turns * demand.turn_s + messages * demand.message_s + calls * demand.call_s
            total += (cost / cpu_of(runs, place, run["case"], run["nodes"]) - 1) ** 2
    return total


def _engine(runs: dict[str, Any]) -> float:
    """Return what the threads of Celery took for a message at least: no message costs its agent less."""
    seconds: float = min(
        (run["cpu"]["engine"] - run["nodes"] * run["seconds"] * runs["idle_s"]) / run["messages"]["calls"]
        for run in runs["runs"]
        if run["case"] == APART
    )
    return seconds


def least_squares(rows: list[list[float]], least: list[float]) -> list[float]:
    """Return the factors, none below its least, for which the sums of the rows come closest to one."""
    columns = range(len(least))
    products = [[sum(row[i] * row[j] for row in rows) for j in columns] for i in columns]
    wanted = [sum(row[i] for row in rows) for i in columns]
    found = list(least)
    for _ in range(3000):  # one factor after the other; it gets closer each time
        for i in columns:
            others = sum(products[i][j] * found[j] for j in columns if j != i)
            found[i] = max(least[i], (wanted[i] - others) / products[i][i])
    return found


def _mib(runs: dict[str, Any], place: str) -> float:
    (large, most), (small, least) = _LARGE, _SMALL
    return max(0.0, (cpu_of(runs, place, large, 1) - cpu_of(runs, place, small, 1)) / (most - least))


def _better(seconds: float, missing: list[float]) -> float:
    """Return the seconds with what is missing in runs, on the whole."""
    return max(0.0, seconds + sum(missing) / len(missing) / 2)


def _medians(compared: list[dict[str, Any]], seen: list[Outcome]) -> list[float]:
    """Return what the calls of runs lack in which no CPU is full, as a rule."""
    return [
        run["latency"]["p50"] - outcome.quantile(0.5)
        for run, outcome in zip(compared, seen, strict=True)
        if run["case"] == ALONE or (run["case"] == SHARED and run["nodes"] == 1)
    ]


def _turns_of_a_slot(compared: list[dict[str, Any]], seen: list[Outcome]) -> list[float]:
    """Return what slots lack between two calls in the runs with one node, where there are few of them."""
    return [
        run["workers"] * (1 / run["rate"] - 1 / outcome.rate)
        for run, outcome in zip(compared, seen, strict=True)
        if run["case"] in (SLEEP, APART) and run["nodes"] == 1
    ]


def errors(runs: dict[str, Any], demands: Demands, *, calls: int = CALLS) -> list[dict[str, Any]]:
    """Return, for each run, what was measured and what the model says."""
    found = []
    for run in runs["runs"]:
        if run["case"] in CASES:
            seen = simulate(demands, setup_of(runs, run), calls=calls)
            found.append(
                {
                    "case": run["case"],
                    "nodes": run["nodes"],
                    "rate": run["rate"],
                    "model_rate": seen.rate,
                    "p50": run["latency"]["p50"],
                    "model_p50": seen.quantile(0.5),
                    "shared": run["calls"] / run["messages"]["calls"],
                    "model_shared": 1 / seen.messages,
                }
            )
    return found


__all__ = ["MIB", "errors", "fit", "setup_of"]
