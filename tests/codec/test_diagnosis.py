"""The smallest part at fault is found and named."""

from __future__ import annotations

import collections
import pickle
import threading
from functools import partial
from typing import Any

import pytest

from lifepool._usercode.display import MAX_REASON_CHARS
from lifepool.backends.local.codec import diagnosis
from lifepool.backends.local.codec.diagnosis import MAX_PATH_CHARS, SEARCH_S, explain
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


class Clock:
    """Each look at it takes a hundredth of a search."""

    def __init__(self) -> None:
        self.looks = 0

    def monotonic(self) -> float:
        self.looks += 1
        return self.looks * SEARCH_S / 100


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(diagnosis, "time", made)
    monkeypatch.setattr(explain, "__kwdefaults__", {"search_s": SEARCH_S})
    return made


class Counting:
    """Counts how often it is pickled."""

    def __init__(self) -> None:
        self.pickled = 0

    def __reduce__(self) -> tuple[object, ...]:
        self.pickled += 1
        return (str, ())


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_a_huge_value_is_given_up_on(clock: Clock, depth: int) -> None:
    value: Any = [*map(Slotted, range(1000)), LOCK]
    for _ in range(depth):
        value = [value, LOCK]
    path, reason = found(value)
    assert path == "it"
    assert "lock" in reason
    assert clock.looks < 500


def test_the_size_of_what_is_of_built_in_types_is_bounded_too(clock: Clock) -> None:
    value = [["x" * 1000] for _ in range(10_000)]
    assert found([*map(str, range(10_000)), *(2 * each for each in value), LOCK])[0].startswith("it")
    assert clock.looks < 500


def test_the_only_argument_is_named_without_a_search(clock: Clock) -> None:
    assert found(([*map(Slotted, range(1000)), LOCK],))[0] == "it[0]"


def test_a_search_pickles_each_part_once_and_the_culprit_twice() -> None:
    counting = [Counting() for _ in range(10)]
    path, _ = found([counting, [[[[[LOCK]]]]]])
    assert path == "it[1][0][0][0][0][0]"
    assert [each.pickled for each in counting] == [2] * 10  # once by whoever could not pickle it


def nested(depth: int, inner: object) -> Any:
    for _ in range(depth):
        inner = [inner]
    return inner


def test_what_is_nested_too_deeply_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_pickled_again", None)
    path, reason = found((nested(50_000, 1),))
    assert path == "it[0]"
    assert reason.startswith("RecursionError: ")


def test_a_long_way_is_cut_in_the_middle() -> None:
    path, _ = found({"first": nested(200, [{"last": LOCK}])})
    assert path.startswith("it['first'][0][0]")
    assert path.endswith("['last']")
    assert len(path) <= MAX_PATH_CHARS


def test_a_long_reason_is_cut() -> None:
    _, reason = explain(1, "it", ValueError("x" * 100_000))
    assert len(reason) < MAX_REASON_CHARS + 50


def test_a_key_of_any_size_is_shown_in_a_few_characters() -> None:
    path, _ = found({tuple(range(100_000)): LOCK, "x" * 100_000: 1})
    assert len(path) < 80


class MadeByReduce:
    """What can't be pickled is not a part of it."""

    def __reduce__(self) -> tuple[object, ...]:
        return (list, ([SHARED, 5, lambda: None],))


SHARED = [5]


def test_the_last_part_is_named_if_it_makes_what_can_not_be_pickled() -> None:
    assert found([SHARED, MadeByReduce()])[0] == "it[1]"


class FailsAfterItsItems(list[int]):
    def __reduce__(self) -> tuple[object, ...]:
        return (list, (), None, self.items())

    def items(self) -> Any:
        yield SHARED
        raise RuntimeError("no more")


def test_an_iterator_that_fails_is_not_blamed_on_its_last_item() -> None:
    assert found([SHARED, FailsAfterItsItems()])[0] == "it[1]"


def test_what_a_default_dictionary_makes_is_found() -> None:
    assert found(collections.defaultdict(lambda: 1))[0] == "it.default_factory"


def test_nothing_of_the_values_own_is_run_but_what_pickle_runs() -> None:
    class Watched:
        def __init__(self) -> None:
            self.lock = LOCK

        def __getattr__(self, name: str) -> Any:
            if not name.startswith("__"):
                raise AssertionError(f"asked for {name}")
            raise AttributeError(name)

        @property
        def expensive(self) -> object:
            raise AssertionError("a property was run")

    assert found([Watched()])[0].startswith("it[0]")


def test_a_value_that_can_not_be_shown_does_not_break_the_diagnosis() -> None:
    assert found({UglyKey(): 1})[0] == "it key <UglyKey>"


def test_an_error_without_a_text_is_named_by_its_class() -> None:
    assert explain(1, "it", UglyError()) == ("it", "UglyError")
