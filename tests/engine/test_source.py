"""Items in chunks: the same ones, whatever they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lifepool._bulk.source import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence


async def chunks_of(items: Any, size: int) -> list[Sequence[Any]]:
    """Take all, chunk by chunk."""
    source, chunks = Source(items), list[Any]()
    while not source.exhausted:
        chunks.append(await source.take(size))
    assert not await source.take(size)
    await source.aclose()
    return [chunk for chunk in chunks if chunk]


async def asynchronous(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


@pytest.mark.parametrize("size", [1, 3, 5, 10, 11])
@pytest.mark.parametrize("numbers", [range(0), range(1), range(10), range(9, -1, -1), range(0, 50, 5), range(-3, 7)])
async def test_a_range_is_cut_into_ranges_and_everything_else_into_tuples(numbers: range, size: int) -> None:
    expected = [tuple(numbers[at : at + size]) for at in range(0, len(numbers), size)]
    ranges = await chunks_of(numbers, size)
    assert [type(chunk) for chunk in ranges] == [range] * len(expected)
    assert [tuple(chunk) for chunk in ranges] == expected
    assert await chunks_of(list(numbers), size) == expected
    assert await chunks_of(iter(numbers), size) == expected
    assert await chunks_of(asynchronous(numbers), size) == expected


async def test_a_range_that_no_memory_could_hold_is_taken_like_any_other() -> None:
    source = Source(range(10**18))
    assert await source.take(2) == range(2)
    assert await source.take(10**9) == range(2, 2 + 10**9)
    assert not source.exhausted
