"""A worker's wait for its next ticket: awake for a moment, then asleep, and nothing is lost either way."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._core.halt_polling import FIRST_S
from lifepool.backends.local.shared.cells import TICKET
from lifepool.backends.local.worker import tickets
from lifepool.backends.local.worker.tickets import Tickets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOK_S = 10e-6


def ticket(number: int) -> bytes:
    return TICKET.pack(number, 0, 0, 0, 0)


class Wait:
    """A stream of tickets, and a clock on which each look takes 10 µs and sleep as long as it is told.

    Attributes:
        looks: How often the worker looked, awake, in each wait.
        at_look: Called with the number of the look, before it.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, may_poll: bool = True) -> None:
        self._now = 0.0
        monkeypatch.setattr(tickets, "perf_counter", lambda: self._now)
        self.server, self.worker = socket.socketpair()
        self.tickets = Tickets(self.worker, may_poll=may_poll)
        self.looks = 0
        self.at_look: Callable[[int], None] = lambda _: None
        self._poll = self.tickets._poll
        self.tickets._poll = self._look  # type: ignore[assignment]

    def _look(self, timeout: float | None) -> Any:
        assert timeout == 0
        self.looks += 1
        self._now += LOOK_S
        self.at_look(self.looks)
        return self._poll(0)

    def asleep_for(self, seconds: float) -> int:
        """Wait for a ticket that comes so long after the worker went to sleep; return how often it had looked."""
        self.looks = 0
        asleep = threading.Event()
        receive = self.tickets._receive

        def received(size: int, *flags: int) -> bytes:
            if not flags:
                self._now += seconds
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
    assert wait.asleep_for(1.0) == pytest.approx(FIRST_S / LOOK_S, abs=1)


def test_one_whose_tickets_come_late_sleeps_at_once(wait: Wait) -> None:
    wait.asleep_for(1.0)
    assert [wait.asleep_for(1.0) for _ in range(100)] == [0] * 100


def test_one_that_slept_too_soon_stays_awake_for_longer(wait: Wait) -> None:
    wait.asleep_for(1.0)
    looks = [wait.asleep_for(50e-6) for _ in range(3)]
    assert looks == pytest.approx([0, FIRST_S / LOOK_S, 2 * FIRST_S / LOOK_S], abs=1)


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
    assert wait.asleep_for(1.0) == 1
    assert stolen == [ticket(1)]


def test_where_polling_would_cost_others_it_sleeps_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = Wait(monkeypatch, may_poll=False)
    with wait.server, wait.worker:
        assert wait.asleep_for(50e-6) == 0
        assert wait.asleep_for(50e-6) == 0


def void(_: object) -> None:
    """For a lambda that is called for what it does."""
