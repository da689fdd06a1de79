"""Large texts arrive as they were, whatever they are made of, in the pickle or beside it, whole or in pieces."""

from __future__ import annotations

import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool import PayloadTooLarge, Pool
from lifepool.backends.local.codec import large_text as text
from lifepool.backends.local.codec.answers import encode_value
from lifepool.backends.local.codec.calls import CallDecoder, CallEncoder
from lifepool.backends.local.codec.large_text import (
    LARGE,
    LARGE_ASCII,
    LARGE_WIDE,
    LargeText,
    likely_bytes,
    placeholder,
    placeholders,
)
from lifepool.backends.local.codec.out_of_band import load_out_of_band, write_with_texts
from lifepool.backends.local.codec.sink import BIG_BYTES
from lifepool.backends.local.shared.arena import Arguments
from tests import tasks
from tests.codec.documents import Document, Name

MIB = 1 << 20

#: Of one, two and four bytes; lone surrogates, and two that would be one character together.
TEXTS = ("a", "é", "水", "😀", "\udc80", "\ud83d\ude00", "aé", "a水", "a😀", "é😀", "水\udc80")


class File:
    """A file in memory that can be written anew from some point on."""

    def __init__(self) -> None:
        self.data = bytearray()

    @property
    def size(self) -> int:
        return len(self.data)

    @size.setter
    def size(self, size: int) -> None:
        del self.data[size:]

    def write(self, data: Any) -> int:
        raw = data.raw() if isinstance(data, pickle.PickleBuffer) else data
        self.data += raw
        return len(raw)


def block_of(value: object) -> memoryview:
    """Return the block that is written into shared memory for a value."""
    file = File()
    write_with_texts(file, value, 5)
    return memoryview(bytes(file.data))


def both_ways(value: str) -> tuple[str, str]:
    """Send a text in the pickle and beside it."""
    return pickle.loads(pickle.dumps(LargeText(value), 5)), load_out_of_band(block_of(LargeText(value)))


def is_same(back: str, value: str) -> bool:
    """Also as a dictionary sees it, and in no more memory: CPython has one form for each text."""
    return back == value and hash(back) == hash(value) and sys.getsizeof(back) == sys.getsizeof(value[:1] + value[1:])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_PIECE", 1000)
    monkeypatch.setattr(text, "_NARROW_PIECE", 500)
    monkeypatch.setattr(text, "_PIECE_READ", 4096)


@pytest.mark.parametrize("unit", TEXTS, ids=ascii)
def test_a_text_of_any_width_comes_back(unit: str) -> None:
    value = unit * 5001
    assert all(is_same(back, value) for back in both_ways(value))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("unit", TEXTS[1:], ids=ascii)
@pytest.mark.parametrize("at", [0, 999, 4_999, 9_998])
def test_in_pieces_one_wide_character_among_narrow_ones_comes_back(unit: str, at: int) -> None:
    value = "a" * at + unit + "a" * (9_999 - at)
    assert all(is_same(back, value) for back in both_ways(value))


@pytest.mark.usefixtures("small_pieces")
@given(st.text(st.characters(), min_size=1), st.integers(1, 9000))
def test_what_was_written_comes_back(value: str, times: int) -> None:
    value *= -(-times // len(value))
    assert all(is_same(back, value) for back in both_ways(value))


def test_a_hint_that_is_wrong_costs_time_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getsizeof", lambda *_: 0)
    for unit in TEXTS:
        assert both_ways(unit * 5000) == (unit * 5000, unit * 5000)


def test_a_text_has_no_more_bytes_than_it_has_in_memory() -> None:
    for unit, width in (("a", 1), ("é", 1), ("水", 2), ("😀", 4)):
        assert len(block_of(LargeText(unit * 100_000))) < width * 100_000 + 300


def test_what_is_expected_of_a_text_is_what_it_takes() -> None:
    for unit in ("a", "é", "水", "😀"):
        value = LargeText(unit * 100_000)
        assert 0 <= len(block_of(value)) - value.likely_bytes < 300
    narrow, wide = "a" * 100_000, "水" * 100_000
    assert likely_bytes(placeholders((narrow, wide, 1)), 150_000) == 300_000
    assert likely_bytes((narrow, 1), 150_000) == 150_000


def test_a_text_that_is_big_only_with_its_own_width_goes_straight_into_shared_memory() -> None:
    value = "“quoted” " * 5_000  # two bytes for each character, and fewer characters than make a payload big
    assert len(value) < BIG_BYTES < 2 * len(value)
    shared = Arguments(MIB)
    call = CallEncoder(MIB, shared).encode(tasks.echo, (value,), size=len(value))
    assert call.shared
    assert not shared.expects_big  # it was not pickled before it was seen to be big
    call.lease = None
    shared.close()


def test_only_large_texts_that_gain_by_it_have_a_placeholder() -> None:
    for value in (
        "é" * (LARGE - 1),
        "a" * (LARGE_ASCII - 1),
        b"a" * MIB,
        ["é" * MIB],
        Name("é" * MIB),
        "😀" * (MIB // 4),
        1,
    ):
        assert placeholder(value) is value
    for value in ("é" * LARGE, "水" * LARGE, "a" * LARGE_ASCII, "😀" * LARGE_WIDE):
        assert type(placeholder(value)) is LargeText


def test_a_text_that_is_there_twice_is_written_once() -> None:
    value = "é" * MIB
    block = block_of(placeholders((value, 1, value)))
    assert len(block) < 1.1 * MIB
    first, number, second = load_out_of_band(block)
    assert (first, number) == (value, 1)
    assert first is second


def test_other_buffers_stay_in_the_pickle_and_are_copied() -> None:
    value = "é" * 5000
    buffers = (pickle.PickleBuffer(b"read only"), pickle.PickleBuffer(bytearray(b"writable")))
    back = load_out_of_band(block_of((LargeText(value), *buffers, LargeText("水" * 5000))))
    assert back == (value, b"read only", bytearray(b"writable"), "水" * 5000)
    assert [type(part) for part in back] == [str, bytes, bytearray, str]


def test_a_text_that_fits_the_limit_as_utf8_is_not_refused() -> None:
    value = "水" + "a" * 100_000  # 200 kB with two bytes each
    encoder = CallEncoder(110_000)
    call = encoder.encode(tasks.echo, (value,), size=len(value))
    fn, args = CallDecoder().decode(memoryview(call.function + call.arguments), len(call.function))
    assert fn(*args) == value
    assert pickle.loads(encode_value(value, 110_000)) == value
    with pytest.raises(PayloadTooLarge):
        encode_value(value, 100_000)


@pytest.mark.all_loops
@pytest.mark.parametrize("unit", ["a", "é", "水", "a😀", "a" * 998 + "\ud83d\ude00"], ids=lambda unit: ascii(unit[-2:]))
async def test_large_texts_go_to_a_worker_and_back(unit: str) -> None:
    async with Pool(max_workers=1) as pool:
        for size in (5000, 100_000, LARGE_WIDE):
            await go_there_and_back(pool, unit * -(-size // len(unit)))


async def go_there_and_back(pool: Pool, value: str) -> None:
    assert await pool.run(tasks.echo, value) == value
    assert await pool.submit(tasks.echo, value) == value
    document = Document("a title", value, [value, "short"])
    back = await pool.run(tasks.echo, document)
    assert back == document
    assert back.body is back.parts[0]
    assert await pool.run(tasks.echo, [value, {"text": (value, b"bytes")}]) == [value, {"text": (value, b"bytes")}]
    name = await pool.run(tasks.echo, Name(value))
    assert name == value
    assert type(name) is Name
