"""Shared memory between the two ends of the wire: what is written is read, and nothing is read that was not."""

from __future__ import annotations

import array
import gc
import mmap
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._core.framing import FramingError, Kind
from lifepool.backends.local.codec import sink
from lifepool.backends.local.codec.answers import decode_value, encode_result
from lifepool.backends.local.codec.calls import Call, CallDecoder, CallEncoder
from lifepool.backends.local.codec.sink import BIG_BYTES
from lifepool.backends.local.shared import files
from lifepool.backends.local.shared.arena import Arguments
from lifepool.backends.local.shared.files import GRAIN, LOCATION, Location
from lifepool.backends.local.shared.results import ResultReader, ResultWriter
from lifepool.backends.local.shared.store import NoRoom
from lifepool.errors import PayloadTooLarge, TaskNotPicklable
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20
LIMIT = 8 * MIB
ROOM = 4 * LIMIT
linux_only = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd")


class Block:
    """An array of somebody else's: its buffer may travel out of band, and it says how large it is."""

    def __init__(self, data: Any) -> None:
        self.data = data

    @property
    def nbytes(self) -> int:
        return len(self.data)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return Block, (pickle.PickleBuffer(self.data),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Block) and bytes(self.data) == bytes(other.data)

    __hash__ = None  # type: ignore[assignment]


class Deep:
    """Says nothing about its size."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Deep) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture(params=["memfd", "temporary file"])
def _any_system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "temporary file":
        monkeypatch.setattr(files, "_HAS_MEMFD", False)
        monkeypatch.setattr(files, "_REMOVE", None)
    elif not hasattr(os, "memfd_create"):
        pytest.skip("needs memfd")


@pytest.fixture
def arguments(_any_system: None) -> Iterator[Arguments]:
    shared = Arguments(ROOM)
    yield shared
    shared.close()


@pytest.fixture
def decoder(arguments: Arguments) -> Iterator[CallDecoder]:
    location = Location(mmap.mmap(arguments.reading_fd, 0, prot=mmap.PROT_READ))
    yield CallDecoder(location)
    location.close()


@pytest.fixture
def results(_any_system: None) -> Iterator[ResultReader]:
    reader = ResultReader(ROOM)
    yield reader
    reader.close()


def read_call(decoder: CallDecoder, call: Call) -> Any:
    payload = memoryview(call.function + call.arguments)
    return decoder.decode(payload, len(call.function), kind=call.kind)[1]


def read_result(reader: ResultReader, kind: Kind, body: bytes) -> Any:
    assert kind is Kind.RESULT_STORED
    with reader.part(memoryview(body)) as pickled:
        value = decode_value(pickled)
    reader.consumed()
    return value


def memory_of(fd: int) -> int:
    return os.fstat(fd).st_blocks * 512


VALUES = [
    os.urandom(MIB),
    bytearray(os.urandom(MIB)),
    "é" * MIB,
    array.array("d", range(MIB // 8)),
    Block(bytearray(os.urandom(MIB))),
    Block(os.urandom(MIB)),
    [b"x" * MIB, {"more": "y" * MIB}],
    Deep(os.urandom(MIB)),
    list(range(MIB // 4)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_big_arguments_arrive_as_they_were(arguments: Arguments, decoder: CallDecoder, value: Any) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    for _ in range(3):  # into new memory, and into memory that was used
        call = encoder.encode(tasks.echo, (value, 1))
        assert call.lease is not None
        assert len(call.arguments) == LOCATION.size
        assert call.size > MIB // 4
        assert read_call(decoder, call) == (value, 1)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_big_results_arrive_as_they_were(results: ResultReader, value: Any) -> None:
    writer = ResultWriter(results.writing_fd)
    for _ in range(3):
        assert read_result(results, *encode_result(value, LIMIT, writer)) == value


def test_what_arrives_is_a_private_copy_that_can_be_written_to(arguments: Arguments, decoder: CallDecoder) -> None:
    call = CallEncoder(LIMIT, arguments).encode(tasks.echo, (bytearray(MIB), Block(bytearray(MIB))))
    plain, block = read_call(decoder, call)
    plain[0] = block.data[0] = 1
    again = read_call(decoder, call)
    assert again[0][0] == again[1].data[0] == 0


def test_small_arguments_stay_in_the_frame(arguments: Arguments) -> None:
    call = CallEncoder(LIMIT, arguments).encode(tasks.echo, (b"x" * (BIG_BYTES // 2), [1, "2", {"three": 4.0}]))
    assert call.lease is None
    assert not arguments.taken


@pytest.mark.parametrize("value", [b"x" * LIMIT, Deep(b"x" * LIMIT), Block(b"x" * LIMIT)])
def test_what_is_above_the_limit_is_refused_and_leaves_no_memory(arguments: Arguments, value: Any) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    with pytest.raises(PayloadTooLarge) as caught:
        encoder.encode(tasks.echo, (b"x", value))
    assert caught.value.limit == LIMIT < caught.value.size
    assert caught.value.side == "arguments"
    assert not arguments.taken
    assert memory_of(arguments.reading_fd) <= 2 * GRAIN


def test_writing_stops_at_the_limit(arguments: Arguments) -> None:
    block = os.urandom(MIB)
    with pytest.raises(PayloadTooLarge) as caught:
        CallEncoder(LIMIT, arguments).encode(tasks.echo, (block, [block[i:] for i in range(100)]))
    assert LIMIT < caught.value.size <= LIMIT + MIB


def test_what_cannot_be_pickled_is_named_and_leaves_nothing(arguments: Arguments) -> None:
    with pytest.raises(TaskNotPicklable, match=r"args\[1\]"):
        CallEncoder(LIMIT, arguments).encode(tasks.echo, (bytes(MIB), tasks.Session()))
    assert not arguments.taken


def test_a_slot_lives_as_long_as_somebody_holds_its_lease(arguments: Arguments, decoder: CallDecoder) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    call = encoder.encode(tasks.echo, (b"a" * MIB,))
    lease = call.lease  # as the backend holds it for a worker
    location, function = call.arguments, call.function
    del call
    other = encoder.encode(tasks.echo, (b"b" * MIB,))
    assert other.arguments != location
    payload = memoryview(function + location)
    assert decoder.decode(payload, len(function), kind=Kind.TASK_STORED)[1] == (b"a" * MIB,)
    del lease
    gc.collect()
    assert encoder.encode(tasks.echo, (b"c" * MIB,)).arguments == location


def test_with_no_room_left_arguments_travel_in_the_frame(arguments: Arguments, decoder: CallDecoder) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    calls = [encoder.encode(tasks.echo, (bytes([n]) * (LIMIT - 100),)) for n in range(6)]
    assert [call.lease is not None for call in calls] == [True] * 4 + [False] * 2
    for number, call in enumerate(calls):
        assert read_call(decoder, call) == (bytes([number]) * (LIMIT - 100),)


def test_a_pickle_larger_than_it_looked_grows_in_place_or_moves(arguments: Arguments, decoder: CallDecoder) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    below = [encoder.encode(tasks.echo, (bytes(MIB),)) for _ in range(2)]
    del below[0]  # a hole of one MiB below a slot: too small for what comes
    value = [os.urandom(MIB // 4) for _ in range(20)]  # only the first of which are looked at
    call = encoder.encode(tasks.echo, (bytes(MIB // 2), [value]))
    assert read_call(decoder, call) == (bytes(MIB // 2), [value])
    del below[0]
    assert arguments.taken < call.size + 2 * GRAIN


def test_where_the_system_has_no_memory_arguments_travel_in_the_frame(
    arguments: Arguments, decoder: CallDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    for value in (b"x" * MIB, Deep(b"x" * MIB)):
        call = CallEncoder(LIMIT, arguments).encode(tasks.echo, (value,))
        assert call.lease is None
        assert read_call(decoder, call) == (value,)
    assert not arguments.taken


def test_a_slot_that_could_not_be_moved_stays_as_it_was(arguments: Arguments, monkeypatch: pytest.MonkeyPatch) -> None:
    store = arguments.store()
    assert store is not None
    slot, above = store.reserve(GRAIN), store.reserve(GRAIN)
    store.write(slot.start, b"as it was")

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    with pytest.raises(NoRoom):
        store.grow(slot, 9, 2 * GRAIN)
    assert arguments.taken == 2 * GRAIN
    assert os.pread(arguments.reading_fd, 9, slot.start) == b"as it was"
    assert above.start == slot.end


def test_once_closed_arguments_travel_in_the_frame() -> None:
    shared = Arguments(ROOM)
    encoder = CallEncoder(LIMIT, shared)
    held = encoder.encode(tasks.echo, (bytes(MIB),))
    shared.close()
    assert encoder.encode(tasks.echo, (bytes(MIB),)).lease is None
    del held


def test_free_memory_is_given_back_and_what_is_held_stays(arguments: Arguments, decoder: CallDecoder) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    kept = encoder.encode(tasks.echo, (b"k" * MIB,))
    encoder.encode(tasks.echo, (b"x" * 4 * MIB,))
    assert memory_of(arguments.reading_fd) > 4 * MIB
    arguments.trim()
    is_dirty = arguments.is_dirty
    assert is_dirty, "something is still held"
    assert read_call(decoder, kept) == (b"k" * MIB,)
    if files.can_punch():
        assert memory_of(arguments.reading_fd) < MIB + 3 * GRAIN
    del kept
    arguments.trim()
    assert not arguments.is_dirty
    assert memory_of(arguments.reading_fd) == 0
    assert read_call(decoder, encoder.encode(tasks.echo, (b"n" * MIB,))) == (b"n" * MIB,)


def test_a_worker_reuses_what_the_server_has_read_and_only_that(results: ResultReader) -> None:
    writer = ResultWriter(results.writing_fd)
    first = encode_result(b"1" * MIB, LIMIT, writer)
    second = encode_result(b"2" * MIB, LIMIT, writer)
    assert first[1] != second[1]
    assert read_result(results, *first) == b"1" * MIB
    third = encode_result(b"3" * MIB, LIMIT, writer)
    assert third[1] == first[1]
    assert read_result(results, *second) == b"2" * MIB
    assert read_result(results, *third) == b"3" * MIB


def test_with_no_room_left_results_travel_in_the_frame(results: ResultReader) -> None:
    writer = ResultWriter(results.writing_fd)
    kinds = [encode_result(b"x" * (LIMIT - 100), LIMIT, writer)[0] for _ in range(5)]
    assert kinds == [Kind.RESULT_STORED] * 4 + [Kind.RESULT]


def test_the_memory_of_results_is_given_back_and_written_anew(results: ResultReader) -> None:
    writer = ResultWriter(results.writing_fd)
    for number in (b"1", b"2"):
        assert read_result(results, *encode_result(number * MIB, LIMIT, writer)) == number * MIB
        assert memory_of(results.writing_fd) > MIB
        was_dirty = results.is_dirty
        results.trim()
        assert was_dirty
        assert not results.is_dirty
        assert memory_of(results.writing_fd) <= GRAIN


def test_memory_that_was_given_back_is_asked_for_again_and_not_just_written_to(
    results: ResultReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ResultWriter(results.writing_fd)
    read_result(results, *encode_result(b"1" * MIB, LIMIT, writer))
    results.trim()

    def refuse(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", refuse)
    assert encode_result(b"2" * MIB, LIMIT, writer)[0] is Kind.RESULT


def test_a_result_above_the_limit_is_refused_and_leaves_nothing(results: ResultReader) -> None:
    writer = ResultWriter(results.writing_fd)
    with pytest.raises(PayloadTooLarge):
        encode_result([b"x" * MIB] + [os.urandom(MIB) for _ in range(9)], LIMIT, writer)
    assert writer.store().arena.taken == 0


@pytest.mark.parametrize(
    "location",
    [
        b"",
        bytes(LOCATION.size - 1),
        bytes(LOCATION.size + 1),
        LOCATION.pack(0, 8),  # the counters
        LOCATION.pack(GRAIN, ROOM + 1),
        LOCATION.pack(GRAIN + ROOM, 1),
        LOCATION.pack(2**63, 2**63),
        LOCATION.pack(2**64 - 1, 2),
    ],
)
def test_a_location_outside_the_file_is_nonsense(results: ResultReader, location: bytes) -> None:
    with pytest.raises(FramingError):
        results.part(memoryview(location))


def test_the_whole_file_is_inside(results: ResultReader) -> None:
    with results.part(memoryview(LOCATION.pack(GRAIN, ROOM))) as part:
        assert len(part) == ROOM


@linux_only
def test_a_worker_can_neither_cut_the_files_short_nor_write_to_arguments() -> None:
    shared, reader = Arguments(ROOM), ResultReader(ROOM)
    try:
        with pytest.raises(OSError, match="not permitted"):
            os.ftruncate(reader.writing_fd, 0)
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(shared.reading_fd, 0)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(shared.reading_fd, b"x", 0)
    finally:
        shared.close()
        reader.close()


@pytest.mark.parametrize("call", ["open", "ftruncate"])
def test_a_system_that_refuses_the_file_is_told_of_and_nothing_leaks(
    monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError("refused")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OSError, match="refused"):
        files.create(ROOM)


def test_a_system_that_refuses_the_map_is_told_of_and_nothing_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr(mmap, "mmap", refuse)
    for kind in (Arguments, ResultReader):
        with pytest.raises(OSError, match="refused"):
            kind(ROOM)


@pytest.mark.usefixtures("_any_system")
def test_files_have_no_name() -> None:
    fd, reading = files.create(ROOM)
    try:
        assert os.fstat(fd).st_nlink == 0
        assert memory_of(fd) == 0
    finally:
        os.close(fd)
        os.close(reading)


def test_a_container_that_turned_out_big_is_looked_into_next_time(arguments: Arguments) -> None:
    encoder = CallEncoder(LIMIT, arguments)
    for nested in ([{"text": "x" * MIB}], Deep("x" * MIB)):
        assert encoder.encode(tasks.echo, (nested,)).lease is not None
        assert sink.glance((nested,), arguments) == MIB, "it expects more of the kind"
    encoder.encode(tasks.echo, ([1],))
    assert not arguments.expects_big


def test_an_object_whose_size_is_a_lie_or_an_error_is_carried_all_the_same(
    arguments: Arguments, decoder: CallDecoder
) -> None:
    for value in (Lies(), Raises()):
        call = CallEncoder(LIMIT, arguments).encode(tasks.echo, (value,))
        assert type(read_call(decoder, call)[0]) is type(value)


class Lies:
    nbytes = 2**62


class Raises:
    @property
    def nbytes(self) -> int:
        raise RuntimeError("not today")
