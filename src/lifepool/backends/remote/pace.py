"""How long calls run: it decides which may share an envelope, and how many are worth having on their way."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifepool.backends.remote.functions import Spec

#: Seconds that a call runs, at most, to share an envelope: one that shares waits for those before it in the same node.
SHORT_S = 0.005
#: Seconds of work in one envelope.
ENVELOPE_S = 0.02
#: Seconds of work that may wait at the cluster for each slot, so that a node which is done has the next at hand.
AHEAD_S = 0.02
#: Seconds that any call takes of its node, however little it does.
LEAST_S = 0.0002
#: What a function is taken to run after one of its calls was handed back, for it had waited in its envelope.
HANDED_BACK_S = 0.05
#: Slots before the first node is known.
SLOTS_AT_FIRST = 8
#: Functions that are remembered; past it the one that was not called for the longest time is forgotten.
MOST_REMEMBERED = 1000

_NEW_WEIGHT = 0.25  # of the newest run of a function, against all before it
_ANY_WEIGHT = 1 / 32  # of the newest run of all


class Pace:
    """Keep how long each function runs lately, and calls on the whole.

    Args:
        ahead: Calls that may wait at the cluster, as a share of its slots, however long they run.
        most: Calls that may be under way.
    """

    def __init__(self, ahead: float = 0.5, most: int = 1024) -> None:
        self._ahead = ahead
        self._most = most
        self._runs: OrderedDict[str, float] = OrderedDict()
        self._mean: float | None = None

    def took(self, spec: Spec, run_s: float) -> None:
        """Note a run."""
        key = _key(spec)
        before = self._runs.get(key)
        self._set(key, run_s if before is None else before + _NEW_WEIGHT * (run_s - before))
        self._mean = run_s if self._mean is None else self._mean + _ANY_WEIGHT * (run_s - self._mean)

    def was_handed_back(self, spec: Spec) -> None:
        """Have the function travel alone until it has been short for some calls."""
        self._set(_key(spec), HANDED_BACK_S)

    def run_s(self, spec: Spec) -> float | None:
        """Return the seconds for which a short function occupies its node; None if it is not known to be short."""
        known = self._runs.get(_key(spec))
        return None if known is None or known > SHORT_S else max(LEAST_S, known)

    def right_size(self, slots: int) -> int:
        """Return how many calls are worth having under way: more of them, the shorter they are."""
        slots = slots or SLOTS_AT_FIRST
        by_time = 0.0 if self._mean is None else AHEAD_S / max(LEAST_S, self._mean)
        ahead = max(1, round(slots * max(self._ahead, by_time))) if self._ahead else 0
        return min(slots + ahead, self._most)

    def _set(self, key: str, run_s: float) -> None:
        self._runs[key] = run_s
        self._runs.move_to_end(key)
        if len(self._runs) > MOST_REMEMBERED:
            self._runs.popitem(last=False)


def _key(spec: Spec) -> str:
    return spec if isinstance(spec, str) else repr(spec)
