"""`lifepool.futures.ProcessPoolExecutor`: `map`."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool.futures import ProcessPoolExecutor
from tests.engine.gates import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

from tests.futures.helpers import arrive
from tests.tasks import append_line, double, fail, fail_for_three, hold

if TYPE_CHECKING:
    from tests.engine.gates import Gate


def power(base: int, exponent: int) -> int:
    return int(base**exponent)


@pytest.mark.parametrize("chunksize", [1, 3, 10, 1000])
def test_map_keeps_the_order(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(double, range(10), chunksize=chunksize)) == [2 * number for number in range(10)]


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_takes_several_iterables_and_ends_with_the_shortest(executor: ProcessPoolExecutor, chunksize: int) -> None:
    assert list(executor.map(power, [2, 3, 4, 5], [2, 3, 4], chunksize=chunksize)) == [4, 27, 256]


def test_map_of_nothing_is_nothing(executor: ProcessPoolExecutor) -> None:
    assert list(executor.map(double, [])) == []
    assert list(executor.map(double, [], chunksize=5)) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_the_exception_in_its_place(executor: ProcessPoolExecutor, chunksize: int) -> None:
    results = executor.map(fail_for_three, range(1, 6), chunksize=chunksize)
    assert (next(results), next(results)) == (1, 2)
    with pytest.raises(ValueError, match="no 3"):
        next(results)


def test_map_gives_up_after_its_timeout_and_breaks_the_task_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    results = executor.map(hold, [gate.address], timeout=0.5)
    visitor = arrive(gate)
    with pytest.raises(TimeoutError):
        next(results)
    asyncio.run(visitor.gone())


def test_map_refuses_a_senseless_chunksize(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match=r"chunksize must be >= 1\."):
        executor.map(double, [1], chunksize=0)


@pytest.mark.parametrize("ends", ["raises", "is closed"])
def test_only_what_no_worker_has_begun_is_cancelled(ends: str, gate: Gate, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    trace.touch()
    with ProcessPoolExecutor(2) as executor:
        notes, hold_both = [("note", str(trace))], [("hold", gate.address)] * 2
        results = executor.map(run_step, [*notes, ("fail", ""), *hold_both, *notes * 2000])
        visitors = [arrive(gate), arrive(gate)]
        assert next(results) is None
        if ends == "raises":
            with pytest.raises(ValueError, match="no luck"):
                next(results)
        else:
            cast("Generator[Any]", results).close()
        again = executor.map(run_step, [("hold", gate.address)])  # after one of the two, when all notes are cancelled
        visitors.pop().let_through()  # it was not broken off
        visitors.append(arrive(gate))
        for visitor in visitors:
            visitor.let_through()
        assert list(again) == [None]
    assert len(trace.read_text().split()) < 2000


def run_step(step: tuple[str, str]) -> Any:
    does: dict[str, Callable[[str], Any]] = {"fail": lambda _: fail("no luck"), "hold": hold, "note": note}
    return does[step[0]](step[1])


def note(path: str) -> None:
    append_line(path, "ran")


@pytest.mark.parametrize("chunksize", [1, 4])
def test_what_map_returns_can_be_closed(executor: ProcessPoolExecutor, chunksize: int) -> None:
    results = cast("Generator[int]", executor.map(double, range(10), chunksize=chunksize))
    assert next(results) == 0
    results.close()
    assert list(results) == []
    assert executor.submit(double, 1).result(PATIENCE_S) == 2


@pytest.mark.parametrize("chunksize", [1, 3])
def test_a_buffer_limits_how_far_the_items_are_read_ahead(executor: ProcessPoolExecutor, chunksize: int) -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    results = cast("Generator[int]", executor.map(double, endless(), chunksize=chunksize, buffersize=2))
    assert len(read) == 2 * chunksize
    assert [next(results) for _ in range(9)] == [2 * number for number in range(9)]
    assert len(read) <= 9 + 3 * chunksize
    results.close()


@pytest.mark.parametrize(
    ("buffersize", "error", "message"),
    [(0, ValueError, "buffersize must be None or > 0"), (1.5, TypeError, "buffersize must be an integer or None")],
)
def test_a_senseless_buffer_is_refused(
    executor: ProcessPoolExecutor, buffersize: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        executor.map(double, [1], buffersize=buffersize)
