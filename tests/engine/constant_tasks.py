"""Values that know how often they were pickled and rebuilt, and tasks that use them."""

from __future__ import annotations

import os
from typing import Any

from lifepool._transfer import constants
from tests import tasks


class Table:
    """Counts how often it is pickled; notes each process that rebuilds it."""

    def __init__(self, path: str, words: dict[str, int]) -> None:
        self.path = path
        self.words = words
        self.pickled = 0

    def __reduce__(self) -> tuple[object, ...]:
        self.pickled += 1
        return (rebuild, (self.path, dict(self.words)))


def rebuild(path: str, words: dict[str, int]) -> Table:
    tasks.append_line(path, str(os.getpid()))
    return Table(path, words)


def look_up(table: Table, word: str) -> int | None:
    return table.words.get(word)


def hold_and_look_up(address: str, table: Table, word: str) -> tuple[int, int | None]:
    tasks.hold(address)
    return os.getpid(), look_up(table, word)


def kind_and_identity(value: object) -> tuple[str, int]:
    return type(value).__name__, id(value)


def size_of_both(first: Any, second: Any) -> tuple[int, int]:
    return len(first), len(second)


def how_many_are_kept(_: object) -> int:
    return len(constants._values) + len(constants._arrived)


def first_of(values: list[Any]) -> str:
    return type(values[0]).__name__


class Holder:
    def __init__(self) -> None:
        self.session = tasks.Session()


kept: list[object] = []


def keep(value: object) -> None:
    """An initializer."""
    kept.append(value)


def what_is_kept() -> list[object]:
    return kept
