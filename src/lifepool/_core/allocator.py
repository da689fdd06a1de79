"""The allocator of the shared memory: which parts of a file are taken. Arithmetic only: no memory is touched here.

First fit, lowest first: memory that was used before is used again, because pages that are in the page tables already
are written many times faster than new ones. A slot may be reserved larger than it will be, and given its true size when
that is known: the space is sparse, and what is not written costs nothing.
"""

from __future__ import annotations

from bisect import bisect_left

from lifepool.errors import InternalError

#: Holes looked at before the space above all slots is taken: bounds the search when the arena is fragmented.
HOLES_TRIED = 64


class Slot:
    """A part of the file: bytes from ``start`` up to, but not including, ``end``."""

    __slots__ = ("end", "is_free", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start: int = start
        self.end: int = end
        self.is_free: bool = False

    def __repr__(self) -> str:
        return f"Slot({self.start}, {self.end}{', free' if self.is_free else ''})"


class Arena:
    """Hand out slots between two offsets.

    Args:
        start: The first offset that may be used; a multiple of ``grain``.
        end: The offset at which it ends; a multiple of ``grain``.
        grain: Slots begin and end at multiples of this; the size of a page, so that no page belongs to two slots.
    """

    def __init__(self, start: int, end: int, grain: int) -> None:
        self._grain = grain
        self._size = end - start
        # Hole number i goes from _starts[i] to _ends[i]. Sorted; holes neither touch nor are empty.
        self._starts = [start] if end > start else []
        self._ends = [end] if end > start else []

    @property
    def taken(self) -> int:
        """Return how many bytes are in slots."""
        return self._size - sum(self._ends) + sum(self._starts)

    def holes(self) -> list[tuple[int, int]]:
        """Return what is free, as (start, end), lowest first."""
        return list(zip(self._starts, self._ends, strict=True))

    def reserve(self, size: int) -> Slot | None:
        """Take a slot of at least ``size`` bytes; return None if no such hole is there, or none is quickly found."""
        size = self._rounded(size)
        holes = len(self._starts)
        for hole in range(min(holes, HOLES_TRIED)):
            if self._ends[hole] - self._starts[hole] >= size:
                return self._take(hole, size)
        if holes > HOLES_TRIED and self._ends[-1] - self._starts[-1] >= size:
            return self._take(holes - 1, size)
        return None

    def extend(self, slot: Slot, size: int) -> bool:
        """Make a slot ``size`` bytes long if the space behind it is free; return whether it was."""
        end = slot.start + self._rounded(size)
        hole = bisect_left(self._starts, slot.end)
        if hole == len(self._starts) or self._starts[hole] != slot.end or self._ends[hole] < end:
            return False
        self._take(hole, end - slot.end)
        slot.end = end
        return True

    def shrink(self, slot: Slot, size: int) -> None:
        """Give back what a slot has beyond ``size`` bytes."""
        end = slot.start + self._rounded(size)
        if end < slot.end:
            rest = Slot(end, slot.end)
            slot.end = end
            self.free(rest)

    def free(self, slot: Slot) -> None:
        """Give a slot back.

        Raises:
            InternalError: If it was given back before.
        """
        starts, ends = self._starts, self._ends
        above = bisect_left(starts, slot.start)
        overlaps = (above < len(starts) and starts[above] < slot.end) or (above > 0 and ends[above - 1] > slot.start)
        if slot.is_free or overlaps:
            raise InternalError(f"{slot} was given back twice")
        slot.is_free = True
        if above < len(starts) and starts[above] == slot.end:
            starts[above] = slot.start
        else:
            starts.insert(above, slot.start)
            ends.insert(above, slot.end)
        if above > 0 and ends[above - 1] == slot.start:
            ends[above - 1] = ends.pop(above)
            starts.pop(above)

    def _take(self, hole: int, size: int) -> Slot:
        start = self._starts[hole]
        end = start + size
        if end == self._ends[hole]:
            self._starts.pop(hole)
            self._ends.pop(hole)
        else:
            self._starts[hole] = end
        return Slot(start, end)

    def _rounded(self, size: int) -> int:
        return max(1, -(-size // self._grain)) * self._grain
