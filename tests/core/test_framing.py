from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool._core.framing import BUFFER_BYTES, HEADER, Frame, FrameReader, FramingError, Kind, header

kinds = st.sampled_from(list(Kind))
numbers = st.integers(0, 2**64 - 1)
messages = st.lists(st.tuples(kinds, numbers, numbers, st.binary(max_size=60)), max_size=6)

Message = tuple[int, int, int, bytes]


def encoded(message: Message) -> bytes:
    kind, task, extra, payload = message
    return header(kind, len(payload), task, extra) + payload


def plain(frames: list[Frame]) -> list[Message]:
    return [(frame.kind, frame.task, frame.extra, bytes(frame.payload)) for frame in frames]


def read_into(reader: FrameReader, data: bytes) -> list[Message]:
    """Read as a socket does: into the reader's buffer, and look at the frames before the next bytes."""
    seen: list[Message] = []
    while data:
        room = reader.buffer()
        count = min(len(room), len(data))
        room[:count] = data[:count]
        seen += plain(reader.received(count))
        data = data[count:]
    return seen


def test_a_header_is_24_bytes_and_its_fields_are_where_the_table_says() -> None:
    assert header(Kind.RESULT, 5, 7, 9) == b"lp\x01\x02" + b"\5\0\0\0" + b"\7" + b"\0" * 7 + b"\x09" + b"\0" * 7
    assert HEADER.size == 24


@given(messages, st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encoded, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in pairwise([0, *cuts, len(stream)])]
    lent, fed = FrameReader(), FrameReader()
    assert [m for piece in pieces for m in read_into(lent, piece)] == sent
    assert plain([frame for piece in pieces for frame in fed.feed(piece)]) == sent


def test_a_frame_can_be_cut_at_every_byte() -> None:
    sent: list[Message] = [(Kind.TASK, 1, 2, b"first"), (Kind.RESULT, 3, 4, b""), (Kind.ERROR, 5, 6, b"third")]
    stream = b"".join(map(encoded, sent))
    for cut in range(len(stream) + 1):
        reader = FrameReader()
        assert read_into(reader, stream[:cut]) + read_into(reader, stream[cut:]) == sent


def test_a_frame_that_comes_byte_by_byte_is_a_frame() -> None:
    reader, message = FrameReader(), (int(Kind.TASK), 1, 2, b"slowly")
    assert [m for byte in encoded(message) for m in read_into(reader, bytes([byte]))] == [message]


EDGES = [BUFFER_BYTES - HEADER.size + d for d in (-1, 0, 1)] + [BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1]


@pytest.mark.parametrize("length", [*EDGES, 3 * BUFFER_BYTES + 17])
@pytest.mark.parametrize("before", [0, 100])
def test_payloads_around_the_size_of_the_buffer_arrive_whole(length: int, before: int) -> None:
    payload = random.Random(length).randbytes(length)
    sent: list[Message] = [
        (Kind.TASK, 1, 0, bytes(before)), (Kind.RESULT, 2, 3, payload), (Kind.ERROR, 4, 5, b"after")
    ]  # fmt: skip
    stream = b"".join(map(encoded, sent))
    assert read_into(FrameReader(), stream) == sent
    for step in (977, 65_521):
        reader = FrameReader()
        pieces = [stream[i : i + step] for i in range(0, len(stream), step)]
        assert [m for piece in pieces for m in read_into(reader, piece)] == sent


def test_a_big_payload_is_read_into_a_buffer_of_its_own() -> None:
    reader = FrameReader()
    room = reader.buffer()
    room[: HEADER.size] = header(Kind.RESULT, 10 * BUFFER_BYTES)
    assert reader.received(HEADER.size) == []
    assert len(reader.buffer()) == 10 * BUFFER_BYTES
    assert reader.received(4 * BUFFER_BYTES) == []
    assert len(reader.buffer()) == 6 * BUFFER_BYTES


def test_small_payloads_are_not_copied_and_big_ones_are_not_moved() -> None:
    reader = FrameReader()
    data = encoded((Kind.RESULT, 1, 0, b"small"))
    reader.buffer()[: len(data)] = data
    (frame,) = reader.received(len(data))
    assert frame.payload.obj is reader.buffer().obj


def test_what_feed_gives_stays_as_it_is_when_more_comes() -> None:
    reader = FrameReader()
    (first,) = reader.feed(encoded((Kind.RESULT, 1, 0, b"first")))
    reader.feed(encoded((Kind.RESULT, 2, 0, b"other")))
    assert bytes(first.payload) == b"first"


@pytest.mark.parametrize(
    "invalid",
    [
        b"Segmentation fault (core dumped)",
        b"xp" + header(Kind.TASK, 0)[2:],
        b"lp\x02" + header(Kind.TASK, 0)[3:],
        b"lp\x01\x00" + header(Kind.TASK, 0)[4:],
        b"lp\x01\xff" + header(Kind.TASK, 0)[4:],
        bytes(24),
    ],
)
def test_invalid_data_is_refused_and_shown(invalid: bytes) -> None:
    with pytest.raises(FramingError, match="expected a frame, got b'"):
        FrameReader().feed(invalid)


def test_invalid_data_after_a_frame_is_found_too_and_stays_invalid() -> None:
    reader = FrameReader()
    for _ in range(2):
        with pytest.raises(FramingError):
            reader.feed(encoded((Kind.READY, 0, 0, b"")) + b"print() went to the wrong place")


def test_a_payload_above_the_limit_is_refused_before_room_is_made_for_it() -> None:
    reader = FrameReader(limit=1000)
    assert plain(reader.feed(encoded((Kind.RESULT, 1, 0, bytes(1000))))) == [(Kind.RESULT, 1, 0, bytes(1000))]
    with pytest.raises(FramingError, match="a frame of 4,294,967,295 bytes is above the limit of 1,000"):
        reader.feed(header(Kind.RESULT, 2**32 - 1))


@given(st.lists(st.one_of(st.binary(max_size=80), st.just(b"lp\x01\x02"), st.just(header(2, 3))), max_size=6))
def test_any_bytes_are_frames_or_a_framing_error(pieces: list[bytes]) -> None:
    reader = FrameReader(limit=1 << 20)
    try:
        frames = [frame for piece in pieces for frame in reader.feed(piece)]
    except FramingError:
        return
    stream = b"".join(pieces)
    complete = b"".join(map(encoded, plain(frames)))
    assert stream.startswith(complete)


@given(st.binary(min_size=24, max_size=200), st.integers(0, 23))
def test_a_frame_with_a_damaged_header_never_raises_anything_else(payload: bytes, position: int) -> None:
    damaged = bytearray(encoded((Kind.RESULT, 1, 2, payload)))
    damaged[position] ^= 0xFF
    try:
        FrameReader(limit=1 << 20).feed(bytes(damaged))
    except FramingError:
        assert position < 8
