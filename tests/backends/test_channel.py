"""The server's end of a worker's connection, with a scripted worker at the other end."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from lifepool._core.framing import HEADER, Frame, FrameReader, Kind, header
from lifepool.backends.local.channel import Channel
from lifepool.backends.local.codec.calls import Call
from lifepool.backends.local.shared.cells import CELL_BYTES, CELLS, NUMBER, ON_WIRE, TICKET, mapped
from tests.engine.gates import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

BIG = 5_000_000


class Peer:
    """A channel, what it was told, and the worker's ends of its three connections, kept from being closed."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.ends: list[str] = []
        self.failures: list[Exception] = []
        self.channel = Channel(asyncio.get_running_loop(), self._on_frame, self.ends.append, self.failures.append)
        self.wire = self.channel.worker_wire.dup()
        self.tickets = self.channel.worker_tickets.dup()
        self.control = os.dup(self.channel.worker_control)
        assert self.channel.cells is not None
        self.cells = mapped(os.dup(self.channel.cells.reading_fd))
        self.channel.open()

    def _on_frame(self, frame: Frame) -> None:
        self.frames.append((frame.kind, frame.task, frame.extra, bytes(frame.payload)))

    async def in_thread(self, count: int) -> list[tuple[int, bytes]]:
        """Read so many tasks as a worker does, in a thread; returns their numbers and payloads."""
        async with asyncio.timeout(PATIENCE_S):
            return await asyncio.to_thread(self._read_tasks, count)

    def _read_tasks(self, count: int) -> list[tuple[int, bytes]]:
        reader = FrameReader()
        found: list[tuple[int, bytes]] = []
        self.wire.settimeout(PATIENCE_S)
        self.tickets.settimeout(PATIENCE_S)
        for _ in range(count):
            task, cell, _, _, length = TICKET.unpack(self.tickets.recv(TICKET.size))
            if cell != ON_WIRE:
                found.append((task, self.in_cell(cell, length)))
            while not any(number == task for number, _ in found):
                read = self.wire.recv_into(reader.buffer())
                assert read, "the server closed the wire"
                found += [(f.task, bytes(f.payload)) for f in reader.received(read)]
        return found

    def in_cell(self, cell: int, length: int) -> bytes:
        return bytes(self.cells[cell * CELL_BYTES :][:length])

    def take_ticket(self) -> int:
        """Take one as a worker does; the task that it names."""
        task: int = TICKET.unpack(self.tickets.recv(TICKET.size))[0]
        return task

    def close(self) -> None:
        self.channel.close()
        assert self.failures == []
        self.cells.release()
        self.wire.close()
        self.tickets.close()
        os.close(self.control)


@contextmanager
def connected() -> Iterator[Peer]:
    peer = Peer()
    try:
        yield peer
    finally:
        peer.close()


def call(arguments: bytes = b"arguments", function: bytes = b"function") -> Call:
    return Call(function, arguments)


@pytest.mark.all_loops
async def test_a_task_and_its_ticket_arrive() -> None:
    with connected() as peer:
        peer.channel.send(7, call(), urgent=True)
        assert await peer.in_thread(1) == [(7, b"functionarguments")]


@pytest.mark.all_loops
async def test_what_is_sent_in_one_turn_of_the_loop_arrives_in_order() -> None:
    with connected() as peer:
        for number in range(100):
            peer.channel.send(number, call(b"%d" % number), urgent=False)
        assert await peer.in_thread(100) == [(n, b"function%d" % n) for n in range(100)]


async def test_a_small_task_lies_in_a_place_and_a_larger_one_goes_over_the_wire() -> None:
    with connected() as peer:
        for number, size in enumerate([0, CELL_BYTES, CELL_BYTES + 1]):
            peer.channel.send(number, call(b"x" * size, b""), urgent=True)
        tickets = [TICKET.unpack(peer.tickets.recv(TICKET.size)) for _ in range(3)]
        assert [cell == ON_WIRE for _, cell, *_ in tickets] == [False, False, True]
        assert peer.in_cell(tickets[1][1], tickets[1][4]) == b"x" * CELL_BYTES


async def test_a_place_is_used_again_once_its_task_is_answered_and_not_before() -> None:
    with connected() as peer:
        for number in range(CELLS + 1):
            peer.channel.send(number, call(b"%d" % number), urgent=True)
        cells = [TICKET.unpack(peer.tickets.recv(TICKET.size))[1] for _ in range(CELLS + 1)]
        assert sorted(cells[:CELLS]) == list(range(CELLS))
        assert cells[CELLS] == ON_WIRE
        peer.channel.answered(3)
        peer.channel.answered(3)  # a worker that answers twice frees nothing that is another's
        peer.channel.send(20, call(), urgent=True)
        peer.channel.send(21, call(), urgent=True)
        again = [TICKET.unpack(peer.tickets.recv(TICKET.size))[1] for _ in range(2)]
        assert again == [cells[3], ON_WIRE]


async def test_a_worker_can_not_write_to_the_cells() -> None:
    with connected() as peer, pytest.raises(TypeError, match="read-only"):
        peer.cells[0] = 1


@pytest.mark.all_loops
async def test_large_tasks_are_written_as_the_worker_reads() -> None:
    sent = [random.Random(n).randbytes(BIG) for n in range(3)]
    with connected() as peer:
        for number, data in enumerate(sent):
            peer.channel.send(number, call(data, b""), urgent=number == 0)
        await asyncio.sleep(0)
        peer.channel.send(3, call(b"small", b""), urgent=False)  # joins the queue at its end
        arrived = await peer.in_thread(4)
    assert arrived == [*enumerate(sent), (3, b"small")]


@pytest.mark.all_loops
async def test_answers_are_read_whole_however_they_are_cut() -> None:
    luck = random.Random(5)
    bodies = [luck.randbytes(luck.choice([0, 1, 23, 24, 25, 65_535, 300_000])) for _ in range(40)]
    stream = b"".join(header(Kind.RESULT, len(body), number, number * 3) + body for number, body in enumerate(bodies))

    def write_in_pieces() -> None:
        start = 0
        while start < len(stream):
            stop = start + luck.choice([1, 7, 24, 4096, 70_000])
            peer.wire.sendall(stream[start:stop])
            start = stop

    with connected() as peer:
        await asyncio.to_thread(write_in_pieces)
        await until(lambda: len(peer.frames) == len(bodies))
        assert peer.frames == [(Kind.RESULT, n, n * 3, body) for n, body in enumerate(bodies)]
        assert not peer.ends


@pytest.mark.all_loops
async def test_both_sides_may_send_much_at_the_same_time() -> None:
    data = random.Random(3).randbytes(BIG)

    def answer_each() -> None:
        for number in range(3):
            arrived = peer._read_tasks(1)
            assert arrived == [(number, data)]
            peer.wire.sendall(header(Kind.RESULT, len(data), number) + data)

    with connected() as peer:
        worker = asyncio.ensure_future(asyncio.to_thread(answer_each))
        for number in range(3):
            peer.channel.send(number, call(data, b""), urgent=True)
            await until(lambda count=number + 1: len(peer.frames) == count)  # type: ignore[misc]
        await worker
        assert [frame[3] for frame in peer.frames] == [data] * 3


async def test_tickets_that_nobody_took_come_back_in_order() -> None:
    with connected() as peer:
        for number in range(5):
            peer.channel.send(number, call(), urgent=number == 0)
        assert peer.channel.retract() == (0, 1, 2, 3, 4)  # sent and unsent ones
        assert peer.channel.retract() == ()
        peer.channel.send(9, call(), urgent=True)
        assert peer.take_ticket() == 9


async def test_a_ticket_that_the_worker_took_does_not_come_back() -> None:
    with connected() as peer:
        for number in range(3):
            peer.channel.send(number, call(), urgent=True)
        assert peer.take_ticket() == 0
        assert peer.channel.retract() == (1, 2)


class Claims:
    """What a worker's thread has claimed, and whether it still found it in its cell."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self.tasks: list[int] = []
        self.wrong: list[int] = []
        self.cells: set[int] = set()
        self.answers: deque[int] = deque()

    def claim(self) -> None:
        tickets = self._peer.tickets
        while len(ticket := tickets.recv(TICKET.size)) == TICKET.size:
            task, cell, _, _, length = TICKET.unpack(ticket)
            self.tasks.append(task)
            self.cells.add(cell)
            if cell != ON_WIRE and self._peer.in_cell(cell, length) != b"%d" % task:
                self.wrong.append(task)
            self.answers.append(task)

    def swallow(self) -> None:
        while self._peer.wire.recv(1 << 16):
            pass

    def deliver_answers(self) -> None:
        while self.answers:
            self._peer.channel.answered(self.answers.popleft())


@pytest.mark.all_loops
async def test_each_ticket_is_either_taken_or_taken_back_never_both() -> None:
    """The worker's thread and `retract` race for twenty thousand tickets; what is claimed is still in its cell."""
    retracted: list[int] = []
    total = 20_000
    with connected() as peer:
        claims = Claims(peer)
        threads = [threading.Thread(target=claims.claim), threading.Thread(target=claims.swallow)]
        for thread in threads:
            thread.start()
        luck = random.Random(11)
        number = 0
        while number < total:
            for _ in range(luck.randrange(1, 9)):
                claims.deliver_answers()
                peer.channel.send(number, call(b"%d" % number, b""), urgent=luck.random() < 0.5)
                number += 1
            if luck.random() < 0.5:
                await asyncio.sleep(0)
            if luck.random() < 0.7:
                retracted += peer.channel.retract()
        await asyncio.sleep(0)
        retracted += peer.channel.retract()
        peer.channel.let_go()
        await asyncio.to_thread(threads[0].join)
        peer.channel.close()
        await asyncio.to_thread(threads[1].join)
    assert claims.tasks
    assert retracted
    assert not claims.wrong
    assert len(claims.cells) > 2  # cells, and the wire when they were all taken
    assert sorted(claims.tasks + retracted) == list(range(number))
    assert claims.tasks == sorted(claims.tasks)
    assert retracted == sorted(retracted)


async def test_letting_go_ends_the_tickets_after_the_last_one() -> None:
    with connected() as peer:
        peer.channel.send(1, call(), urgent=False)
        peer.channel.let_go()
        assert peer.take_ticket() == 1
        assert peer.tickets.recv(64) == b""


async def test_an_interrupt_names_its_task() -> None:
    with connected() as peer:
        peer.channel.interrupt(5)
        peer.channel.interrupt(6)
        assert os.read(peer.control, 64) == NUMBER.pack(5) + NUMBER.pack(6)


async def test_interrupts_that_nobody_reads_do_not_block_the_server() -> None:
    with connected() as peer:
        for number in range(20_000):
            peer.channel.interrupt(number)


@pytest.mark.all_loops
async def test_the_end_of_the_wire_is_told_once() -> None:
    with connected() as peer:
        peer.wire.shutdown(socket.SHUT_WR)
        await until(lambda: bool(peer.ends))
        await asyncio.sleep(0)
        assert peer.ends == [""]


@pytest.mark.parametrize(
    "garbage",
    [
        b"x" * 100,
        header(Kind.RESULT, 0)[:3] + b"\xff" + header(Kind.RESULT, 0)[4:],  # no such kind
        HEADER.pack(b"lp", 99, Kind.RESULT, 0, 0, 0),  # another version
    ],
)
async def test_garbage_is_the_end_and_is_shown(garbage: bytes) -> None:
    with connected() as peer:
        peer.wire.sendall(garbage)
        await until(lambda: bool(peer.ends))
        assert peer.ends[0].startswith("it sent invalid data")


async def test_what_a_dead_worker_left_is_read() -> None:
    with connected() as peer:
        peer.wire.sendall((header(Kind.RESULT, 4, 1) + b"left") * 3)
        peer.wire.close()
        peer.channel.drain_in()
        assert [frame[3] for frame in peer.frames] == [b"left"] * 3


async def test_sending_to_a_dead_worker_is_no_error_and_its_tickets_come_back() -> None:
    with connected() as peer:
        peer.wire.close()
        peer.channel.send(1, call(b"x" * BIG), urgent=True)
        peer.channel.send(2, call(), urgent=False)
        await asyncio.sleep(0)
        assert peer.channel.retract() == (1, 2)


async def test_closing_twice_and_using_it_afterwards_is_harmless() -> None:
    with connected() as peer:
        peer.channel.send(1, call(b"x" * BIG), urgent=True)  # waits for room to write
        peer.channel.send(2, call(), urgent=False)  # planned for the end of the turn
        peer.channel.close()
        peer.channel.close()
        await asyncio.sleep(0)
        assert not peer.ends
