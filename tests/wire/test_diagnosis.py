"""The smallest part at fault is found and named."""

from __future__ import annotations

import pickle
import threading
from functools import partial
from typing import Any

import pytest

from lifepool.backends.local.wire.diagnosis import MAX_PARTS, explain
from tests import tasks

LOCK = threading.Lock()


class Slotted:
    __slots__ = ("inner", "unset")

    def __init__(self, inner: object) -> None:
        self.inner = inner


class SlottedChild(Slotted):
    __slots__ = ("other",)


class HasProperty:
    def __init__(self) -> None:
        self.held = LOCK

    @property
    def raising(self) -> object:
        raise RuntimeError


class UglyKey:
    """Can't be shown, and can't be pickled."""

    def __repr__(self) -> str:
        raise RuntimeError

    def __reduce__(self) -> tuple[object, ...]:
        raise RuntimeError("no")


class UglyError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def found(value: object) -> tuple[str, str]:
    try:
        pickle.dumps(value)
    except Exception as error:
        return explain(value, "it", error)
    raise AssertionError("this can be pickled")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (LOCK, "it"),
        ([1, LOCK], "it[1]"),
        ((1, (2, LOCK)), "it[1][1]"),
        ({"key": LOCK}, "it['key']"),
        ({LOCK: 1}, f"it key {LOCK!r:.60}"),
        ({"a": {"b": [{LOCK}]}}, f"it['a']['b'][0]{{{LOCK!r:.60}}}"),
        (frozenset([LOCK]), f"it{{{LOCK!r:.60}}}"),
        (tasks.Job(), "it.session._lock"),
        (partial(print, LOCK), "it.args[0]"),
        (partial(print, end=LOCK), "it.keywords['end']"),
        (partial(lambda: None), "it.func"),
        (tasks.Session().greet, "it.__self__._lock"),
        (Slotted(LOCK), "it.inner"),
        (SlottedChild([LOCK]), "it.inner[0]"),
        (HasProperty(), "it.held"),
        (lambda: None, "it"),
        (tasks.RefusesPickle(), "it"),
    ],
)
def test_the_part_is_named_by_the_way_to_it(value: object, path: str) -> None:
    assert found(value)[0] == path


def test_the_reason_is_that_of_the_part() -> None:
    assert found([1, LOCK])[1] == "TypeError: cannot pickle '_thread.lock' object"


def test_a_cycle_comes_to_an_end() -> None:
    cycle: list[Any] = []
    cycle += [cycle, LOCK]
    assert found(cycle)[0] == "it[1]"
    cycle.insert(0, {"more": cycle})
    assert found(cycle)[0].startswith("it[")


def test_a_huge_value_is_given_up_on() -> None:
    path, reason = found([*range(MAX_PARTS + 10), LOCK])
    assert path == "it"
    assert "lock" in reason


def test_a_value_that_can_not_be_shown_does_not_break_the_diagnosis() -> None:
    assert found({UglyKey(): 1})[0] == "it key <UglyKey>"


def test_an_error_without_a_text_is_named_by_its_class() -> None:
    assert explain(1, "it", UglyError()) == ("it", "UglyError")
