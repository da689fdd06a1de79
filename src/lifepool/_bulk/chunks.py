"""How large the next chunk of a ``map`` should be. What runs in the worker is in ``_transfer/grouped.py``."""

from __future__ import annotations

#: Seconds a chunk should take: a hundred times what sending it costs, and short enough to share work out evenly.
TARGET_S = 10e-3
#: Chunks grow at most this much at a time, so that one quick item does not make the next chunk enormous.
GROWTH = 4
MAX_CHUNK = 10_000


class ChunkSizer:
    """How many items the next chunk should have; learns from those that are done.

    Args:
        fixed: A size chosen by the user, or None to learn one.
        most: No chunk is larger than this.
    """

    def __init__(self, fixed: int | None, most: int = MAX_CHUNK) -> None:
        self._most = max(1, most)
        self._learning = fixed is None
        self.size = 1 if fixed is None else min(fixed, self._most)

    def learn(self, items: int, run_s: float) -> None:
        """Take a finished chunk into account."""
        if not self._learning or not items:
            return
        fitting = int(min(TARGET_S * items / run_s, self._most)) if run_s > 0 else self._most
        self.size = max(1, min(fitting, self.size * GROWTH, self._most))
