"""What one call costs at each place that it passes, taken from runs."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

RUNS = Path(__file__).with_name("runs.json")
PRICES = Path(__file__).with_name("prices.json")
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Demand:
    """Seconds of CPU time at one place. What has come together is done together, which saves.

    Attributes:
        turn_s: For each turn, however many calls it is for.
        message_s: For each message, however many calls share it.
        call_s: For each call.
        mib_s: For each MiB that a call has, and as much of its answer.
    """

    turn_s: float
    message_s: float
    call_s: float
    mib_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Demands:
    """What calls cost.

    Attributes:
        web: In their web process, where each takes two turns, if it is alone: it is sent, and answered.
        redis: In Redis, three turns: on its way there, claimed by its node, and on its way back.
        agent: In the agent of its node, three turns as well: its message is taken, it was claimed, and it is answered.
            Half of the price of a message comes after its answers.
        worker_s: In its worker, besides the function, and in whatever else a node has.
        worker_mib_s: There, for each MiB.
        wait_s: Seconds on its way without any CPU: sockets, wakeups, the network.
        turnover_s: Seconds for which a slot stays empty until its agent asks for the next call.
        beat_s: In the web process, for each announcement of a node.
        idle_s: In an agent, for each second, whatever it does.
        crowd: The part by which each further agent on the same CPUs makes all of them slower: they share caches.
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
    crowd: float = 0.0

    def in_a_crowd(self, nodes: int) -> "Demands":
        """Return those of so many nodes that share the CPUs of one machine."""
        by = 1 + self.crowd * (nodes - 1)

        def dearer(demand: Demand) -> Demand:
            return Demand(demand.turn_s * by, demand.message_s * by, demand.call_s * by, demand.mib_s * by)

        return replace(self, web=dearer(self.web), redis=dearer(self.redis), agent=dearer(self.agent))

    def with_payload(self, mib: float) -> "Demands":
        """Return those of calls that have so many MiB each way."""

        def with_it(demand: Demand) -> Demand:
            return replace(demand, call_s=demand.call_s + mib * demand.mib_s, mib_s=0.0)

        worker_s = self.worker_s + mib * self.worker_mib_s
        return replace(
            self, web=with_it(self.web), redis=with_it(self.redis), agent=with_it(self.agent), worker_s=worker_s
        )


def read_prices() -> Demands:
    """Return what calls cost, as it was fitted to the runs."""
    found: dict[str, Any] = json.loads(PRICES.read_text(encoding="utf-8"))
    kept: dict[str, Any] = {name: Demand(**each) if isinstance(each, dict) else each for name, each in found.items()}
    return Demands(**kept)


def write_prices(demands: Demands) -> None:
    """Write them down: a fit takes longer than its result is to be read."""
    PRICES.write_text(json.dumps(asdict(demands), indent=1) + "\n", encoding="utf-8")


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
