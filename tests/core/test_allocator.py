"""The arithmetic of shared memory, against a model that marks every grain."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from lifepool._core.allocator import HOLES_TRIED, Arena, Slot
from lifepool.errors import InternalError

GRAIN = 16
START = 2 * GRAIN
GRAINS = 40
END = START + GRAINS * GRAIN
sizes = st.integers(0, 12 * GRAIN)


def grains(size: int) -> int:
    return max(1, (size + GRAIN - 1) // GRAIN)


class ArenaMachine(RuleBasedStateMachine):
    """A slot is a run of grains; the model is who owns which grain."""

    slots = Bundle("slots")

    def __init__(self) -> None:
        super().__init__()
        self.arena = Arena(START, END, GRAIN)
        self.owner: list[Slot | None] = [None] * GRAINS

    def mark(self, slot: Slot) -> None:
        self.owner = [None if o is slot else o for o in self.owner]
        if not slot.is_free:
            for grain in range((slot.start - START) // GRAIN, (slot.end - START) // GRAIN):
                assert self.owner[grain] is None
                self.owner[grain] = slot

    def first_fit(self, count: int) -> int | None:
        for first in range(GRAINS - count + 1):
            if self.owner[first : first + count] == [None] * count:
                return START + first * GRAIN
        return None

    @rule(target=slots, size=sizes)
    def reserve(self, size: int) -> Any:
        expected = self.first_fit(grains(size))
        slot = self.arena.reserve(size)
        if slot is None:
            assert expected is None
            slot = Slot(0, 0)
            slot.is_free = True
        else:
            assert (slot.start, slot.end) == (expected, slot.start + grains(size) * GRAIN)
            self.mark(slot)
        return slot

    @rule(slot=slots, size=sizes)
    def extend(self, slot: Slot, size: int) -> None:
        if slot.is_free or slot.start + size <= slot.end:
            return
        before, after = (slot.end - START) // GRAIN, (slot.start - START) // GRAIN + grains(size)
        is_possible = after <= GRAINS and self.owner[before:after] == [None] * (after - before)
        assert self.arena.extend(slot, size) == is_possible
        assert slot.end == (START + after * GRAIN if is_possible else START + before * GRAIN)
        self.mark(slot)

    @rule(slot=slots, size=sizes)
    def shrink(self, slot: Slot, size: int) -> None:
        if not slot.is_free:
            end = min(slot.end, slot.start + grains(size) * GRAIN)
            self.arena.shrink(slot, size)
            assert slot.end == end
            self.mark(slot)

    @rule(slot=consumes(slots))
    def free(self, slot: Slot) -> None:
        if not slot.is_free:
            self.arena.free(slot)
            self.mark(slot)
        with pytest.raises(InternalError):
            self.arena.free(slot)

    @invariant()
    def the_holes_are_the_grains_without_an_owner(self) -> None:
        is_free = [False] * GRAINS
        for start, end in self.arena.holes():
            assert start < end
            for grain in range((start - START) // GRAIN, (end - START) // GRAIN):
                is_free[grain] = True
        assert is_free == [owner is None for owner in self.owner]
        assert self.arena.taken == sum(owner is not None for owner in self.owner) * GRAIN

    @invariant()
    def holes_do_not_touch(self) -> None:
        holes = self.arena.holes()
        assert all(a[1] < b[0] for a, b in pairwise(holes))


ArenaMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestArena = ArenaMachine.TestCase


def test_memory_that_was_used_before_is_used_again() -> None:
    arena = Arena(0, 100 * GRAIN, GRAIN)
    starts = set()
    for _ in range(20):
        slot = arena.reserve(3 * GRAIN)
        assert slot is not None
        starts.add(slot.start)
        arena.free(slot)
    assert starts == {0}


def test_nothing_fits_into_an_arena_without_room() -> None:
    assert Arena(GRAIN, GRAIN, GRAIN).reserve(1) is None


def test_in_tatters_the_space_above_everything_is_taken_without_a_long_search() -> None:
    arena = Arena(0, 1000 * GRAIN, GRAIN)
    slots = [arena.reserve(GRAIN) for _ in range(2 * HOLES_TRIED + 2)]
    for slot in slots[::2]:
        assert slot is not None
        arena.free(slot)
    assert len(arena.holes()) > HOLES_TRIED
    slot = arena.reserve(2 * GRAIN)
    assert slot is not None
    assert slot.start == len(slots) * GRAIN


def test_in_tatters_and_full_above_there_is_none() -> None:
    count = 2 * HOLES_TRIED + 2
    arena = Arena(0, count * GRAIN, GRAIN)
    slots = [arena.reserve(GRAIN) for _ in range(count)]
    for slot in slots[::2]:
        assert slot is not None
        arena.free(slot)
    assert arena.reserve(2 * GRAIN) is None


def test_giving_back_twice_is_our_bug_also_when_somebody_else_has_it_by_now() -> None:
    arena = Arena(0, 10 * GRAIN, GRAIN)
    slot = arena.reserve(GRAIN)
    assert slot is not None
    arena.free(slot)
    again = arena.reserve(GRAIN)
    assert again is not None
    with pytest.raises(InternalError, match=r"Slot\(0, 16, free\) was given back twice"):
        arena.free(slot)
