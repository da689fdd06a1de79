"""`python -m benchmarks check` finds what got slower, and takes noise for noise."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.regressions import command, pairs
from benchmarks.regressions.pairs import CASES, Pair, Slowed
from benchmarks.regressions.stored import MOST_RUNS, Run, Stored, bound
from lifepool.cli.bench.contenders import Contender

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.regressions.pairs import PairedCase

QUICK, SLOW = 7e-6, 80e-6
NO_OP = CASES[0]
ABOUT = {"date": "today", "commit": "abc", "cpu": "fast", "cpus": 2, "kernel": "6", "python": "CPython 3.11"}


class Machine:
    """Stands in for the measurements.

    Args:
        ratios: of each case, one after the other; the last is repeated.
        ping_pong: seconds.
    """

    def __init__(self, *ratios: float, ping_pong: float = SLOW) -> None:
        self._ratios = list(ratios)
        self._ping_pong = ping_pong
        self.measured: list[str] = []

    def measure(self, case: PairedCase, request: dict[str, Any]) -> Pair:
        assert request["slowed"] == 1
        self.measured.append(case.key)
        ratio = self._ratios.pop(0) if len(self._ratios) > 1 else self._ratios[0]
        return Pair(ratio, self._ping_pong)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ratios.json"


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, path: Path) -> Callable[..., int]:
    def check(machine: Machine, *arguments: str) -> int:
        monkeypatch.setattr(pairs, "measure", machine.measure)
        return command.main(["--rounds", "1", "--ratios", str(path), "--case", NO_OP.key, *arguments])

    return check


def store(path: Path, *ratios: float, ping_pong: float = SLOW) -> None:
    stored = Stored(path)
    for ratio in ratios:
        stored.add(NO_OP.key, Run((ratio,), ping_pong), ABOUT)
    stored.write()


def test_the_bound_is_15_percent_below_the_median_and_never_above_what_was_seen() -> None:
    assert bound([5.0, 5.1]) is None
    assert bound([5.0, 5.1, 4.9]) == pytest.approx(4.25)
    assert bound([5.0, 5.1, 4.0]) == 4.0


def test_a_run_within_the_bound_is_ok_and_measured_once(
    check: Callable[..., int], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(path, 5.0, 5.1, 4.9)
    machine = Machine(4.3)
    assert check(machine) == 0
    assert machine.measured == [NO_OP.key]
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["case", "loop", "against", "stored", "bound", "now", "wake-ups", "verdict"]
    assert row.split() == [
        *("no-op", "asyncio", "standard"),
        *("5.00x", "(4.90-5.10),", "3", "runs", "4.25x", "4.30x", "(4.30-4.30)", "slow", "ok"),
    ]


def test_what_is_slower_twice_fails(check: Callable[..., int], path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store(path, 5.0, 5.1, 4.9)
    machine = Machine(4.0)
    assert check(machine) == 1
    assert machine.measured == [NO_OP.key] * 2
    out = capsys.readouterr().out
    assert "SLOWER" in out
    assert "twice: no-op, asyncio." in out


def test_what_is_slower_once_is_noise(check: Callable[..., int], path: Path) -> None:
    store(path, 5.0, 5.1, 4.9)
    machine = Machine(2.0, 5.0)
    assert check(machine) == 0
    assert machine.measured == [NO_OP.key] * 2


def test_only_what_seems_slower_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CASES[1]
    stored = Stored(path)
    for case in (NO_OP, other):
        for _ in range(3):
            stored.add(case.key, Run((5.0,), SLOW), ABOUT)
    stored.write()
    measured = []

    def measure(case: PairedCase, request: dict[str, Any]) -> Pair:
        measured.append(case.key)
        return Pair(5.0 if case is NO_OP else 3.0, SLOW)

    monkeypatch.setattr(pairs, "measure", measure)
    chosen = ["--case", NO_OP.key, "--case", other.key]
    assert command.main(["--rounds", "2", "--ratios", str(path), *chosen]) == 1
    # Round by round at first, so that what happens for some seconds meets one round of each case.
    assert measured == [NO_OP.key, other.key] * 2 + [other.key] * 2
    assert "twice: no-op, uvloop." in capsys.readouterr().out


def test_runs_of_another_kind_of_wake_ups_are_no_measure(
    check: Callable[..., int], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store(path, 5.0, 5.1, 4.9, ping_pong=QUICK)
    assert check(Machine(2.0, ping_pong=SLOW)) == command.NOTHING_STORED
    assert "Nothing was judged: fewer than 3 runs with such wake-ups are stored." in capsys.readouterr().out
    assert check(Machine(2.0, ping_pong=QUICK)) == 1


def test_store_adds_a_run_with_its_environment(check: Callable[..., int], path: Path) -> None:
    for ratio in (5.0, 2.0):
        assert check(Machine(ratio), "--store") == 0
    runs = json.loads(path.read_text(encoding="utf-8"))[NO_OP.key]
    assert [run["ratio"] for run in runs] == [5.0, 2.0]
    assert runs[0]["ping pong, µs"] == 80
    for name in ("date", "commit", "cpu", "cpus", "kernel", "python"):
        assert name in runs[0]


def test_the_oldest_run_of_a_kind_leaves(path: Path) -> None:
    store(path, 9.0, ping_pong=QUICK)
    store(path, *range(1, MOST_RUNS + 2))
    stored = Stored(path)
    assert stored.ratios(NO_OP.key, "slow") == tuple(range(2, MOST_RUNS + 2))
    assert stored.ratios(NO_OP.key, "quick") == (9.0,)


def test_a_slowed_run_is_never_stored(check: Callable[..., int]) -> None:
    with pytest.raises(SystemExit, match="2"):
        check(Machine(5.0), "--store", "--slowed", "1.25")


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--case", "nonsense"])
    assert "choose from no-op, asyncio; " in capsys.readouterr().err


def test_a_measurement_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match=r"no-op \(asyncio\): (.|\n)*KeyError: 'seconds'"):
        pairs.measure(NO_OP, {"workers": 1})


class Idle(Contender):
    """Does nothing."""

    async def start(self) -> None:
        """Do nothing."""

    async def run(self, fn: Callable[..., Any], *args: Any) -> Any:
        """Call it here."""
        return fn(*args)

    async def close(self) -> None:
        """Do nothing."""


async def test_a_slowed_contender_takes_longer() -> None:
    slowed = Slowed(Idle(1), 0.01)
    start = time.perf_counter()
    assert await slowed.run(int, "3") == 3
    assert time.perf_counter() - start >= 0.01


# Far more than 15 %: on a busy machine a peer's call may take a hundred times as long as usual.
@pytest.mark.parametrize(("case", "slowed"), [(CASES[0], 1000), (CASES[-1], 100)], ids=("no-op", "bytes 1 MiB"))
def test_a_planted_regression_is_found(
    case: PairedCase, slowed: int, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unslowed = pairs.measure(case, {"workers": 1, "seconds": 0.02, "bursts": 2, "slowed": 1.0})
    stored = Stored(path)
    for ping_pong in [QUICK, SLOW] * 3:
        stored.add(case.key, Run((unslowed.ratio,), ping_pong), ABOUT)
    stored.write()
    chosen = ["--quick", "--workers", "1", "--ratios", str(path), "--case", case.key]
    assert command.main([*chosen, "--slowed", str(slowed)]) == 1
    assert "SLOWER" in capsys.readouterr().out
