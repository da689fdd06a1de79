"""For how long to poll for what comes next before going to sleep, learned as kernels learn it (halt polling).

To wake a process on another CPU takes several times as long as a small task: 3 µs on one machine, 35 µs on another, and
who sleeps makes the other side sleep too. So a caller that awaits one small task after another is served best by a
worker and an event loop that are awake, and one that calls now and then by those that sleep. Each wait teaches the next
one: if what was waited for came soon, but after the poll had ended, poll for twice as long from now on; if it came
late, not at all. What is polled in vain is bounded by a budget that wall time refills.
"""

from __future__ import annotations

#: Seconds of the first poll, and of the longest. Awake on both sides, the next ticket or answer is there within 60 µs
#: (200 µs with two callers); 400 µs gained nothing for one caller, and took a quarter from two (decision 39).
FIRST_S, LONGEST_S = 50e-6, 200e-6
#: Seconds within which what comes is taken for quick. More than the longest poll: asleep, both sides take longer.
SOON_S = 400e-6
#: The share of wall time that may be polled in vain, and the seconds of that which can be saved up.
VAIN_SHARE, SAVED_MOST_S = 0.02, 10e-3


class HaltPolling:
    """Decide before each wait for how long to poll, and learn from how long the wait was.

    Args:
        now: Monotonic seconds.
    """

    __slots__ = ("_began", "_budget_s", "_learned_s", "_poll_s")

    def __init__(self, now: float) -> None:
        self._learned_s = FIRST_S
        self._budget_s = SAVED_MOST_S
        self._began = now  # of the last wait
        self._poll_s = 0.0  # what was decided for it

    def begin(self, now: float) -> float:
        """Return the seconds to poll in the wait that begins now; 0: sleep at once."""
        self._budget_s = min(self._budget_s + VAIN_SHARE * (now - self._began), SAVED_MOST_S)
        self._began = now
        self._poll_s = self._learned_s if self._learned_s <= self._budget_s else 0.0
        return self._poll_s

    def gave_up(self, now: float) -> None:
        """Note that nothing came in the poll, which ends now. Time in which others had the CPU counts: they need it."""
        self._budget_s -= now - self._began

    def end(self, now: float) -> None:
        """Learn from the wait, which ends now."""
        waited_s = now - self._began
        if waited_s > SOON_S:
            self._learned_s = 0.0
        elif waited_s > self._poll_s:
            self._learned_s = min(max(2 * self._learned_s, FIRST_S), LONGEST_S)
