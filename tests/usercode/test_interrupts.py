"""A Ctrl-C is told from a KeyboardInterrupt that code raised."""

from __future__ import annotations

import asyncio
import functools
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._usercode.interrupts import is_from_signal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def handled() -> Iterator[Callable[[Any], object]]:
    """Sets a handler for SIGINT."""
    before = signal.getsignal(signal.SIGINT)
    yield lambda handler: signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGINT, before)


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def press_in_a_loop() -> None:
    for number in range(10):
        if number == 5:
            signal.raise_signal(signal.SIGINT)
        len(str(number))


def raise_it() -> None:
    raise KeyboardInterrupt


def raise_in_except() -> None:
    try:
        raise KeyError
    except KeyError as error:
        raise KeyboardInterrupt from error


def raised_by(call: Callable[[], Any]) -> BaseException:
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_pythons_own_handler(handled: Callable[[Any], object]) -> None:
    handled(signal.default_int_handler)
    assert is_from_signal(raised_by(press))
    assert is_from_signal(raised_by(press_in_a_loop))
    assert not is_from_signal(raised_by(raise_it))
    assert not is_from_signal(raised_by(raise_in_except))


class Server:
    def stop(self, *_: object) -> None:
        raise SystemExit(1)

    def __call__(self, *_: object) -> None:
        raise KeyboardInterrupt


def stop(*_: object) -> None:
    sys.exit(3)


@pytest.mark.parametrize("handler", [stop, Server().stop, functools.partial(stop, 1), Server()])
def test_handlers_of_others(handled: Callable[[Any], object], handler: Any) -> None:
    handled(handler)
    assert is_from_signal(raised_by(press))
    assert not is_from_signal(raised_by(raise_it))
    assert not is_from_signal(raised_by(lambda: sys.exit(3)))


def test_the_handler_of_asyncio() -> None:
    found: list[bool] = []

    async def main() -> None:
        press()  # asyncio cancels the main task
        found.append(is_from_signal(raised_by(press)))

    with pytest.raises((KeyboardInterrupt, asyncio.CancelledError)):
        asyncio.run(main())
    assert found == [True]


def test_an_exception_is_nobodys_ctrl_c(handled: Callable[[Any], object]) -> None:
    def fail(*_: object) -> None:
        raise TimeoutError

    handled(fail)
    assert not is_from_signal(raised_by(press))


def test_in_other_threads_there_is_none() -> None:
    found: list[bool] = []
    error = raised_by(press)
    thread = threading.Thread(target=lambda: found.append(is_from_signal(error)))
    thread.start()
    thread.join()
    assert found == [False]
