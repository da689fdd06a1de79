"""The profile of the server process: what the stopwatch counts to whom, and that a run gives a table."""

import json
from pathlib import Path

import pytest

from benchmarks.parent import stopwatch
from benchmarks.parent.__main__ import main
from benchmarks.parent.stages import SEND_FRAMES, SEND_TICKETS, STAGES
from benchmarks.parent.stopwatch import Overhead, Stopwatch


class Clock:
    """A clock that moves only when the test moves it."""

    now = 0

    def __call__(self) -> int:
        return self.now

    def work(self, ns: int) -> None:
        self.now += ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "perf_counter_ns", clock)
    return clock


def test_time_belongs_to_the_innermost_stage(clock: Clock) -> None:
    watch = Stopwatch()
    inner = watch.wrap(lambda: clock.work(100), "inner")

    def outer() -> None:
        clock.work(5)
        inner()
        clock.work(7)
        inner()

    watch.wrap(outer, "outer")()
    clock.work(1)
    watch.stop()
    assert (watch.stages["inner"].ns, watch.stages["inner"].calls) == (200, 2)
    assert (watch.stages["outer"].ns, watch.stages["outer"].calls, watch.stages["outer"].children) == (12, 1, 2)
    assert watch.rest.ns == 1


def test_a_stage_that_raises_ends_there(clock: Clock) -> None:
    watch = Stopwatch()

    def fail() -> None:
        clock.work(3)
        raise KeyError

    with pytest.raises(KeyError):
        watch.wrap(fail, "failing")()
    clock.work(9)
    watch.stop()
    assert (watch.stages["failing"].ns, watch.rest.ns) == (3, 9)


def test_the_stopwatch_takes_its_own_time_off(clock: Clock) -> None:
    watch = Stopwatch()
    stage = watch.stage("stage")
    stage.ns, stage.calls, stage.children = 1000, 3, 2
    assert stage.net_ns(Overhead(within=100, around=50)) == 600
    assert Overhead(100, 50).scaled(300) == Overhead(200, 100)


def test_a_run_says_where_the_time_of_a_task_goes(tmp_path: Path) -> None:
    short = ["--rounds", "1", "--duration", "0.05", "--no-strace", "--no-pin", "--output", str(tmp_path)]
    assert main([*short, "--loop", "asyncio", "--in-flight", "2", "--name", "first"]) == 0
    first = tmp_path / "first.json"
    (run,) = json.loads(first.read_text(encoding="utf-8"))["runs"]
    assert not run["missing"]
    assert {SEND_FRAMES, SEND_TICKETS} <= set(run["stages"]) <= set(STAGES)
    assert run["stages"]["scheduler: TaskSubmitted"]["calls"] == pytest.approx(1, abs=0.2)
    assert main([*short, "--loop", "asyncio", "--in-flight", "2", "--name", "second", "--before", str(first)]) == 0
    page = (tmp_path / "second.md").read_text(encoding="utf-8")
    assert "2 in flight, before | 2 in flight, after" in page
