"""A module as users write it: a pool at the top, and functions on lists that are awaited for one item."""

from __future__ import annotations

import os
from typing import Any

from lifepool import Pool
from tests import tasks

pool = Pool(max_workers=1)


@pool.batch
def double(numbers: list[int]) -> list[int]:
    """Double each."""
    return [2 * number for number in numbers]


@pool.batch(max_size=4, max_wait=60)
def with_company(items: list[Any]) -> list[tuple[Any, int, int]]:
    """Each item, how many were in its batch, and in which process."""
    return [(item, len(items), os.getpid()) for item in items]


@pool.batch(max_size=2, max_wait=0)
def pairs(items: list[Any]) -> list[int]:
    return [len(items)] * len(items)


@pool.batch(max_size=3, max_wait=60)
def held(items: list[tuple[str, Any]]) -> list[Any]:
    """Wait at the gate of the first."""
    tasks.hold(items[0][0])
    return [(value, len(items)) for _, value in items]


@pool.batch(max_wait=60, timeout=0.2)
def held_with_timeout(items: list[str]) -> list[str]:
    tasks.hold(items[0])
    return items


def _perform(items: list[tuple[str, Any]]) -> Any:
    """Do what the items say."""
    if ("whole", "raise") in items:
        raise ValueError(f"no batch of {len(items)}")
    if ("whole", "exit") in items:
        os._exit(3)
    if ("whole", "wrong count") in items:
        return [1]
    if ("whole", "text") in items:
        return "ab"
    if ("whole", "none") in items:
        return None
    return [_outcome(*item) for item in items]


def _outcome(what: str, value: Any) -> Any:
    if what == "error":
        return LookupError(value)
    if what == "lambda":
        return lambda: value
    if what == "big":
        return bytes(value)
    if what == "only alone" and value:
        raise KeyError(value)
    return value


@pool.batch(max_wait=60)
def perform(items: list[tuple[str, Any]]) -> Any:
    return _perform(items)


@pool.batch(max_wait=60, split_on_error=False)
def perform_whole(items: list[tuple[str, Any]]) -> Any:
    return _perform(items)


@pool.batch(max_wait=60, retries=1)
def die_once(paths: list[str]) -> list[str]:
    return [tasks.die_unless_tried_before(path) for path in paths]


@pool.batch(max_size=5, max_wait=0.001)
def random_outcomes(items: list[tuple[int, str]]) -> list[Any]:
    """For the test with random cancels and failures: the item's number says which caller it is of."""
    if any(what == "raise" for _, what in items):
        number = next(number for number, what in items if what == "raise")
        raise ValueError(number)
    return [LookupError(number) if what == "error" else number * 10 for number, what in items]


class Nested:
    @staticmethod
    def double(items: list[int]) -> list[int]:
        return [2 * item for item in items]
