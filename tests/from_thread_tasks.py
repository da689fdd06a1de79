"""Decorated functions that threads run."""

from __future__ import annotations

from lifepool import Pool

pool = Pool(max_workers=1)


@pool.task
def shout(text: str, mark: str = "!") -> str:
    return text.upper() + mark


@pool.batch
def length_of(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]


def lengths(texts: list[str]) -> list[int]:
    return [len(text) for text in texts]
