"""Large texts arrive as they were, whatever they are made of, and are not copied where that can be saved."""

from __future__ import annotations

import ctypes
import errno
import mmap
import pickle
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool import Pool
from lifepool._core.allocator import Slot
from lifepool.backends.local.codec import large_text as text
from lifepool.backends.local.codec.large_text import LARGE, LARGE_OTHER, LargeText, placeholder, placeholders, rebuild
from lifepool.backends.local.codec.sink import pickle_into
from lifepool.backends.local.shared.copying import address_of
from tests import tasks

#: Of one, two, three and four bytes; a surrogate, which UTF-8 knows only by leave.
CHARACTERS = "aé水😀\udc80"


def there_and_back(value: str) -> str:
    back: str = pickle.loads(pickle.dumps(LargeText(value), 5))
    return back


def is_same(back: str, value: str) -> bool:
    """Also as a dictionary sees it, and in no more memory: CPython has one form for each text."""
    return back == value and hash(back) == hash(value) and sys.getsizeof(back) == sys.getsizeof(value[:1] + value[1:])


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "_PIECE", 2003)


@pytest.mark.parametrize("character", CHARACTERS)
@pytest.mark.parametrize("length", [1_000_000, 1_000_001])
def test_a_text_of_any_width_comes_back(character: str, length: int) -> None:
    assert is_same(there_and_back(character * length), character * length)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("before", range(8))
def test_pieces_may_end_in_the_middle_of_a_character(before: int) -> None:
    for character in CHARACTERS[1:]:
        value = "a" * before + character * 10_000
        assert is_same(there_and_back(value), value)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("character", CHARACTERS[1:])
@pytest.mark.parametrize("at", [0, 4_999, 9_999])
def test_one_wide_character_among_narrow_ones_decides_the_width(character: str, at: int) -> None:
    value = "a" * at + character + "a" * (9_999 - at)
    assert is_same(there_and_back(value), value)


@given(st.text(min_size=1), st.integers(1, 3000))
def test_what_was_pickled_comes_back(value: str, times: int) -> None:
    value = value * -(-max(5000, times) // len(value))
    assert is_same(there_and_back(value), value)


def test_only_large_texts_have_a_placeholder() -> None:
    for value in ("a" * (LARGE - 1), "é" * (LARGE_OTHER - 1), b"a" * LARGE, ["a" * LARGE], 1):
        assert placeholder(value) is value
    assert type(placeholder("a" * LARGE)) is LargeText
    assert type(placeholder("é" * LARGE_OTHER)) is LargeText


def test_a_text_that_is_there_twice_is_pickled_once() -> None:
    value = "a" * LARGE
    pickled = pickle.dumps(placeholders((value, 1, value)), 5)
    assert len(pickled) < 1.1 * LARGE
    first, number, second = pickle.loads(pickled)
    assert (first, number) == (value, 1)
    assert first is second


class Written:
    """A place that keeps what is written to it."""

    def __init__(self) -> None:
        self.parts: list[Any] = []

    def reserve(self, size: int) -> Slot:
        return Slot(0, 1 << 40)

    def grow(self, slot: Slot, used: int, size: int) -> Slot:
        raise AssertionError("it is large enough")

    def write(self, offset: int, data: Any) -> None:
        self.parts.append(data)


def test_an_ascii_text_is_written_from_its_own_memory() -> None:
    value = "a" * LARGE
    place = Written()
    pickle_into(place, LargeText(value), 2 * LARGE)
    largest = max(place.parts, key=len)
    assert len(largest) == LARGE
    address = text._functions().utf8(value, None)  # type: ignore[union-attr]
    assert address_of(largest) == address


@pytest.mark.parametrize(
    ("length", "widest"),
    [(9_999, 0x7F), (10_001, 0x7F), (10_000, 0xFF), (9_000, 0xFFFF), (11_000, 0xFFFF)],
    ids=lambda value: str(value),
)
def test_a_text_that_is_not_what_was_said_is_read_as_pickle_would(length: int, widest: int) -> None:
    value = "水" * 10_000
    data = bytearray(value.encode())
    assert is_same(rebuild(data, length, widest), value)


def test_what_is_no_utf8_is_no_text() -> None:
    with pytest.raises(UnicodeDecodeError):
        rebuild(bytearray(b"a" * 5000 + b"\xff"), 5001, 0xFF)


def test_without_memory_for_its_utf8_a_text_is_pickled_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(mmap, "mmap", refused)
    assert LargeText("é" * 5000).__reduce__() == (str, ("é" * 5000,))
    assert there_and_back("é" * 5000) == "é" * 5000


def test_a_text_that_knows_its_utf8_already_comes_back() -> None:
    value = "é" * 300_000
    text._functions().utf8(value, None)  # type: ignore[union-attr]
    assert sys.getsizeof(value) // len(value) == 3
    assert is_same(there_and_back(value), value)


def test_the_interface_is_ours_alone() -> None:
    assert text._functions() is not None
    assert ctypes.pythonapi.PyUnicode_New.argtypes is None


def test_without_the_interface_texts_are_pickled_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    pickled = pickle.dumps(LargeText("a" * LARGE), 5)
    monkeypatch.setattr(text, "_functions", lambda: None)
    assert placeholder("a" * LARGE) == "a" * LARGE
    assert pickle.loads(pickled) == "a" * LARGE
    assert there_and_back("aé" * LARGE) == "aé" * LARGE


@pytest.mark.all_loops
@pytest.mark.parametrize("character", ["a", "é", "水"])
async def test_large_texts_go_to_a_worker_and_back(character: str) -> None:
    value = character * LARGE_OTHER
    async with Pool(max_workers=1) as pool:
        assert await pool.run(tasks.echo, value) == value
        assert await pool.submit(tasks.echo, value) == value
        pair = await pool.run(tasks.echo, (value, value))
    assert pair == (value, value)
