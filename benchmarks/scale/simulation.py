"""A discrete-event simulation of calls on their way: web processes, a broker, the agents of nodes, and their slots.

A call waits in its web process until it may be under way, is sent through the broker, taken by an agent that has a free
slot, run there, and answered through the broker. Web processes, the broker and agents do one thing at a time, as the
programs do that they stand for. Where everything runs on one machine, as in the measured runs, they share its CPUs too.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.scale.demands import Demands

#: Announcements of a node in a second.
BEATS = 2.0

Then = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A cluster and its load.

    Attributes:
        nodes: Nodes.
        workers: Slots of each.
        task_s: Seconds that a function runs, without a CPU if ``cores`` are shared: it sleeps.
        web: Web processes.
        window: Calls that each web process has, all the time; None: calls come by chance, ``rate`` in a second.
        rate: Calls that come in a second, to all web processes together.
        in_flight: Calls that one web process has under way at most.
        ahead: Calls beyond the slots of the cluster that it may have under way, as a share of them.
        cores: CPUs that all share; None: each web process, broker and agent has its own, and so has each worker.
    """

    nodes: int
    workers: int = 4
    task_s: float = 0.1
    web: int = 1
    window: int | None = None
    rate: float = 0.0
    in_flight: int = 1024
    ahead: float = 0.5
    cores: int | None = None

    @property
    def slots(self) -> int:
        """Return how many calls run at the same time."""
        return self.nodes * self.workers

    @property
    def most_under_way(self) -> int:
        """Return how many calls one web process has under way at most."""
        return max(2, min(self.in_flight, self.slots + max(1, round(self.slots * self.ahead))))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        rate: Calls answered in a second.
        latencies: Seconds from submission until the answer, in order.
        busy: The part of its time in which each kind of place was busy.
        cpu: Seconds that each kind of place took for a call.
    """

    rate: float
    latencies: tuple[float, ...]
    busy: dict[str, float]
    cpu: dict[str, float]

    def quantile(self, q: float) -> float:
        """Return the latency that a share ``q`` of the calls does not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(q * len(self.latencies)))]


class Clock:
    """What happens, in the order of its time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = itertools.count()

    def after(self, seconds: float, then: Then) -> None:
        """Have something happen later."""
        heapq.heappush(self._events, (self.now + seconds, next(self._numbers), then))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._events and self._events[0][0] <= until:
            self.now, _, then = heapq.heappop(self._events)
            then()
        self.now = until


class Place:
    """A program that does one thing at a time. What has come meanwhile is done in its next turn, all together.

    Args:
        clock: The time.
        turn_s: Seconds of each turn.
        cores: CPUs that it shares with others.

    Attributes:
        busy_s: Seconds in which it had something to do.
        turns: How many there were.
    """

    def __init__(self, clock: Clock, turn_s: float, cores: "Cores | None" = None) -> None:
        self.busy_s = 0.0
        self.turns = 0
        self._clock = clock
        self._turn_s = turn_s
        self._cores = cores
        self._is_busy = False
        self._waiting: list[tuple[float, Then]] = []

    def use(self, seconds: float, then: Then) -> None:
        """Have it do something that takes so long."""
        self._waiting.append((seconds, then))
        if not self._is_busy:
            self._turn()

    def _turn(self) -> None:
        batch, self._waiting = self._waiting, []
        self._is_busy = bool(batch)
        if not batch:
            return
        seconds = self._turn_s + sum(each for each, _ in batch)
        self.busy_s += seconds
        self.turns += 1

        def end() -> None:
            for _, then in batch:
                then()
            self._turn()

        if self._cores is None:
            self._clock.after(seconds, end)
        else:
            self._cores.use(seconds, end)


class Cores:
    """CPUs that programs share: the first that comes is the first that runs.

    Args:
        clock: The time.
        count: How many.
        taken: The part of their time that is taken by something else.
    """

    def __init__(self, clock: Clock, count: int, taken: float) -> None:
        self._clock = clock
        self._free = count
        self._slower = 1 / max(0.05, 1 - taken)
        self._queue: deque[tuple[float, Then]] = deque()

    def use(self, seconds: float, then: Then) -> None:
        """Use one for so long, as soon as it is free."""
        if self._free:
            self._free -= 1
            self._begin(seconds, then)
        else:
            self._queue.append((seconds, then))

    def _begin(self, seconds: float, then: Then) -> None:
        self._clock.after(seconds * self._slower, lambda: self._end(then))

    def _end(self, then: Then) -> None:
        if self._queue:
            self._begin(*self._queue.popleft())
        else:
            self._free += 1
        then()


class Agent:
    """A node: its agent, and its slots."""

    def __init__(self, place: Place, slots: int) -> None:
        self.place = place
        self.free = slots
        self.asks = True  # for one call at a time


class Cluster:
    """One run of the simulation."""

    def __init__(self, demands: Demands, setup: Setup, seed: int = 1) -> None:
        self.clock = Clock()
        self.setup = setup
        self.latencies: list[float] = []
        self._random = random.Random(seed)
        cores = None
        if setup.cores is not None:
            cores = Cores(self.clock, setup.cores, setup.nodes * demands.idle_s / setup.cores)
        self._cores = cores
        self._demands = demands
        # Beats are many and short: they make a web process slower, rather than being events of their own.
        slower = 1 / max(0.05, 1 - setup.nodes * BEATS * demands.beat_s)
        self._web_s = demands.web.call_s / 2 * slower
        self._wait_s = demands.wait_s / 4  # to the broker, to the node, and back
        self.redis = Place(self.clock, demands.redis.turn_s, cores)
        agents = (Place(self.clock, demands.agent.turn_s, cores) for _ in range(setup.nodes))
        self.agents = [Agent(place, setup.workers) for place in agents]
        self.web = [Place(self.clock, demands.web.turn_s * slower, cores) for _ in range(setup.web)]
        self._asking = deque(self.agents)  # those that wait for a call
        self._broker: deque[tuple[int, float]] = deque()
        self._under_way = [0] * setup.web
        self._waiting: list[deque[float]] = [deque() for _ in range(setup.web)]

    # -- the way of a call ----------------------------------------------------------------------------------------

    def submit(self, web: int) -> None:
        """Have a call come to a web process."""
        self._waiting[web].append(self.clock.now)
        self._send_more(web)

    def _send_more(self, web: int) -> None:
        while self._waiting[web] and self._under_way[web] < self.setup.most_under_way:
            self._under_way[web] += 1
            came = self._waiting[web].popleft()
            self.web[web].use(self._web_s, partial(self._travel, self._at_broker, web, came))

    def _travel(self, then: Callable[[int, float], object], web: int, came: float) -> None:
        self.clock.after(self._wait_s, lambda: then(web, came))

    def _at_broker(self, web: int, came: float) -> None:
        self.redis.use(self._demands.redis.call_s / 2, lambda: self._queued(web, came))

    def _queued(self, web: int, came: float) -> None:
        self._broker.append((web, came))
        self._hand_out()

    def _hand_out(self) -> None:
        while self._broker and self._asking:
            agent, call = self._asking.popleft(), self._broker.popleft()
            agent.free -= 1
            agent.asks = False
            self.clock.after(self._wait_s, partial(self._taken, agent, *call))

    def _taken(self, agent: Agent, web: int, came: float) -> None:
        agent.place.use(self._demands.agent.call_s / 2, lambda: self._begin(agent, web, came))

    def _begin(self, agent: Agent, web: int, came: float) -> None:
        if agent.free and not agent.asks:
            self._ask(agent)
        worker_s, task_s = self._demands.worker_s, self.setup.task_s

        def run() -> None:
            self.clock.after(task_s, lambda: self._ran(agent, web, came))

        if self._cores is None:
            self.clock.after(worker_s, run)
        else:
            self._cores.use(worker_s, run)

    def _ran(self, agent: Agent, web: int, came: float) -> None:
        agent.place.use(self._demands.agent.call_s / 2, lambda: self._answered(agent, web, came))

    def _answered(self, agent: Agent, web: int, came: float) -> None:
        self.clock.after(self._demands.turnover_s, lambda: self._free(agent))
        self._travel(self._back_at_broker, web, came)

    def _free(self, agent: Agent) -> None:
        agent.free += 1
        if not agent.asks:
            self._ask(agent)

    def _ask(self, agent: Agent) -> None:
        agent.asks = True
        self._asking.append(agent)
        self._hand_out()

    def _back_at_broker(self, web: int, came: float) -> None:
        self.redis.use(self._demands.redis.call_s / 2, lambda: self._travel(self._back, web, came))

    def _back(self, web: int, came: float) -> None:
        self.web[web].use(self._web_s, lambda: self._done(web, came))

    def _done(self, web: int, came: float) -> None:
        self.latencies.append(self.clock.now - came)
        self._under_way[web] -= 1
        if self.setup.window is not None:
            self._waiting[web].append(self.clock.now)
        self._send_more(web)

    # -- the load -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Have calls come."""
        setup = self.setup
        if setup.window is not None:
            for web in range(setup.web):
                for _ in range(setup.window):
                    self.submit(web)
        else:
            self._next_arrival()

    def _next_arrival(self) -> None:
        def arrive() -> None:
            self.submit(self._random.randrange(self.setup.web))
            self._next_arrival()

        self.clock.after(self._random.expovariate(self.setup.rate), arrive)


def simulate(demands: Demands, setup: Setup, *, calls: int = 20_000, warm_up: float = 0.25, seed: int = 1) -> Outcome:
    """Let about so many calls through, after a first part that does not count.

    Args:
        demands: What a call costs.
        setup: The cluster and its load.
        calls: How many, after the first part.
        warm_up: That part, as a share of them.
        seed: Of chance.
    """
    cluster = Cluster(demands, setup, seed)
    cluster.load()
    under_way = setup.web * min(setup.window or 0, setup.most_under_way)
    step, lasts_s = 0.05, 10 * setup.task_s  # tasks of one length go in step: a part of one says nothing

    def pass_until(count: float, at_least_s: float = 0.0) -> None:
        until = cluster.clock.now + at_least_s
        while len(cluster.latencies) < count or cluster.clock.now < until:
            cluster.clock.run(cluster.clock.now + step)

    pass_until(max(1.0, warm_up * calls, 2 * setup.web * (setup.window or 0)))
    began, busy = cluster.clock.now, _busy(cluster)
    cluster.latencies.clear()
    pass_until(max(calls, 4 * under_way), lasts_s)
    took = cluster.clock.now - began
    counted = len(cluster.latencies)
    servers = {"web": setup.web, "redis": 1, "agent": setup.nodes}
    used = {place: after - busy[place] for place, after in _busy(cluster).items()}
    parts = {place: min(1.0, seconds / took / servers[place]) for place, seconds in used.items()}
    cpu = {place: seconds / counted for place, seconds in used.items()}
    return Outcome(counted / took, tuple(sorted(cluster.latencies)), parts, cpu)


def _busy(cluster: Cluster) -> dict[str, float]:
    return {
        "web": sum(web.busy_s for web in cluster.web),
        "redis": cluster.redis.busy_s,
        "agent": sum(agent.place.busy_s for agent in cluster.agents),
    }
