"""`on_progress` of `map` and `gather`: counts are right, calls are few, and a bad hook hurts nobody."""

from __future__ import annotations

import asyncio
import io
import logging
import re
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool import Pool
from lifepool._bulk.meter import REPORTS_PER_S, Meter
from lifepool.progress import MapProgress, rich_progress, tqdm_progress
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator

    from lifepool._engine.handle import TaskHandle
    from lifepool._transfer.grouped import GroupResult
    from tests.engine.gates import Gate


class Seen(list[MapProgress]):
    """A hook that remembers; and lets a test wait for what it wants to see."""

    def __init__(self) -> None:
        self._news = asyncio.Event()

    def __call__(self, progress: MapProgress) -> None:
        self.append(progress)
        self._news.set()

    async def wait_for(self, condition: Callable[[MapProgress], bool]) -> None:
        async with asyncio.timeout(20):
            while not (self and condition(self[-1])):
                self._news.clear()
                await self._news.wait()


@pytest.mark.all_loops
async def test_it_begins_with_nothing_grows_and_ends_with_everything() -> None:
    seen = Seen()
    async with Pool(max_workers=2) as pool:
        async for _ in pool.map(tasks.double, range(500), on_progress=seen):
            pass
    assert (seen[0].done, seen[0].total, seen[0].finished) == (0, 500, False)
    assert (seen[-1].done, seen[-1].total, seen[-1].failed, seen[-1].finished) == (500, 500, 0, True)
    assert [p.finished for p in seen].count(True) == 1
    counts = [p.done for p in seen]
    assert counts == sorted(counts)
    assert seen[-1].rate == pytest.approx(500 / seen[-1].elapsed_s)


async def test_of_a_range_that_stands_for_more_than_can_be_counted_no_total_is_told() -> None:
    seen = Seen()
    async with Pool(max_workers=1) as pool:
        results = cast("AsyncGenerator[int]", pool.map(tasks.double, range(10**30), on_progress=seen))
        async with aclosing(results):
            assert await anext(results) == 0
    assert seen[0].total is None


@pytest.mark.parametrize("chunksize", [1, 7, "auto"])
async def test_items_that_failed_are_counted(chunksize: Any) -> None:
    seen = Seen()
    async with Pool(max_workers=2) as pool:
        await pool.gather(
            tasks.fail_for_three, [1, 3, 5, 3], return_exceptions=True, chunksize=chunksize, on_progress=seen
        )
    assert (seen[-1].done, seen[-1].failed) == (4, 2)


async def test_items_of_a_lost_chunk_have_failed() -> None:
    seen = Seen()
    items = [("nothing", 1), ("exit", 1), ("nothing", 2), ("nothing", 3)]
    async with Pool(max_workers=1) as pool:
        await pool.gather(tasks.perform_pair, items, return_exceptions=True, chunksize=2, on_progress=seen)
    assert (seen[-1].done, seen[-1].failed) == (4, 2)


async def test_without_a_length_there_is_no_total() -> None:
    async def endless() -> AsyncIterator[int]:
        for number in range(5):
            yield number

    async with Pool(max_workers=1) as pool:
        for items in (iter(range(5)), endless()):
            seen = Seen()
            assert len(await pool.gather(tasks.echo, items, on_progress=seen)) == 5
            assert {p.total for p in seen} == {None}
            assert seen[-1].done == 5


async def test_it_sees_what_is_done_while_the_first_chunk_is_still_waited_for(gate: Gate) -> None:
    seen = Seen()
    items = [("hold", gate.address), *[("nothing", None)] * 3]
    async with Pool(max_workers=2) as pool:
        gathering = asyncio.ensure_future(pool.gather(tasks.perform_pair, items, chunksize=1, on_progress=seen))
        visitor = await gate.arrival()
        await seen.wait_for(lambda p: p.done == 3)
        visitor.let_through()
        await gathering
    assert seen[-1].done == 4


async def test_a_map_that_is_left_or_fails_says_that_it_has_finished() -> None:
    async with Pool(max_workers=1) as pool:
        seen = Seen()
        results = cast("Any", pool.map(tasks.echo, range(100), chunksize=1, on_progress=seen))
        async with aclosing(results):
            async for _ in results:
                break
        assert seen[-1].finished
        assert 1 <= seen[-1].done < 100
        failing = Seen()
        with pytest.raises(ValueError, match="no 3"):
            await pool.gather(tasks.fail_for_three, range(10), chunksize=10, on_progress=failing)
        assert (failing[-1].done, failing[-1].failed, failing[-1].finished) == (4, 1, True)


async def test_a_hook_that_raises_is_logged_once_and_the_map_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    calls = 0

    def hook(_: MapProgress) -> None:
        nonlocal calls
        calls += 1
        raise OSError("no terminal")

    async with Pool(max_workers=1) as pool:
        with caplog.at_level(logging.ERROR, "lifepool"):
            assert await pool.gather(tasks.double, [1, 2], on_progress=hook) == [2, 4]
    assert calls >= 2
    assert (
        [record.getMessage() for record in caplog.records].count(
            "on_progress raised; the map goes on, and this is not logged again"
        )
        == len(caplog.records)
        == 1
    )


async def test_what_is_no_plain_function_is_refused_at_once() -> None:
    async def coroutine(_: MapProgress) -> None: ...

    pool = Pool()
    for hook in (coroutine, 3):
        with pytest.raises(TypeError, match="expected a plain function of one argument, a MapProgress"):
            pool.map(tasks.echo, [], on_progress=cast("Any", hook))
        with pytest.raises(TypeError, match="expected a plain function"):
            await pool.gather(tasks.echo, [], on_progress=cast("Any", hook))


async def test_two_failing_chunks_of_one_map_leave_no_complaint(caplog: pytest.LogCaptureFixture) -> None:
    async with Pool(max_workers=2) as pool:
        with pytest.raises(TypeError):
            await pool.gather(tasks.perform_pair, [()] * 8, chunksize=1)  # type: ignore[arg-type]
    assert caplog.text == ""


# --- how often ------------------------------------------------------------------------------------------------------


class Clock:
    """All of an event loop that a meter needs; its time stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self._timers.append(Timer(when, callback))
        return self._timers[-1]

    def go_on(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self._timers if timer.when <= self.now]
        self._timers = [timer for timer in self._timers if timer.when > self.now]
        for timer in due:
            if not timer.cancelled:
                timer.callback()

    def planned(self) -> int:
        return sum(not timer.cancelled for timer in self._timers)


class Timer:
    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when, self.callback, self.cancelled = when, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class DoneChunk:
    """A handle that the test settles."""

    def __init__(self, count: int) -> None:
        self._values = [None] * count
        self.is_done = False

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self._callback = callback

    def finish(self) -> None:
        self.is_done = True
        self._callback(self)

    def done(self) -> bool:
        return self.is_done

    def cancelled(self) -> bool:
        return False

    def exception(self) -> None:
        return None

    def result(self) -> Any:
        from lifepool._transfer.grouped import GroupResult

        return GroupResult(self._values, {}, 0.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watched(meter: Meter, count: int = 1) -> DoneChunk:
    chunk = DoneChunk(count)
    meter.watch(cast("TaskHandle[GroupResult]", chunk), count)
    return chunk


def test_it_is_told_at_most_so_often_a_second(clock: Clock) -> None:
    told: list[MapProgress] = []
    meter = Meter(told.append, None, cast("Any", clock))
    for _ in range(1000):
        watched(meter).finish()
        clock.go_on(0.001)
    meter.finish()
    assert len(told) <= REPORTS_PER_S + 3  # one second's, the first and the last
    assert told[-1].done == 1000


def test_what_was_held_back_is_told_when_its_time_has_come(clock: Clock) -> None:
    told: list[MapProgress] = []
    meter = Meter(told.append, 7, cast("Any", clock))
    watched(meter, 3).finish()
    assert [p.done for p in told] == [0]
    clock.go_on(1 / REPORTS_PER_S)
    assert [p.done for p in told] == [0, 3]
    meter.finish()
    assert clock.planned() == 0


def test_chunks_whose_callback_has_not_come_yet_are_counted_at_the_end(clock: Clock) -> None:
    told: list[MapProgress] = []
    meter = Meter(told.append, 7, cast("Any", clock))
    late, unfinished = watched(meter, 3), watched(meter, 4)
    late.is_done = True
    meter.finish()
    late.finish()
    unfinished.finish()
    assert [(p.done, p.finished) for p in told] == [(0, False), (3, True)]
    assert clock.planned() == 0


# --- bars -----------------------------------------------------------------------------------------------------------


def looks(total: int | None, *counts: int, failed: int = 0) -> Iterator[MapProgress]:
    for index, done in enumerate(counts):
        yield MapProgress(done, total, failed, 1.0, float(done), finished=index == len(counts) - 1)


def test_tqdm_draws_a_bar_for_one_map_after_another() -> None:
    out = io.StringIO()
    hook = tqdm_progress("pages", unit="page", file=out, mininterval=0)
    for progress in [*looks(10, 0, 5, 10, failed=2), *looks(None, 0, 3)]:
        hook(progress)
    text = out.getvalue()
    assert re.search(r"pages: 100%\|.*\| 10/10 \[.*failed=2\]", text)
    assert re.search(r"pages: 3page", text)


def test_rich_draws_a_bar_for_one_map_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console
    from rich.progress import Progress

    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with Progress(console=console, auto_refresh=False) as display:
        hook = rich_progress("pages", progress=display)
        for progress in [*looks(10, 0, 5, 10), *looks(None, 0, 3)]:
            hook(progress)
        assert [(task.description, task.completed, task.total) for task in display.tasks] == [
            ("pages", 10, 10),
            ("pages", 3, None),
        ]
        assert display.live.is_started  # the one who started it stops it


def test_rich_starts_and_stops_a_display_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    hook = rich_progress("pages")
    for progress in looks(4, 0, 4):
        hook(progress)
    assert re.search(r"pages .*100%", capsys.readouterr().out)


async def test_a_bar_can_be_given_to_a_map() -> None:
    out = io.StringIO()
    async with Pool(max_workers=1) as pool:
        assert len(await pool.gather(tasks.echo, range(20), on_progress=tqdm_progress(file=out))) == 20
    assert "20/20" in out.getvalue()


@pytest.mark.parametrize(("make", "module"), [(tqdm_progress, "tqdm"), (rich_progress, "rich.progress")])
def test_without_the_package_it_says_what_to_install(
    make: Callable[[], Any], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"{module.split('.')[0]}: pip install 'lifepool\[progress\]'"):
        make()
