"""What a simulated cluster is made of: a clock, programs that do one thing at a time, CPUs, and connections."""

import heapq
import itertools
from collections import deque
from collections.abc import Callable

Then = Callable[[], object]


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
        at_end: Called at the end of each turn.
    """

    def __init__(self, clock: Clock, turn_s: float, cores: "Cores | None" = None) -> None:
        self.busy_s = 0.0
        self.turns = 0
        self.at_end: Then | None = None
        self._clock = clock
        self._turn_s = turn_s
        self._cores = cores
        self._is_busy = False
        self._owed_s = 0.0
        self._waiting: list[tuple[float, Then]] = []

    def use(self, seconds: float, then: Then) -> None:
        """Have it do something that takes so long."""
        self._waiting.append((seconds, then))
        if not self._is_busy:
            self._turn()

    def owe(self, seconds: float) -> None:
        """Make its next turn longer: what leaves at the end of a turn is made within it, but how much is known then."""
        self._owed_s += seconds

    def _turn(self) -> None:
        batch, self._waiting = self._waiting, []
        self._is_busy = bool(batch)
        if not batch:
            return
        seconds = self._turn_s + self._owed_s + sum(each for each, _ in batch)
        self._owed_s = 0.0
        self.busy_s += seconds
        self.turns += 1

        def end() -> None:
            for _, then in batch:
                then()
            if self.at_end is not None:
                self.at_end()
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


class Connection:
    """A connection to the broker: what is to be written while an answer is awaited is written together afterwards.

    Args:
        clock: The time.
        broker: Who answers.
        way_s: Seconds to it, and back.
    """

    def __init__(self, clock: Clock, broker: Place, way_s: float) -> None:
        self._clock = clock
        self._broker = broker
        self._way_s = way_s
        self._items: list[tuple[float, Then]] = []
        self._is_busy = False

    def write(self, seconds: float, then: Then) -> None:
        """Write something that takes the broker so long, as soon as it may; ``then`` is when it is there."""
        self._items.append((seconds, then))
        if not self._is_busy:
            self._is_busy = True
            self._clock.after(0.0, self._write)  # with all else of this instant

    def _write(self) -> None:
        items, self._items = self._items, []
        self._is_busy = bool(items)
        if items:
            seconds = sum(each for each, _ in items)
            self._clock.after(self._way_s, lambda: self._broker.use(seconds, lambda: self._there(items)))

    def _there(self, items: list[tuple[float, Then]]) -> None:
        for _, then in items:
            then()
        self._clock.after(self._way_s, self._write)
