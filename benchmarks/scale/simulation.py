"""A discrete-event simulation of calls on their way: web processes, a broker, the agents of nodes, and their slots.

A call waits in its web process until it may be under way, and leaves in a message, which short calls share. The message
goes through the broker to an agent that has room for one; there its calls run in the slots of the node, and their
answers go back through the broker. Web processes, the broker and agents do one thing at a time, as the programs do that
they stand for. Where everything runs on one machine, as in the measured runs, they share its CPUs too.
"""

import random
from collections import deque
from dataclasses import dataclass
from functools import partial

from benchmarks.scale.demands import Demands
from benchmarks.scale.places import Clock, Connection, Cores, Place
from lifepool.backends.remote.node import TAKEN_S
from lifepool.backends.remote.pace import AHEAD_S, ENVELOPE_S, LEAST_S, SHORT_S
from lifepool.backends.remote.sending import GATHER_S

#: Announcements of a node in a second.
BEATS = 2.0
#: The part of an agent's work for a message that comes after its answers, when Celery is done with it. Its thread takes
#: about 0.5 ms for each, and hands it over after some 0.2 (decision 52).
AFTER = 0.6
#: How often a call is on its way: to the broker and on to a node, there and back to be claimed, and back as it came.
WAYS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """A cluster and its load.

    Attributes:
        nodes: Nodes.
        workers: Slots of each.
        task_s: Seconds that a function runs, without a CPU if ``cores`` are shared: it sleeps.
        shares: Whether its arguments are small enough for calls to share messages.
        web: Web processes.
        window: Calls that each web process has, all the time; None: calls come by chance, ``rate`` in a second.
        rate: Calls that come in a second, to all web processes together.
        in_flight: Calls that one web process has under way at most.
        ahead: Calls beyond the slots of the cluster that it may have under way, as a share of them. There are more of
            short ones.
        cores: CPUs that all share; None: each web process, broker and agent has its own, and so has each worker.
    """

    nodes: int
    workers: int = 4
    task_s: float = 0.1
    shares: bool = True
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
        ahead = max(self.ahead, AHEAD_S / max(LEAST_S, self.task_s))
        return max(2, min(self.in_flight, self.slots + max(1, round(self.slots * ahead))))

    @property
    def most_in_message(self) -> int:
        """Return how many calls share a message at most; one, if they do not."""
        if not self.shares or self.task_s > SHORT_S:
            return 1
        return round(ENVELOPE_S / max(LEAST_S, self.task_s))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        rate: Calls answered in a second.
        latencies: Seconds from submission until the answer, in order.
        busy: The part of its time in which each kind of place was busy.
        cpu: Seconds that each kind of place took for a call.
        turns: How many turns each kind of place had for a call.
        messages: How many messages of calls there were for a call.
    """

    rate: float
    latencies: tuple[float, ...]
    busy: dict[str, float]
    cpu: dict[str, float]
    turns: dict[str, float]
    messages: float

    def quantile(self, q: float) -> float:
        """Return the latency that a share ``q`` of the calls does not exceed."""
        return self.latencies[min(len(self.latencies) - 1, int(q * len(self.latencies)))]


class Envelope:
    """A message with calls: when each was submitted, and how many have no answer."""

    __slots__ = ("calls", "is_taken", "left", "sent_at", "web")

    def __init__(self, web: "Web", calls: list[float], sent_at: float) -> None:
        self.web = web
        self.calls = calls
        self.left = len(calls)
        self.sent_at = sent_at
        self.is_taken = False


class Web:
    """A web process: calls that wait to be under way, those that wait to leave, and messages that nobody has taken."""

    def __init__(self, place: Place, connection: Connection) -> None:
        self.place = place
        self.connection = connection
        self.waiting: deque[float] = deque()
        self.leaving: list[float] = []
        self.untaken: list[Envelope] = []
        self.under_way = 0
        self.flushes = 0

    def sign(self, came: float) -> None:
        """Make a call ready to leave."""
        self.leaving.append(came)


class Agent:
    """A node: its agent, the messages that it has room for, its free slots, and the calls that wait for one."""

    def __init__(self, place: Place, connection: Connection, workers: int) -> None:
        self.place = place
        self.connection = connection
        self.room = workers
        self.free = workers
        self.asks = True  # for one message at a time
        self.waiting: deque[tuple[Envelope, float]] = deque()
        self.answers: list[tuple[Envelope, float]] = []


class Cluster:
    """One run of the simulation."""

    def __init__(self, demands: Demands, setup: Setup, seed: int = 1) -> None:
        self.clock = clock = Clock()
        self.setup = setup
        self.latencies: list[float] = []
        self.messages = 0
        self._random = random.Random(seed)
        cores = None
        if setup.cores is not None:
            cores = Cores(clock, setup.cores, setup.nodes * demands.idle_s / setup.cores)
            demands = demands.in_a_crowd(setup.nodes)
        self._cores = cores
        self._demands = demands
        # Beats are many and short: they make a web process slower, rather than being events of their own.
        self._slower = 1 / max(0.05, 1 - setup.nodes * BEATS * demands.beat_s)
        self._way_s = way_s = demands.wait_s / WAYS
        self.redis = redis = Place(clock, demands.redis.turn_s, cores)
        self.agents = [
            Agent(Place(clock, demands.agent.turn_s, cores), Connection(clock, redis, way_s), setup.workers)
            for _ in range(setup.nodes)
        ]
        self.web = [
            Web(Place(clock, demands.web.turn_s * self._slower, cores), Connection(clock, redis, way_s))
            for _ in range(setup.web)
        ]
        for web in self.web:
            web.place.at_end = partial(self._flush, web)
        for agent in self.agents:
            agent.place.at_end = partial(self._answer, agent)
        self._asking = deque(self.agents)  # those that wait for a message
        self._broker: deque[Envelope] = deque()

    # -- out ------------------------------------------------------------------------------------------------------

    def submit(self, web: Web) -> None:
        """Have a call come to a web process."""
        web.waiting.append(self.clock.now)
        self._admit(web)

    def _admit(self, web: Web) -> None:
        while web.waiting and web.under_way < self.setup.most_under_way:
            web.under_way += 1
            came = web.waiting.popleft()
            web.place.use(self._demands.web.call_s / 2 * self._slower, partial(web.sign, came))

    def _flush(self, web: Web) -> None:
        """Have calls leave in as few messages as may be, unless others are on their way that nobody has taken."""
        if not web.leaving:
            return
        most, now = self.setup.most_in_message, self.clock.now
        web.flushes += 1
        if most > 1:
            web.untaken = [each for each in web.untaken if not each.is_taken and now - each.sent_at < GATHER_S]
            if len(web.untaken) >= self.setup.nodes:
                self.clock.after(GATHER_S, partial(self._flush_late, web, web.flushes))
                return
        calls, web.leaving = web.leaving, []
        for start in range(0, len(calls), most):
            envelope = Envelope(web, calls[start : start + most], now)
            if most > 1:
                web.untaken.append(envelope)
            web.place.owe(self._demands.web.message_s * self._slower)
            redis = self._demands.redis
            seconds = redis.message_s + len(envelope.calls) * redis.call_s / 2
            web.connection.write(seconds, partial(self._queued, envelope))
            self.messages += 1

    def _flush_late(self, web: Web, flushes: int) -> None:
        if web.flushes == flushes:
            self._flush(web)

    def _queued(self, envelope: Envelope) -> None:
        self._broker.append(envelope)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._broker and self._asking:
            agent, envelope = self._asking.popleft(), self._broker.popleft()
            agent.room -= 1
            agent.asks = False
            self.clock.after(self._way_s, partial(self._came, agent, envelope))

    # -- in a node ------------------------------------------------------------------------------------------------

    def _came(self, agent: Agent, envelope: Envelope) -> None:
        cost = self._demands.agent
        seconds = cost.message_s * (1 - AFTER) + len(envelope.calls) * cost.call_s / 2
        agent.place.use(seconds, lambda: self._claim(agent, envelope))

    def _claim(self, agent: Agent, envelope: Envelope) -> None:
        is_full = not agent.room
        if not is_full and not agent.asks:
            self._ask(agent)

        def claimed() -> None:
            agent.place.use(0.0, lambda: self._taken(agent, envelope, is_full))

        agent.connection.write(0.0, lambda: self.clock.after(self._way_s, claimed))

    def _taken(self, agent: Agent, envelope: Envelope, is_full: bool) -> None:
        if is_full or len(envelope.calls) > 1:
            self._tell(agent, envelope, [])
        agent.waiting.extend((envelope, came) for came in envelope.calls)
        self._run_more(agent)

    def _run_more(self, agent: Agent) -> None:
        while agent.free and agent.waiting:
            agent.free -= 1
            call = agent.waiting.popleft()
            run = partial(self._run, agent, *call)
            if self._cores is None:
                self.clock.after(self._demands.worker_s, run)
            else:
                self._cores.use(self._demands.worker_s, run)

    def _run(self, agent: Agent, envelope: Envelope, came: float) -> None:
        if len(envelope.calls) == 1 and self.setup.task_s > TAKEN_S:  # else its answer says so soon
            tell = partial(agent.place.use, 0.0, partial(self._tell, agent, envelope, []))
            self.clock.after(TAKEN_S, tell)
        self.clock.after(self.setup.task_s, partial(self._ran, agent, envelope, came))

    def _ran(self, agent: Agent, envelope: Envelope, came: float) -> None:
        agent.free += 1
        self._run_more(agent)
        agent.place.use(self._demands.agent.call_s / 2, lambda: agent.answers.append((envelope, came)))

    def _answer(self, agent: Agent) -> None:
        """Send what has been answered in a turn."""
        answers, agent.answers = agent.answers, []
        joined: dict[Envelope, list[float]] = {}
        for envelope, came in answers:
            joined.setdefault(envelope, []).append(came)
        for envelope, calls in joined.items():
            self._tell(agent, envelope, calls)
            envelope.left -= len(calls)
            if not envelope.left:
                agent.place.use(self._demands.agent.message_s * AFTER, partial(self._turn_over, agent))

    def _turn_over(self, agent: Agent) -> None:
        self.clock.after(self._demands.turnover_s, lambda: self._free(agent))

    def _free(self, agent: Agent) -> None:
        agent.room += 1
        if not agent.asks:
            self._ask(agent)

    def _ask(self, agent: Agent) -> None:
        agent.asks = True
        self._asking.append(agent)
        self._hand_out()

    # -- back -----------------------------------------------------------------------------------------------------

    def _tell(self, agent: Agent, envelope: Envelope, calls: list[float]) -> None:
        """Tell a web process that a message was taken, and what calls in it have come to."""
        web = envelope.web
        seconds = len(calls) * self._demands.web.call_s / 2 * self._slower

        def back() -> None:
            web.place.use(seconds, lambda: self._done(envelope, calls))

        redis_s = len(calls) * self._demands.redis.call_s / 2
        agent.connection.write(redis_s, lambda: self.clock.after(self._way_s, back))

    def _done(self, envelope: Envelope, calls: list[float]) -> None:
        envelope.is_taken = True
        web = envelope.web
        for came in calls:
            self.latencies.append(self.clock.now - came)
            web.under_way -= 1
            if self.setup.window is not None:
                web.waiting.append(self.clock.now)
        self._admit(web)

    # -- the load -------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Have calls come."""
        setup = self.setup
        if setup.window is not None:
            for web in self.web:
                for _ in range(setup.window):
                    self.submit(web)
        else:
            self._next_arrival()

    def _next_arrival(self) -> None:
        def arrive() -> None:
            self.submit(self.web[self._random.randrange(self.setup.web)])
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
    began, busy, turns, messages = cluster.clock.now, _busy(cluster), _turns(cluster), cluster.messages
    cluster.latencies.clear()
    pass_until(max(calls, 4 * under_way), lasts_s)
    took = cluster.clock.now - began
    counted = len(cluster.latencies)
    servers = {"web": setup.web, "redis": 1, "agent": setup.nodes}
    used = {place: after - busy[place] for place, after in _busy(cluster).items()}
    return Outcome(
        rate=counted / took,
        latencies=tuple(sorted(cluster.latencies)),
        busy={place: min(1.0, seconds / took / servers[place]) for place, seconds in used.items()},
        cpu={place: seconds / counted for place, seconds in used.items()},
        turns={place: (after - turns[place]) / counted for place, after in _turns(cluster).items()},
        messages=(cluster.messages - messages) / counted,
    )


def _places(cluster: Cluster) -> dict[str, list[Place]]:
    return {
        "web": [web.place for web in cluster.web],
        "redis": [cluster.redis],
        "agent": [agent.place for agent in cluster.agents],
    }


def _busy(cluster: Cluster) -> dict[str, float]:
    return {name: sum(place.busy_s for place in places) for name, places in _places(cluster).items()}


def _turns(cluster: Cluster) -> dict[str, int]:
    return {name: sum(place.turns for place in places) for name, places in _places(cluster).items()}
