"""Functions that are no plain ones, and functions that give what is still to be run. Workers import this too."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator


async def fetch(number: int = 0) -> int:
    return number


async def stream(number: int = 0) -> AsyncIterator[int]:
    yield number


def count(number: int = 0) -> Iterator[int]:
    yield number


class Client:
    async def fetch(self, number: int = 0) -> int:
        return number

    @staticmethod
    async def fetch_static(number: int = 0) -> int:
        return number

    @classmethod
    async def fetch_class(cls, number: int = 0) -> int:
        return number

    def count(self, number: int = 0) -> Iterator[int]:
        yield number


class AsyncCall:
    async def __call__(self, number: int = 0) -> int:
        return number


class StreamCall:
    async def __call__(self, number: int = 0) -> AsyncIterator[int]:
        yield number


class CountCall:
    def __call__(self, number: int = 0) -> Iterator[int]:
        yield number


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that knows nothing of async: what it makes is a plain function."""

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


@logged
async def fetch_logged(number: int = 0) -> int:
    return number


def give_coroutine(number: int = 0) -> Coroutine[Any, Any, int]:
    return fetch(number)


def give_stream(number: int = 0) -> AsyncIterator[int]:
    return stream(number)


def give_generator(number: int = 0) -> Iterator[int]:
    return (each for each in range(number))


def give_coroutine_inside(number: int = 0) -> dict[str, Any]:
    return {"answers": [fetch(number)]}


class CoroutineClass:
    """A class whose instances can be awaited: calling the class runs nothing that is async."""

    def __init__(self, number: int = 0) -> None:
        self.number = number

    def __await__(self) -> Any:
        yield

    async def __call__(self) -> None: ...


class Guarded:
    """An object that can be called, and whose attributes raise what nobody expects."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __call__(self, number: int) -> int:
        return number + 1
