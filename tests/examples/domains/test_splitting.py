"""Splitting: whatever the text and however it arrives, the pieces give the names of the whole."""

import string
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples.domains.extract import MAX_RUN, find_domains
from examples.domains.splitting import (
    LEAST_TOKEN,
    MIN_CHUNK,
    StreamSplitter,
    chunk_count,
    split_on_whitespace,
)
from tests.examples.domains.hostile_texts import hostile_texts

# Stretched so that runs, gaps and tokens pass every limit of the stream splitter.
long_texts = st.lists(
    st.builds(str.__mul__, hostile_texts, st.sampled_from([1, 1, 7, 60, MAX_RUN // 4, MAX_RUN, 9000])),
    max_size=6,
).map(lambda parts: "".join(parts)[:120_000])


def names_of(pieces: list[str]) -> list[str]:
    return [name for piece in pieces for name in find_domains(piece)]


@given(hostile_texts, st.integers(1, 12))
@settings(max_examples=500)
@example("", 3)
@example("\u3000", 3)
@example("a.com\u2028b.com\xa0c.com", 3)
def test_chunks_join_to_the_text_and_hold_the_same_names(text: str, count: int) -> None:
    chunks = split_on_whitespace(text, count)

    assert "".join(chunks) == text
    assert 1 <= len(chunks) <= count
    assert names_of(chunks) == find_domains(text)


@given(hostile_texts, st.integers(1, 12))
@settings(max_examples=300)
def test_every_cut_is_beside_white_space(text: str, count: int) -> None:
    for left, right in pairwise(split_on_whitespace(text, count)):
        assert left[-1].isspace() or right[0].isspace()


def test_a_text_without_white_space_is_one_chunk() -> None:
    text = "a.example.com,\u200b" * 5000

    assert split_on_whitespace(text, 8) == [text]


def test_chunks_are_about_equal() -> None:
    text = "see www.example.com and mail bob@example.org now\n" * 4000

    sizes = [len(chunk) for chunk in split_on_whitespace(text, 7)]

    assert len(sizes) == 7
    assert max(sizes) - min(sizes) <= 64


@pytest.mark.parametrize("count", [0, -1])
def test_a_count_below_one_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split_on_whitespace("a b", count)


def test_a_small_text_is_one_chunk_and_a_large_one_uses_every_worker() -> None:
    assert chunk_count(0, 8) == 1
    assert chunk_count(2 * MIN_CHUNK - 1, 8) == 1
    assert chunk_count(2 * MIN_CHUNK, 8) == 2
    assert chunk_count(1000 * MIN_CHUNK, 8) == 8
    assert chunk_count(1000 * MIN_CHUNK, 0) == 1


def stream(text: str, feeds: list[int], piece_size: int, max_token: int = LEAST_TOKEN) -> list[str]:
    """Feed `text` in parts of the given sizes, over and over, and return every piece."""
    splitter = StreamSplitter(piece_size, max_token)
    pieces: list[str] = []
    position = turn = 0
    while position < len(text):
        size = feeds[turn % len(feeds)]
        pieces += splitter.feed(text[position : position + size])
        position += size
        turn += 1
    return pieces + splitter.close()


feed_sizes = st.lists(st.sampled_from([1, 2, 13, 100, 1000, 4096, 20_000, 200_000]), min_size=1, max_size=4).filter(
    lambda sizes: max(sizes) > 1 or len(sizes) > 0
)


@given(hostile_texts, st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 40))
@settings(max_examples=500)
def test_a_stream_of_small_pieces_is_the_text(text: str, feeds: list[int], size: int) -> None:
    pieces = stream(text, feeds, size)

    assert "".join(pieces) == text
    assert names_of(pieces) == find_domains(text)


@given(long_texts, feed_sizes, st.sampled_from([1, 500, 5000, 50_000]))
@settings(max_examples=150)
def test_a_stream_gives_the_names_of_the_whole_text_however_it_is_fed(
    text: str, feeds: list[int], piece_size: int
) -> None:
    assert names_of(stream(text, feeds, piece_size)) == find_domains(text)


TOKENS = {
    "one label": "a",
    "one endless name": "a.",
    "names and slashes": "a.com/",
    "names and brackets": "example.com(",
    "mail addresses": "bob.name@host.py:",
    "addresses in brackets": "example[.]com[at]",
    "urls": "https://user.name:pw@host.py:80/main.py?q=",
    "base64": string.ascii_letters + string.digits + "+/",
    "percent": "%2Fwww.example.com",
    "ideographic": "访问example.com吧。",
    "broken dots": "a[.",
    "long runs": "a." * 700 + "com@",
    "runs of the longest length": "a" * (MAX_RUN - 4) + ".com,",
    "runs one longer": "a" * (MAX_RUN - 3) + ".com,",
    "zero width": "example.com\u200b,",
}


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
@pytest.mark.parametrize("shift", [0, 1, 5, 40, 700])
def test_a_token_without_white_space_is_cut_without_losing_or_inventing_a_name(token: str, shift: int) -> None:
    text = "x" * shift + "/" + token * (120_000 // len(token)) + "end.example.org then"

    pieces = stream(text, [4096], piece_size=1000)

    assert len(pieces) > 3
    assert names_of(pieces) == find_domains(text)


NEIGHBORS = {
    "mailbox": "/bob.name@host.py/",
    "plus address": "/bob.is+list-of-some-length@host.io/",
    "user of a url": "://user.name:a-long-password@host.py:80/",
    "address in brackets": "/bob.name[at]host.py/",
    "call": "/lpeg.is(x.io",
    "path": "/a/awk.pl/lib/foo.cc",
    "bracketed dots": "/example[.]com[.]pl(dot)de/",
    "escaped dots": "/example%2Ecom\\.pl%2E%2F%2Fwww.example.com",
    "scripts": "/访问example.com吧。example.de",
    "zero width": "/mün\u200bchen.de\u0301/e\u0301.com/",
}


@pytest.mark.parametrize("filler", ["/", "x", "a.io/", "-", "b+"])
@pytest.mark.parametrize("neighbors", NEIGHBORS.values(), ids=NEIGHBORS.keys())
def test_a_forced_cut_at_any_position_leaves_every_name_and_its_context_whole(neighbors: str, filler: str) -> None:
    length = LEAST_TOKEN + 1
    cut = length - 2 * (MAX_RUN + 16)
    far = range(cut - len(neighbors) - 90, cut + 90, 17)
    for offset in {*far, *range(cut - len(neighbors) - 2, cut + 3, 2)}:
        before = (filler * length)[:offset] if filler != "x" else "x" * (offset - 1) + "/"
        text = (before + neighbors + filler * length)[:length]

        pieces = stream(text, [length], piece_size=1, max_token=LEAST_TOKEN)

        assert len(pieces) == 2
        assert names_of(pieces) == find_domains(text)


@pytest.mark.parametrize("unit", ["a.", "a[.]", "io.", "abcdefgh.", "a。"])
@pytest.mark.parametrize("length", [1020, 1030, 1140, 2000, 2075, 2085, 2200, 4000])
def test_a_run_too_long_for_a_name_stays_so_where_it_is_cut(unit: str, length: int) -> None:
    total = LEAST_TOKEN + 1
    cut = total - 2 * (MAX_RUN + 16)
    run = (unit * length)[:length] + ".com"
    for offset in [*range(cut - len(run) - 3, cut + 3, 37), cut - len(run), cut - 1, cut]:
        text = ("/" * offset + run + "/" * total)[:total]

        pieces = stream(text, [total], piece_size=1, max_token=LEAST_TOKEN)

        assert len(pieces) == 2
        assert names_of(pieces) == find_domains(text)


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_no_more_than_the_limit_is_kept(token: str) -> None:
    splitter = StreamSplitter(piece_size=20_000, max_token=10_000)
    given_out = 0
    for fed in range(1, 400):
        pieces = splitter.feed((token * (1000 // len(token) + 1))[:1000])
        given_out += sum(map(len, pieces))
        assert fed * 1000 - given_out <= 30_000 + 1000
        assert all(20_000 <= len(piece) <= 31_000 for piece in pieces)


def test_pieces_of_ordinary_text_are_about_the_asked_size() -> None:
    text = "see www.example.com and mail bob@example.org now\n" * 4000

    pieces = stream(text, [3000], piece_size=10_000)

    assert "".join(pieces) == text
    assert all(10_000 <= len(piece) < 10_020 for piece in pieces[:-1])


def test_a_splitter_can_be_used_again_after_close() -> None:
    splitter = StreamSplitter(piece_size=10)

    assert splitter.close() == []
    assert splitter.feed("a.com b.com") == []
    assert splitter.close() == ["a.com b.com"]
    assert splitter.close() == []


@pytest.mark.parametrize(("piece_size", "max_token"), [(0, 64_000), (10, MAX_RUN)])
def test_sizes_that_could_cut_a_name_are_refused(piece_size: int, max_token: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        StreamSplitter(piece_size, max_token)
