"""Decide which requests are admitted. Pure: numbers and instants go in, decisions come out.

The idea is CoDel's (Nichols and Jacobson, RFC 8289): what counts is not how many wait but for how long, and not at one
instant but for a while. A burst that drains by itself is good: it may wait for ``BURST`` times the target. A wait that
has *stood* above the target for ``STANDING_S`` is overload: from then on nobody is admitted above the target, until for
``CALM_S`` nobody had to be refused. The one threshold for bursts and the other in overload keep it from oscillating.

Unlike a router's queue, ours knows how long its tasks take, so a newcomer's wait is predicted when it comes and it is
refused on arrival, before it costs anything; CoDel drops what has waited. Limits that are learned from latencies
alone (gradient and Vegas of Netflix's concurrency-limits, Envoy's adaptive concurrency) need no such knowledge, but
must probe for the latency without load, and take slow endpoints for overload.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool._engine.queries import QueueLoad

#: So many times the target may be waited for in a burst. In a flood tasks take twice as long, for the server needs the
#: CPUs too: what was admitted before that was known must still be answered in time.
BURST = 3.0
#: A wait above the target for so many seconds is overload. A whole burst drains in it beside half the load.
STANDING_S = 1.0
#: Overload is over when nobody was refused for so many seconds. At a load of just the capacity somebody is, more often.
CALM_S = 1.0
#: A request waits for so many turns of the event loop: to be read, to be handled, and to be answered.
LOOP_TURNS = 3.0
#: So many requests are admitted in each turn of the loop, however late it is: a machine that is busy with other things
#: is not an overload of requests.
LEAST_IN_TURN = 4
#: In overload the workers have so many turns' worth of work at least.
QUEUED_TURNS = 2.0
#: Of the longest lag, what is left at the next look.
_LAG_KEPT = 0.95
#: Run times of this many tasks for each that runs at a time are needed for a prediction; first runs are slow.
KNOWN_RUNS = 4
#: Before that so many may wait for each that runs at a time.
UNKNOWN_WAITING = 16
#: How much of what the next task has waited already counts as the wait of a newcomer. While as much is admitted as may
#: wait, the next one has always waited for about that long. If a little more refused everybody, nobody was admitted
#: until the queue is almost empty, and then as many at once as may wait: the loop would have them all in one turn.
WAITED_COUNTS = 0.75
#: What has waited this many times the target is dropped if it has not begun.
DROP = 10.0
#: What the last decision counts in the share of refused requests.
_SHARE_WEIGHT = 0.01
#: The longest advice to come again, in seconds.
RETRY_MOST_S = 30

REFUSED_POOL, REFUSED_LOOP = "refused_pool", "refused_loop"


def pool_wait(load: QueueLoad, arriving: float) -> float:
    """Return the seconds that a newcomer would wait for a worker; infinite if there are too many to know.

    Args:
        load: The pool's.
        arriving: Requests that were admitted, and whose tasks are not in the pool yet: they wait for their turn, or
            their bodies are being read.
    """
    if load.completed < KNOWN_RUNS * load.capacity:
        return load.next_wait_s if load.waiting + arriving < UNKNOWN_WAITING * load.capacity else math.inf
    # What was predicted may be wrong (a worker hangs, run times have changed); that the next one waits already is not.
    return max(WAITED_COUNTS * load.next_wait_s, load.predicted_wait_s + arriving * load.run_s / load.capacity)


class Controller:
    """Admit or refuse by how long requests wait.

    Args:
        target: Seconds that may be waited for long. A task's run time, if that is more: less could not be held.

    Attributes:
        overloaded: Whether the wait has stood above the target.
    """

    def __init__(self, target: float) -> None:
        self.overloaded: bool = False
        self._target = target
        self._above_since: float | None = None
        self._last_refusal = -math.inf
        self._refused_share = 0.0
        self._in_turn = 0  # requests admitted since the last look
        self._lag = 0.0  # the longest of late, in seconds

    def target(self, run: float) -> float:
        """Return the target in seconds while tasks run for ``run`` seconds."""
        return max(self._target, run)

    def drop_after(self, run: float) -> float:
        """Return the seconds of waiting after which a request that has not begun is dropped."""
        return DROP * self.target(run)

    def observe(self, now: float, wait: float, lag: float, run: float, begin: float = 0.0) -> None:
        """Look at the standing wait, many times a second.

        Args:
            now: The monotonic instant.
            wait: Seconds that a newcomer would wait for a worker.
            lag: By how many seconds the loop was late.
            run: Seconds that a task takes.
            begin: Seconds until a newcomer may begin. Workers go on meanwhile: the longer of the two waits counts.
        """
        self._in_turn = 0
        self._lag = max(lag, self._lag * _LAG_KEPT)
        if max(wait, begin) + LOOP_TURNS * lag <= self.target(run):
            self._above_since = None
        elif self._above_since is None:
            self._above_since = now
        elif now - self._above_since >= STANDING_S:
            self.overloaded = True
        if self.overloaded and self._above_since is None and not self.refused_lately(now):
            self.overloaded = False

    def refused_lately(self, now: float) -> bool:
        """Tell whether somebody was refused in the last ``CALM_S``."""
        return now - self._last_refusal < CALM_S

    def refusal(self, now: float, wait: float, overdue: float, run: float, begin: float = 0.0) -> str | None:
        """Return why a request that comes now is refused, or None: it is admitted.

        Args:
            now: As for ``observe``.
            wait: As for ``observe``.
            overdue: By how many seconds the loop is late at this moment. It grows while a turn of the loop goes on, so
                that each turn admits what fits into it, and refuses the rest.
            run: As for ``observe``.
            begin: As for ``observe``.
        """
        target = self.target(run)
        # One late turn is not standing: it may have been a block, or a process that was stopped.
        by_loop = self.overloaded and LOOP_TURNS * overdue > target and self._in_turn >= LEAST_IN_TURN
        # Between two turns nobody is admitted: the workers need enough to do until the next one.
        limit = max(target, QUEUED_TURNS * self._lag) if self.overloaded else math.inf
        limit = min(limit, BURST * target)
        by_loop = by_loop or begin > max(wait, limit)
        refused = by_loop or wait > limit
        self._refused_share += _SHARE_WEIGHT * (refused - self._refused_share)
        if not refused:
            self._in_turn += 1
            return None
        self._last_refusal = now
        return REFUSED_LOOP if by_loop else REFUSED_POOL

    def retry_after(self, wait: float, jitter: float) -> int:
        """Return after how many whole seconds a refused client should come again.

        If nine of ten are refused, those who come again are spread over so long that they are no more than can be
        served: over nine seconds, not over one.

        Args:
            wait: Seconds that it would have waited.
            jitter: In [0, 1).
        """
        spread = self._refused_share / max(1e-3, 1.0 - self._refused_share)
        least = math.ceil(min(max(wait, 1.0), RETRY_MOST_S)) if wait < math.inf else 1
        return min(RETRY_MOST_S, least + int(jitter * (1 + max(1, math.ceil(spread)))))
