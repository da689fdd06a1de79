"""Interleaved rounds: what is compared takes turns, so that a drift of the machine hits all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def rotated(contenders: Sequence[str], index: int) -> list[str]:
    """Return the order of a round: each contender comes first, second... about as often."""
    if not contenders:
        return []
    shift = index % len(contenders)
    return [*contenders[shift:], *contenders[:shift]]
