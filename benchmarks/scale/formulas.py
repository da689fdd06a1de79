"""The same without a simulation: which place is full first, how long calls take, and what a million of them cost."""

import math
from dataclasses import dataclass

from benchmarks.scale.demands import Demand, Demands
from benchmarks.scale.simulation import AFTER, BEATS, WAYS, Setup

#: Dollars for an hour: of a node with as many CPUs as it needs, of a web process, and of Redis. Assumed; put in yours.
NODE_HOUR, WEB_HOUR, REDIS_HOUR = 0.08, 0.04, 0.08


@dataclass(frozen=True, slots=True)
class Limits:
    """Calls in a second that each kind of place can do at most, when messages are full and turns are shared among many.

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
    most = setup.most_in_message

    def busy_s(demand: Demand) -> float:
        return demand.call_s + demand.message_s / most

    way_s = sum(_passing(demands).values()) + demands.wait_s + demands.worker_s + setup.task_s
    return Limits(
        {
            "web": setup.web * (1 - setup.nodes * BEATS * demands.beat_s) / busy_s(demands.web),
            "Redis": 1 / busy_s(demands.redis),
            "agents": setup.nodes * (1 - demands.idle_s) / busy_s(demands.agent),
            "slots": setup.slots / _in_slot(demands, setup),
            "in_flight": setup.web * setup.most_under_way / way_s,
        }
    )


def _in_slot(demands: Demands, setup: Setup) -> float:
    """Return for how long a call keeps a slot from others.

    One that has a message of its own has its slot from the moment at which the message is taken until Celery can take
    another. Those that share one find it in their node, as soon as a slot is free.
    """
    runs_s = demands.worker_s + setup.task_s
    if setup.most_in_message > 1:
        return runs_s
    agent = demands.agent
    taken_s = 4 * agent.turn_s + agent.message_s + agent.call_s + demands.redis.turn_s
    return runs_s + taken_s + 3 * demands.wait_s / WAYS + demands.turnover_s


def _passing(demands: Demands) -> dict[str, float]:
    """Return what a call takes in each place on its way, if it shares neither turns nor its message."""
    web, redis, agent = demands.web, demands.redis, demands.agent
    return {
        "web": 2 * web.turn_s + web.message_s + web.call_s,
        "Redis": 3 * redis.turn_s + redis.message_s + redis.call_s,
        "agents": 3 * agent.turn_s + (1 - AFTER) * agent.message_s + agent.call_s,
    }


def latency(demands: Demands, setup: Setup) -> float:
    """Return about how many seconds a call takes, if so many come in a second as the setup says.

    The slots are taken for servers of calls that come by chance (M/M/c), each other place for one such server. It is
    infinite if more come than there can be.
    """
    bounds = limits(demands, setup).by
    total = demands.wait_s + setup.task_s + demands.worker_s
    costs = {"web": demands.web, "Redis": demands.redis, "agents": demands.agent}
    for place, alone_s in _passing(demands).items():
        load = setup.rate / bounds[place]
        if load >= 1:
            return math.inf
        total += alone_s + costs[place].call_s * load / (1 - load)
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
