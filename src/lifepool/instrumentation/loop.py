"""Find what blocks the event loop: ``pool.add_hook(LoopWatch())``."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

from lifepool._engine.rate_limiter import RateLimiter, and_before
from lifepool.hooks import Hook
from lifepool.instrumentation.lag import TICK_S, LagMeter, LagSummary
from lifepool.instrumentation.watchdog import Block, Watchdog

if TYPE_CHECKING:
    from lifepool.hooks import WatchedPool

logger: logging.Logger = logging.getLogger("lifepool")

#: Blocks that are remembered.
KEPT = 100


class LoopWatch(Hook):
    """Log a warning, with the stack, when something blocks the event loop for longer than the threshold.

    One line for each function in ``repeat_after`` seconds. It watches the loop of one pool; what it costs is a
    timer and a thread that wake up some twenty times a second.

    Args:
        threshold: Seconds for which the loop may stand still.
        repeat_after: Seconds for which a function is only counted, once it was logged.

    Attributes:
        lag: Measures how late the loop is.
        blocks: The last times that it was blocked, the newest last.

    Raises:
        ValueError: If the threshold is not above 0.
    """

    def __init__(self, threshold: float = 0.1, *, repeat_after: float = 60.0) -> None:
        if not threshold > 0:
            raise ValueError(f"threshold={threshold!r}: expected seconds above 0")
        self.threshold = threshold
        self.lag: LagMeter = LagMeter(min(TICK_S, threshold / 2))
        self.blocks: deque[Block] = deque(maxlen=KEPT)
        self._limiter = RateLimiter(repeat_after)
        self._watchdog: Watchdog | None = None
        self._pool: WatchedPool | None = None

    def pool_started(self, pool: WatchedPool) -> None:
        """Start to watch the loop that this is called on."""
        if self._pool not in (None, pool):
            raise ValueError("a LoopWatch watches the loop of one pool: make another one")
        if self._watchdog is not None:
            self._watchdog.end()  # of a loop that was closed under the pool
        self._pool = pool
        self.lag.start()
        self._watchdog = Watchdog(self.lag, self.threshold, self._report)
        self._watchdog.start()

    def pool_closed(self, pool: WatchedPool) -> None:
        """Stop watching."""
        if pool is not self._pool:
            return
        self._pool = None
        self.lag.stop()
        if self._watchdog is not None:
            self._watchdog.end()
            self._watchdog = None

    def recent(self, seconds: float = 10.0) -> LagSummary:
        """Return how late the loop was in the last seconds."""
        return self.lag.recent(seconds)

    def _report(self, block: Block, now: float) -> None:
        """Log a block. Called in the watchdog's thread, while the loop stands still."""
        self.blocks.append(block)
        call = block.blocking_call
        key = (call.file, call.function)
        if not self._limiter.may_say(key, now):
            return
        message = (
            "the event loop has been blocked for %.2f s by %s: every other request waits. "
            "Run what takes long in a worker: await pool.run(function, ...)%s\n%s"
        )
        logger.warning(message, block.seconds, call.location, and_before(self._limiter.left_out(key)), call.stack)
