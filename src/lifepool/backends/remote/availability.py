"""Whether calls go through to a cluster, and if not, since when and why."""

from __future__ import annotations

#: Seconds for which calls wait when nothing goes through, before they fail.
PATIENCE_S = 1.0
#: Seconds without any node after which calls fail: time for one to be started anew.
NO_NODES_S = 5.0
#: The reason as long as nobody has heard of the engine: it may still be starting.
NO_CONNECTION_YET = "there is no connection yet"


class Availability:
    """Know whether the engine can be reached, and has nodes.

    Args:
        now: The present instant: from it on there is no connection, and no node.

    Attributes:
        down_since: Instant from which nothing goes through; None if all does.
        reason: Why nothing does.
    """

    def __init__(self, now: float) -> None:
        self.down_since: float | None = now
        self.reason: str = NO_CONNECTION_YET
        self._no_nodes_since: float | None = now

    @property
    def is_down(self) -> bool:
        """Whether nothing goes through."""
        return self.down_since is not None

    def connected(self) -> bool:
        """Note that all goes through; return whether it did not before."""
        was_down, self.down_since = self.is_down, None
        return was_down

    def disconnected(self, reason: str, now: float) -> bool:
        """Note that nothing goes through, and why; return whether that is new."""
        self.reason = reason
        if self.is_down:
            return False
        self.down_since = now
        return True

    def count_slots(self, slots: int, now: float) -> None:
        """Note how many slots the nodes have."""
        self._no_nodes_since = None if slots else self._no_nodes_since or now

    def is_given_up(self, now: float) -> bool:
        """Return whether nothing has gone through for longer than calls wait."""
        return self.down_since is not None and now - self.down_since > PATIENCE_S

    def why_not(self, now: float) -> str | None:
        """Say why a call can't be sent now; None if it can."""
        if self.is_given_up(now):
            return f"it can't be reached: {self.reason}"
        if not self.is_down and self._no_nodes_since is not None and now - self._no_nodes_since > NO_NODES_S:
            return "it has no nodes"
        return None
