"""What is stored: values come back equal and of the same types, frames are checked before anything is read."""

from __future__ import annotations

import enum
import functools
import math
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool.jobs.calls import JobCall
from lifepool.jobs.errors import JobNotCallable, JobNotStorable
from lifepool.jobs.functions import find, path_of, split_call
from lifepool.jobs.ids import new_id
from lifepool.jobs.sealing import Sealer
from lifepool.jobs.values import decode, digest, encode
from tests.jobs import tasks

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    | st.dates() | st.datetimes() | st.timedeltas() | st.decimals(allow_nan=False) | st.uuids() | st.times(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    | st.dictionaries(st.integers() | st.text("$"), inner),
    max_leaves=20,
)  # fmt: skip


def types_of(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value), [types_of(each) for each in value]
    if isinstance(value, dict):
        return dict, [(types_of(key), types_of(each)) for key, each in sorted(value.items(), key=repr)]
    return type(value)


@given(plain)
def test_what_json_carries_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    encoding, body = encode(value, "args", may_pickle=False)
    back = decode(encoding, body)
    assert encoding in "BTJ"
    assert back == value
    assert types_of(back) == types_of(value)


@pytest.mark.parametrize(
    "value",
    [
        {1, 2, 3},
        frozenset({"a", "b"}),
        math.inf,
        {"$": "tuple", "v": [1]},
        {(1, 2): {"$": 1}},
        datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        time(1, 2, tzinfo=timezone(timedelta(hours=2))),
        date(2026, 1, 2),
        Decimal("1.10"),
        UUID(int=7),
        "\ud800",
        b"",
        [b"one", {"two": b"two" * 1000}],
    ],
)
def test_some_values_that_need_care(value: Any) -> None:
    encoding, body = encode(value, "args", may_pickle=False)
    assert encoding in "BTJ"
    assert decode(encoding, body) == value


@pytest.mark.parametrize(
    ("one", "equal", "other"),
    [
        ({"b": 1, "a": [2]}, {"a": [2], "b": 1}, {"a": [2], "b": 2}),
        ({2: b"two", "1": b"one"}, {"1": b"one", 2: b"two"}, {"1": b"two", 2: b"one"}),
        ({b"x": 1, b"y": 2}, {b"y": 2, b"x": 1}, {b"y": 1, b"x": 2}),
        ({b"b", b"a", b"c", b"d"}, {b"d", b"c", b"a", b"b"}, {b"a", b"b", b"c", b"e"}),
        ((1, tasks.Point(1, 2)), (1, tasks.Point(1, 2)), (1, tasks.Point(2, 1))),
    ],
)
def test_equal_values_have_the_same_digest_in_whatever_order_they_were_filled(one: Any, equal: Any, other: Any) -> None:
    assert digest(one, "args", may_pickle=True) == digest(equal, "args", may_pickle=True)
    assert digest(one, "args", may_pickle=True) != digest(other, "args", may_pickle=True)


def test_the_order_of_a_dictionary_is_kept() -> None:
    value = {"b": 1, "a": {"z": 1, "y": 2}}
    assert list(decode(*encode(value, "args", may_pickle=False))) == ["b", "a"]
    assert encode(value, "args", may_pickle=False) == ("T", b'{"b":1,"a":{"z":1,"y":2}}')


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (([tasks.Point(1, 2)], {}), r"args\[0\]\[0\]"),
        ({"when": [Colour.RED]}, r"args\['when'\]\[0\].*Colour"),
        (datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")), "ZoneInfo"),
        (bytearray(b"x"), "bytearray"),
    ],
)
def test_what_json_can_not_carry_is_named_and_pickled_only_if_it_may_be(value: Any, path: str) -> None:
    with pytest.raises(JobNotStorable, match=path):
        encode(value, "args", may_pickle=False)
    encoding, body = encode(value, "args", may_pickle=True)
    assert (encoding, decode(encoding, body)) == ("P", value)


def test_integers_that_python_would_not_read_from_text_are_no_json() -> None:
    with pytest.raises(JobNotStorable, match="int"):
        encode(10**5000, "args", may_pickle=False)
    assert decode(*encode(10**4000, "args", may_pickle=False)) == 10**4000


def test_what_can_not_even_be_pickled_is_an_error() -> None:
    with pytest.raises(JobNotStorable, match="can't be pickled"):
        encode(lambda: 1, "args", may_pickle=True)
    nested: list[Any] = []
    for _ in range(sys.getrecursionlimit() + 10):
        nested = [nested]
    with pytest.raises(JobNotStorable, match="nested too deeply"):
        encode(nested, "args", may_pickle=True)


@pytest.mark.parametrize("body", [b"", b"\0\0\0\2\0\0\0\0{", b"\0\0\0\2\0\0\0\0{}more", b"\xff" * 20])
def test_invalid_data_is_an_error_and_nothing_else(body: bytes) -> None:
    with pytest.raises(JobNotCallable, match="can't be read"):
        decode("J", body)


# -- frames -----------------------------------------------------------------------------------------------------------


def test_a_signed_frame_is_opened_only_as_what_it_was_sealed() -> None:
    sealer = Sealer("secret")
    frame = sealer.seal("arguments", "job", "module:function", "P", b"body")
    assert bytes(sealer.open("arguments", "job", "module:function", frame)[1]) == b"body"
    for role, job, function, secret in [
        ("result", "job", "module:function", "secret"),
        ("arguments", "other", "module:function", "secret"),
        ("arguments", "job", "os:system", "secret"),
        ("arguments", "job", "module:function", "other"),
    ]:
        with pytest.raises(JobNotCallable, match="signature"):
            Sealer(secret).open(role, job, function, frame)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", range(4, 40))
def test_a_frame_of_which_a_byte_was_changed_is_not_opened(at: int) -> None:
    sealer = Sealer("secret")
    frame = bytearray(sealer.seal("arguments", "job", "module:function", "P", b"body"))
    frame[at] ^= 1
    with pytest.raises(JobNotCallable):
        sealer.open("arguments", "job", "module:function", bytes(frame))


def test_a_json_frame_can_not_be_turned_into_a_pickle() -> None:
    sealer = Sealer("secret")
    frame = sealer.seal("arguments", "job", "module:function", "J", b"body")
    with pytest.raises(JobNotCallable, match="signature"):
        sealer.open("arguments", "job", "module:function", frame.replace(b"L1J", b"L1P", 1))


def test_with_a_secret_nothing_unsigned_is_opened_and_without_one_no_pickle() -> None:
    unsigned = Sealer(None).seal("arguments", "job", "module:function", "J", b"body")
    assert bytes(Sealer(None).open("arguments", "job", "module:function", unsigned)[1]) == b"body"
    with pytest.raises(JobNotCallable, match="not signed"):
        Sealer("secret").open("arguments", "job", "module:function", unsigned)
    pickled = Sealer("secret").seal("arguments", "job", "module:function", "P", b"body")
    with pytest.raises(JobNotCallable, match="no secret to check it"):
        Sealer(None).open("arguments", "job", "module:function", pickled)


def test_a_newer_format_and_no_format_are_errors_that_say_so() -> None:
    for frame, message in [
        (b"L2J-body", "payload format 2, this version reads 1"),
        (b"nonsense", "no payload"),
        (b"L1X-body", "encoding 'X'"),
    ]:
        with pytest.raises(JobNotCallable, match=message):
            Sealer(None).open("arguments", "job", "module:function", frame)


# -- functions --------------------------------------------------------------------------------------------------------


class Holder:
    @staticmethod
    def static(value: int) -> int:
        return value

    def method(self) -> None:
        pass


def test_functions_are_found_again_by_their_path() -> None:
    for function in (tasks.add, Holder.static, len, math.sqrt):
        assert find(path_of(function)) is function


def test_what_no_server_could_find_again_is_refused() -> None:
    def local() -> None:
        pass

    for function in (local, lambda: 1, Holder().method, Holder(), 7):
        with pytest.raises(JobNotStorable):
            path_of(function)


def test_a_name_that_stands_for_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    original = tasks.add
    monkeypatch.setattr(tasks, "add", len)
    with pytest.raises(JobNotStorable, match="is something else"):
        path_of(original)


@pytest.mark.parametrize("path", ["no.such.module:f", "tests.jobs.tasks:nothing", "tests.jobs.tasks:os", "nonsense"])
def test_what_is_not_there_any_more_is_an_error_that_says_why(path: str) -> None:
    with pytest.raises(JobNotCallable, match="can't be"):
        find(path)


def test_partials_are_taken_apart() -> None:
    call = functools.partial(functools.partial(tasks.echo, 1, again=False), again=True)
    assert split_call(call, (2,)) == (tasks.echo, (1, 2), {"again": True})


def test_a_function_of_the_script_is_known_by_the_scripts_module(monkeypatch: pytest.MonkeyPatch) -> None:
    main: Any = type(sys)("__main__")
    main.__file__ = tasks.__file__
    main.__spec__ = None
    monkeypatch.setitem(sys.modules, "__main__", main)

    def function() -> None:
        pass

    function.__module__, function.__qualname__ = "__main__", "add"
    with pytest.raises(JobNotStorable, match="put it into a module"):
        path_of(function)  # `import tasks` would not find it
    monkeypatch.syspath_prepend(tasks.__file__.rpartition("/")[0])
    assert path_of(function) == "tasks:add"
    main.__spec__ = type("Spec", (), {"name": "package.script"})  # python -m package.script
    assert path_of(function) == "package.script:add"


def test_a_call_does_it_all_and_has_the_functions_name() -> None:
    encoding, body = encode(((2,), {"other": 3}), "args", may_pickle=False)
    call = JobCall("tests.jobs.tasks:add", encoding, body, may_pickle=False)
    assert call.__qualname__ == "add"
    assert decode(*call()) == 5


def test_ids_are_in_order_of_time_and_unlike_each_other() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [each[:13] for each in ids] == sorted(each[:13] for each in ids)
    assert UUID(ids[0]).version == 7
