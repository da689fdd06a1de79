"""Calls as bytes: functions by name are pickled once, functions that are values each time."""

from __future__ import annotations

import functools
import math
import operator
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import PayloadTooLarge, TaskNotPicklable
from lifepool._transfer.reference import Reference
from lifepool.backends.local.codec import calls
from lifepool.backends.local.codec.answers import decode_value, encode_value
from lifepool.backends.local.codec.calls import CallDecoder, CallEncoder
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT = 1 << 20


class Counter:
    """A function that is a value: it carries state."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count


def there(
    encoder: CallEncoder, decoder: CallDecoder, fn: Callable[..., Any], *args: Any
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Encode and decode a call."""
    call = encoder.encode(fn, args)
    assert call.size == len(call.function) + len(call.arguments)
    return decoder.decode(memoryview(call.function + call.arguments), len(call.function))


@pytest.mark.parametrize(
    ("fn", "args", "answer"),
    [
        (tasks.double, (21,), 42),
        (math.factorial, (5,), 120),
        (len, ("four",), 4),
        (int, ("7",), 7),
        (functools.partial(tasks.concatenate, separator="+"), ("a", "b"), "a+b"),
        ("abc".upper, (), "ABC"),
        ([3, 1].copy, (), [3, 1]),
        (tasks.Point(1, 2).__eq__, (tasks.Point(1, 2),), True),
        (operator.attrgetter("x"), (tasks.Point(3, 4),), 3),
        (Reference(tasks.double), (4,), 8),
        (dict.fromkeys, ("ab",), {"a": None, "b": None}),
    ],
)
def test_a_call_arrives_as_it_was_sent_the_second_time_too(
    fn: Callable[..., Any], args: tuple[Any, ...], answer: object
) -> None:
    encoder, decoder = CallEncoder(LIMIT), CallDecoder()
    for _ in range(3):
        arrived, arguments = there(encoder, decoder, fn, *args)
        assert arrived(*arguments) == answer


def test_a_function_by_name_is_pickled_and_read_once() -> None:
    encoder, decoder = CallEncoder(LIMIT), CallDecoder()
    first, second = encoder.encode(tasks.double, (1,)), encoder.encode(tasks.double, (2,))
    assert first.function is second.function
    assert there(encoder, decoder, tasks.double)[0] is there(encoder, decoder, tasks.double)[0]


def test_a_function_that_is_a_value_is_fresh_each_time() -> None:
    encoder, decoder = CallEncoder(LIMIT), CallDecoder()
    counter = Counter()
    for _ in range(2):
        arrived, _ = there(encoder, decoder, counter)
        assert arrived() == 1
    counter.count = 10
    assert there(encoder, decoder, counter)[0]() == 11


def test_a_bound_method_takes_its_object_as_it_is_now() -> None:
    encoder, decoder = CallEncoder(LIMIT), CallDecoder()
    words = ["a"]
    assert there(encoder, decoder, words.copy)[0]() == ["a"]
    words.append("b")
    assert there(encoder, decoder, words.copy)[0]() == ["a", "b"]
    there(encoder, decoder, words.append)[0]("c")
    assert there(encoder, decoder, words.copy)[0]() == ["a", "b"]


def test_the_tables_of_functions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "FUNCTIONS_KEPT", 3)
    encoder, decoder = CallEncoder(LIMIT), CallDecoder()
    for fn in (abs, len, min, max, sum, any, all, abs, len):
        assert there(encoder, decoder, fn)[0] is fn
        assert len(encoder._known) <= 3
        assert len(decoder._known) <= 3


def test_the_limit_is_exact() -> None:
    size = CallEncoder(LIMIT).encode(tasks.echo, (b"x" * 100,)).size
    assert CallEncoder(size).encode(tasks.echo, (b"x" * 100,)).size == size
    with pytest.raises(PayloadTooLarge) as caught:
        CallEncoder(size - 1).encode(tasks.echo, (b"x" * 100,))
    assert (caught.value.size, caught.value.limit) == (size, size - 1)


def test_bytes_that_are_no_call_are_refused() -> None:
    with pytest.raises(TaskNotPicklable, match="the worker could not rebuild it"):
        CallDecoder().decode(memoryview(b"neither nor"), 4)


def test_values_arrive_as_they_were_sent() -> None:
    for value in (None, 0, "text", b"x" * 100_000, [tasks.Point(1, 2)], {1: {2: {3}}}):
        assert decode_value(memoryview(encode_value(value, LIMIT))) == value


def test_a_value_above_the_limit_is_refused() -> None:
    with pytest.raises(PayloadTooLarge, match="result"):
        encode_value(bytes(1000), 1000)


def test_a_value_that_can_not_be_rebuilt_is_refused() -> None:
    with pytest.raises(TaskNotPicklable, match="the server could not rebuild it"):
        decode_value(memoryview(b"garbage"))
