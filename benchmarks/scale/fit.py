"""Find what calls cost such that simulated runs cost what the measured ones did."""

from typing import Any

from benchmarks.scale.demands import MIB, Demand, Demands, cpu_of, run_of
from benchmarks.scale.simulation import Setup, simulate

PLACES = ("web", "redis", "agent")
CASES = ("one at a time", "no-op", "sleep")
#: What is alone pays for its turns; what is busy shares them.
LIGHT, BUSY = ("one at a time", (2, 4, 8)), ("no-op", 4)
ROUNDS, CALLS = 8, 3000
_LARGE, _SMALL = ("payload 1 MiB", 1.0), ("payload 64 KiB", 1 / 16)


def setup_of(runs: dict[str, Any], run: dict[str, Any]) -> Setup:
    """Return what was measured, for the simulation: all on one machine."""
    task_s = runs["sleep_s"] if run["case"] == "sleep" else 0.0
    cores = runs["machine"]["cpus"]
    return Setup(nodes=run["nodes"], workers=run["workers"], window=run["window"], task_s=task_s, cores=cores)


def fit(runs: dict[str, Any]) -> Demands:
    """Take a call's costs from runs.

    Of each place two figures are wanted, for a turn and for a call. Runs with one call at a time pay two turns for each
    call. Of busy runs it is known what a call has cost, but not among how many the turns were shared: that is taken
    from a simulation with the figures so far, until these stay.
    """
    case, counts = LIGHT
    alone = {place: sum(cpu_of(runs, place, case, nodes) for nodes in counts) / len(counts) for place in PLACES}
    busy = {place: cpu_of(runs, place, *BUSY) for place in PLACES}
    worker_s = cpu_of(runs, "worker", *BUSY)
    alone["agent"] = busy["agent"] = sum(cpu_of(runs, "agent", "no-op", nodes) for nodes in counts) / len(counts)
    took = sum(run_of(runs, case, nodes)["latency"]["p50"] for nodes in counts) / len(counts)
    call = dict(busy)
    turnover_s = 0.0
    for _ in range(ROUNDS):
        turn = {place: max(0.0, alone[place] - call[place]) / 2 for place in PLACES}
        demands = Demands(
            **{place: Demand(turn[place], call[place], _mib(runs, place)) for place in PLACES},
            worker_s=worker_s,
            worker_mib_s=_mib(runs, "worker"),
            wait_s=max(0.0, took - sum(alone.values()) - worker_s),
            turnover_s=turnover_s,
            beat_s=runs["beat_s"],
            idle_s=runs["idle_s"],
        )
        seen = simulate(demands, setup_of(runs, run_of(runs, *BUSY)), calls=CALLS).cpu
        for place in PLACES:
            shared = (seen[place] - call[place]) / turn[place] if turn[place] else 0.0  # turns for each call
            call[place] = max(0.0, (busy[place] - shared * alone[place] / 2) / (1 - min(0.9, shared / 2)))
        turnover_s = _turnover(runs, demands)
    return demands


def _mib(runs: dict[str, Any], place: str) -> float:
    (large, most), (small, least) = _LARGE, _SMALL
    return max(0.0, (cpu_of(runs, place, large, 1) - cpu_of(runs, place, small, 1)) / (most - least))


def _turnover(runs: dict[str, Any], demands: Demands) -> float:
    """Return for how long slots stay empty: what tasks that sleep do not explain."""
    run = run_of(runs, "sleep", 1)
    in_turn = run["workers"] / run["rate"]
    seen = simulate(demands, setup_of(runs, run), calls=300)
    missing: float = in_turn - run["workers"] / seen.rate
    return max(0.0, demands.turnover_s + missing)


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
                }
            )
    return found


__all__ = ["MIB", "errors", "fit", "setup_of"]
