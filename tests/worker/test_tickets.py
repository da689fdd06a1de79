"""A worker's wait for its next ticket: awake for a moment, then asleep, and nothing is lost either way."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool.backends.local.shared.cells import TICKET
from lifepool.backends.local.worker import tickets
from lifepool.backends.local.worker.tickets import AWAKE_S, PATIENCE, PROBE_EVERY, PROBE_S, Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def ticket(number: int) -> bytes:
    return TICKET.pack(number, 0, 0, 0, 0)


class Wait:
    """A stream of tickets, and a clock on which each look takes 10 µs.

    Attributes:
        looks: How often the worker looked, awake, in each wait.
        at_look: Called with the number of the look, before it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server, self.worker = socket.socketpair()
        self.tickets = Tickets(self.worker)
        self.looks = 0
        self.at_look: Callable[[int], None] = lambda _: None
        self._now = 0.0
        self._poll = self.tickets._poll
        self.tickets._poll = self._look  # type: ignore[assignment]
        monkeypatch.setattr(tickets.time, "perf_counter", lambda: self._now)  # type: ignore[attr-defined]

    def _look(self, timeout: float | None) -> Any:
        assert timeout == 0
        self.looks += 1
        self._now += 10e-6
        self.at_look(self.looks)
        return self._poll(0)

    def in_vain(self) -> int:
        """One wait in which the ticket comes only after the worker went to sleep; how often it had looked."""
        self.looks = 0
        asleep = threading.Event()
        receive = self.tickets._receive

        def received(size: int, *flags: int) -> bytes:
            if not flags:
                asleep.set()
            return receive(size, *flags)

        def send() -> None:
            assert asleep.wait(20)
            self.server.send(ticket(7))

        self.tickets._receive = received
        sender = threading.Thread(target=send)
        sender.start()
        assert self.tickets.take() == ticket(7)
        sender.join()
        self.tickets._receive = receive
        return self.looks


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wait]:
    monkeypatch.setattr(tickets, "_cpus", lambda: 2)
    wait = Wait(monkeypatch)
    with wait.server, wait.worker:
        yield wait


def test_a_ticket_that_is_there_is_taken_at_once(wait: Wait) -> None:
    wait.server.send(ticket(1) + ticket(2))
    assert (wait.tickets.take(), wait.tickets.take()) == (ticket(1), ticket(2))
    assert wait.looks == 0


def test_a_ticket_that_comes_soon_finds_the_worker_awake(wait: Wait) -> None:
    wait.at_look = lambda look: None if look < 3 else void(wait.server.send(ticket(1)))
    assert wait.tickets.take() == ticket(1)
    assert wait.looks == 3


def test_a_worker_goes_to_sleep_when_nothing_comes(wait: Wait) -> None:
    assert wait.in_vain() == pytest.approx(AWAKE_S / 10e-6, abs=1)


def test_one_whose_tickets_come_late_soon_sleeps_at_once_and_tries_now_and_then(wait: Wait) -> None:
    looks = [wait.in_vain() for _ in range(PATIENCE + 2 * PROBE_EVERY)]
    assert all(looks[:PATIENCE])
    late = looks[PATIENCE:]
    assert [index for index, count in enumerate(late) if count] == [0, PROBE_EVERY]
    assert late[0] == pytest.approx(PROBE_S / 10e-6, abs=1)


def test_a_ticket_that_comes_soon_again_keeps_it_awake_again(wait: Wait) -> None:
    for _ in range(PATIENCE):
        wait.in_vain()
    wait.looks = 0
    wait.at_look = lambda look: None if look < 15 else void(wait.server.send(ticket(1)))
    assert wait.tickets.take() == ticket(1)
    wait.at_look = lambda _: None
    assert wait.in_vain() == pytest.approx(AWAKE_S / 10e-6, abs=1)


def test_the_end_of_the_stream_is_seen_awake_and_asleep(wait: Wait) -> None:
    wait.at_look = lambda look: None if look < 3 else wait.server.close()
    assert wait.tickets.take() == b""
    assert wait.tickets.take() == b""


def test_a_ticket_that_was_taken_back_after_a_look_is_none(wait: Wait) -> None:
    """The server reads the same end: what a look has seen may be gone. It waits for the next one then."""
    stolen: list[bytes] = []
    look = wait.tickets._poll

    def robbed(timeout: float | None) -> Any:
        wait.server.send(ticket(1))
        seen = look(timeout)
        stolen.append(wait.worker.recv(TICKET.size))
        return seen

    wait.tickets._poll = robbed  # type: ignore[assignment]
    assert wait.in_vain() == 1
    assert stolen == [ticket(1)]


def test_on_one_cpu_it_sleeps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "_cpus", lambda: 1)
    wait = Wait(monkeypatch)
    with wait.server, wait.worker:
        assert wait.in_vain() == 0


def void(_: object) -> None:
    """For a lambda that is called for what it does."""
