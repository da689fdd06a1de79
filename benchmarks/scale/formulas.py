"""The same without a simulation: which place is full first, how long calls take, and what a million of them cost."""

import math
from dataclasses import dataclass

from benchmarks.scale.demands import Demand, Demands
from benchmarks.scale.simulation import BEATS, Setup

#: Dollars for an hour: of a node with as many CPUs as it needs, of a web process, and of Redis. Assumed; put in yours.
NODE_HOUR, WEB_HOUR, REDIS_HOUR = 0.08, 0.04, 0.08


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls in a second that each kind of place can do at most, when it shares its turns among many.

    Attributes:
        by: The limits, by place.
    """

    by: dict[str, float]

    @property
    def rate(self) -> float:
        """Return what all of them can do."""
        return min(self.by.values())

    @property
    def narrowest(self) -> str:
        """Return the place that is full first."""
        return min(self.by, key=lambda place: self.by[place])


def limits(demands: Demands, setup: Setup) -> Limits:
    """Return how many calls in a second there can be."""
    in_slot_s = demands.wait_s / 4 + demands.agent.call_s + demands.worker_s + setup.task_s + demands.turnover_s
    way_s = _alone(demands.web) + _alone(demands.redis) + 3 * demands.wait_s / 4 + in_slot_s - demands.turnover_s
    return Limits(
        {
            "web": setup.web * (1 - setup.nodes * BEATS * demands.beat_s) / demands.web.call_s,
            "Redis": 1 / demands.redis.call_s,
            "agents": setup.nodes * (1 - demands.idle_s) / demands.agent.call_s,
            "slots": setup.slots / in_slot_s,
            "in_flight": setup.web * setup.most_under_way / way_s,
        }
    )


def _alone(demand: Demand) -> float:
    """Return what a call takes that shares no turn; it takes two."""
    return 2 * demand.turn_s + demand.call_s


def latency(demands: Demands, setup: Setup) -> float:
    """Return about how many seconds a call takes, if so many come in a second as the setup says.

    The slots are taken for servers of calls that come by chance (M/M/c), each other place for one such server. It is
    infinite if more come than there can be.
    """
    bounds = limits(demands, setup).by
    total = demands.wait_s + setup.task_s + demands.worker_s
    for place, demand in (("web", demands.web), ("Redis", demands.redis), ("agents", demands.agent)):
        load = setup.rate / bounds[place]
        if load >= 1:
            return math.inf
        total += 2 * demand.turn_s + demand.call_s / (1 - load)
    load = setup.rate / bounds["slots"]
    if load >= 1:
        return math.inf
    return total + _erlang_c(setup.slots, load) / (bounds["slots"] * (1 - load))


def _erlang_c(servers: int, load: float) -> float:
    """Return the chance that a call has to wait for one of so many servers."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * servers * blocked / (number + load * servers * blocked)
    return blocked / (1 - load * (1 - blocked))


def dollars_per_million(setup: Setup, rate: float) -> float:
    """Return what a million calls cost in machines that are paid by the hour, if there are so many in a second."""
    an_hour = setup.nodes * NODE_HOUR + setup.web * WEB_HOUR + REDIS_HOUR
    return an_hour / 3600 / rate * 1e6
