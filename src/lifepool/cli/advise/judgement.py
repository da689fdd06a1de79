"""Turn measured figures into advice. Pure: the same figures give the same advice."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lifepool.cli.units import number_text, size_text, time_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lifepool.cli.summary import Spread

Recommendation = Literal["offload", "inline", "map"]

CLOSE = 1.25
"""Within this factor of the border, figures change from run to run and so would the advice."""
BIG_PAYLOAD = 64 << 10
"""Bytes from which it is worth saying that sending less would help; above it payloads go through shared memory."""
NOISY = 2.0
CHUNK_S = 0.01
"""What ``pool.map`` aims at for a chunk."""
TIGHT = 4.0
"""Factor between the measured sizes around a break-even that counts as verified."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """One of many items, in seconds.

    Attributes:
        inline: A call in this process, of many one after the other.
        pooled: An item of ``pool.gather``, all workers busy.
        loop: CPU time of the event loop's thread per item then.
    """

    inline: float
    pooled: float
    loop: float


@dataclass(frozen=True, slots=True)
class Measurement:
    """A function with one set of arguments, all times in seconds.

    Attributes:
        size: The ``n`` that its arguments were made with; None if they do not depend on one.
        inline: A call in this process: for so long the event loop would stand still.
        pooled: ``await pool.run(...)``, from call to answer.
        added: How much later the answer comes from the pool: the median over pairs of calls, one after the other.
        loop: CPU time of the event loop's thread for each pooled call: for so long it stands still then.
        pickling: Pickling the arguments and unpickling the result, part of ``loop``.
        arguments_bytes: Of the pickled arguments.
        result_bytes: Of the pickled result.
        mapped: An item of many at once; None if the call is long or the function does not take one argument.
    """

    size: int | None
    inline: Spread
    pooled: Spread
    added: float
    loop: float
    pickling: float
    arguments_bytes: int
    result_bytes: int
    mapped: Mapped | None = None

    @property
    def freed(self) -> float:
        """Return how much more time the event loop has for others; negative if sending takes longer than doing."""
        return self.inline.median - self.loop

    @property
    def gain(self) -> float:
        """Return what a call takes inline over what sending it costs its caller and the loop: above 1 it pays.

        Where it is 1 a pooled call frees the loop for all others as long as it keeps its own caller waiting.
        """
        return self.inline.median / max(self.added + self.loop, 1e-9)


def least_gain(waited: float, loop: float) -> float:
    """Return the least that the gain of a call can be that was ended before its answer came.

    Args:
        waited: Seconds until it was ended. Without what the loop did itself, inline the call takes at least as long.
        loop: CPU time of the event loop's thread in them, as for a large payload.
    """
    return (waited - loop) / max(loop, 1e-9)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and why.

    Attributes:
        recommendation: ``offload``: ``await pool.run``. ``inline``: call it. ``map``: call it, but send many at once.
        close: Whether it is so close that either will do.
        reasons: Sentences, with the figures.
    """

    recommendation: Recommendation
    close: bool
    reasons: tuple[str, ...]


def judge(m: Measurement) -> Verdict:
    """Give advice for one set of arguments."""
    close = 1 / CLOSE < m.gain < CLOSE
    if m.gain >= 1:
        return Verdict("offload", close, (_freed(m), _rates(m), *_payload(m), *_noise(m)))
    if m.mapped is not None and 2 * m.mapped.loop <= m.mapped.inline:
        return Verdict("map", close, (_too_short(m), _chunks(m.mapped), *_noise(m)))
    return Verdict("inline", close, (_too_short(m), *_payload(m), *_noise(m)))


def _noise(m: Measurement) -> tuple[str, ...]:
    """Warn if half of the calls took more than twice as long as the fastest: that is not the function's doing."""
    if m.pooled.median < NOISY * m.pooled.low:
        return ()
    return ("figures vary much: something else uses the CPUs; measure again when it does not",)


def _freed(m: Measurement) -> str:
    return (
        f"inline each call stops the event loop for {time_text(m.inline.median)} (longest {time_text(m.inline.high)}); "
        f"in the pool for {time_text(m.loop)}, and the answer comes {time_text(m.added)} later"
    )


def _rates(m: Measurement) -> str:
    return (
        f"inline the loop is full at {number_text(1 / m.inline.median)} calls/s; "
        f"sending, at {number_text(1 / max(m.loop, 1e-9))} calls/s"
    )


def _too_short(m: Measurement) -> str:
    if m.freed <= 0:
        return f"sending it takes the event loop {time_text(m.loop)}, doing it {time_text(m.inline.median)}"
    return (
        f"it takes {time_text(m.inline.median)}; in the pool that frees the event loop for {time_text(m.freed)} only, "
        f"and the answer comes {time_text(m.added)} later"
    )


def _chunks(mapped: Mapped) -> str:
    chunk = max(1, round(CHUNK_S / max(mapped.inline, 1e-9)))
    return (
        f"with many items at once use pool.map: in chunks of about {chunk:,} an item takes "
        f"{time_text(mapped.pooled)} and the event loop {time_text(mapped.loop)}"
    )


def _payload(m: Measurement) -> tuple[str, ...]:
    """Mention the payload, if it is big and most of the cost."""
    total = m.arguments_bytes + m.result_bytes
    if total < BIG_PAYLOAD or m.pickling < m.loop / 2:
        return ()
    return (f"half of the price or more is pickling {size_text(total)}: send a path or a key instead, return less",)


# --- from which size on -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BreakEven:
    """From which size on it pays.

    Attributes:
        size: The estimate; None if it pays at every size tried, or at none.
        below: The largest size tried at which it does not pay yet; None if it always did.
        above: The smallest size tried from which on it does; None if it never did.
        verified: Whether sizes on both sides of the estimate were tried, close to it, and agree with it.
    """

    size: int | None
    below: int | None
    above: int | None
    verified: bool


def break_even(points: Sequence[tuple[int, float]]) -> BreakEven:
    """Fit the size at which the gain is 1.

    Gain against size is a straight line on logarithmic axes, near the border at least: a function and its payload grow
    by powers of n. So the border is found between the two sizes around it on such a line.

    Args:
        points: (size, gain), in any order.
    """
    ordered = sorted(points)
    above = next((i for i in range(len(ordered)) if all(gain >= 1 for _, gain in ordered[i:])), len(ordered))
    if above == len(ordered):
        return BreakEven(None, ordered[-1][0], None, verified=False)
    if above == 0:
        return BreakEven(None, None, ordered[0][0], verified=False)
    (low, low_gain), (high, high_gain) = ordered[above - 1], ordered[above]
    share = math.log(1 / low_gain) / math.log(high_gain / low_gain)
    size = round(low * (high / low) ** share)
    agree = all(gain < 1 for _, gain in ordered[:above])
    return BreakEven(size, low, high, verified=agree and high / low <= TIGHT)


def locate(first: dict[int, float], measure: Callable[[int], float | None], steps: int = 3) -> BreakEven:
    """Measure around the estimate until it is verified, or time is over.

    Args:
        first: Gain by size, as measured so far.
        measure: The gain at one more size; None if there is no time left for it.
        steps: Rounds of two more sizes.
    """
    gains = dict(first)
    found = break_even(list(gains.items()))
    for _ in range(steps):
        if found.verified or found.size is None:
            return found
        for size in (max(1, round(found.size / 1.7)), round(found.size * 1.7)):
            gain = measure(size) if size not in gains else gains[size]
            if gain is None:
                return found
            gains[size] = gain
        found = break_even(list(gains.items()))
    return found
