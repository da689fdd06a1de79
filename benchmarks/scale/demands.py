"""What one call costs at each place that it passes, taken from runs."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs.json")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Demand:
    """Seconds of CPU time at one place. What has come together is done together, which saves.

    Attributes:
        turn_s: For each turn, however many calls it is for.
        call_s: For each call.
        mib_s: For each MiB that a call has, and as much of its answer.
    """

    turn_s: float
    call_s: float
    mib_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Demands:
    """What calls cost.

    Attributes:
        web: In their web process, where each takes two turns: it is sent, and answered.
        redis: In Redis, two turns as well: on its way there, and back.
        agent: In the agent of its node: it is taken, and answered. Celery takes one message at a time, so no turn is
            for several calls.
        worker_s: In its worker, besides the function, and in whatever else a node has.
        worker_mib_s: There, for each MiB.
        wait_s: Seconds on its way without any CPU: sockets, wakeups, the network.
        turnover_s: Seconds for which a slot stays empty until its agent asks for the next call.
        beat_s: In the web process, for each announcement of a node.
        idle_s: In an agent, for each second, whatever it does.
    """

    web: Demand
    redis: Demand
    agent: Demand
    worker_s: float
    worker_mib_s: float
    wait_s: float
    turnover_s: float
    beat_s: float
    idle_s: float

    def with_payload(self, mib: float) -> "Demands":
        """Return those of calls that have so many MiB each way."""

        def with_it(demand: Demand) -> Demand:
            return Demand(demand.turn_s, demand.call_s + mib * demand.mib_s)

        worker_s = self.worker_s + mib * self.worker_mib_s
        return replace(
            self, web=with_it(self.web), redis=with_it(self.redis), agent=with_it(self.agent), worker_s=worker_s
        )


def read_runs(path: Path = RUNS) -> dict[str, Any]:
    """Return what was measured."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def run_of(runs: dict[str, Any], case: str, nodes: int) -> dict[str, Any]:
    """Return one run."""
    (found,) = (run for run in runs["runs"] if run["case"] == case and run["nodes"] == nodes)
    measured: dict[str, Any] = found
    return measured


def cpu_of(runs: dict[str, Any], place: str, case: str, nodes: int) -> float:
    """Return the CPU seconds that a call took at a place; what agents take anyway is left out."""
    run = run_of(runs, case, nodes)
    anyway = nodes * runs["idle_s"] * run["seconds"] if place == "agent" else 0.0
    seconds: float = (run["cpu"][place] - anyway) / run["calls"]
    return seconds
