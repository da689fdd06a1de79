"""`python -m benchmarks check` finds what got slower, and takes noise for noise."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import environment
from benchmarks.regressions import baseline, calls, command, pairs
from benchmarks.regressions.calls import CASES
from benchmarks.regressions.pairs import Request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.regressions.calls import Case

SOURCES = environment.ROOT / "src"
NO_OP = CASES[0]


class Machine:
    """Stands in for the measurements.

    Args:
        ratios: Of each case, one after the other; the last is repeated.
    """

    def __init__(self, *ratios: float) -> None:
        self._ratios = list(ratios)
        self.measured: list[str] = []
        self.request: Request | None = None

    def measure(self, case: Case, request: Request) -> float:
        self.request = request
        self.measured.append(case.key)
        return self._ratios.pop(0) if len(self._ratios) > 1 else self._ratios[0]


@pytest.fixture
def same_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier commit has the sources of today: a copy of a repository may have no history."""
    monkeypatch.setattr(command, "unpack", lambda commit, folder: SOURCES)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, same_sources: None) -> Callable[..., int]:
    def check(machine: Machine, *arguments: str) -> int:
        monkeypatch.setattr(pairs, "measure", machine.measure)
        return command.main(["--rounds", "1", "--case", NO_OP.key, *arguments])

    return check


def test_what_is_hardly_slower_is_ok_and_measured_once(
    check: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(0.88)
    assert check(machine, "--against", "v1") == 0
    assert machine.measured == [NO_OP.key]
    *_, about, head, row = capsys.readouterr().out.splitlines()
    assert about == "lifepool as it is, and as it was at v1:"
    assert head.split("  ")[0] == "case"
    assert row.split() == ["no-op", "asyncio", "0.88x", "(0.88-0.88)", "ok"]


def test_what_is_slower_twice_fails(check: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(0.86)
    assert check(machine) == 1
    assert machine.measured == [NO_OP.key] * 2
    out = capsys.readouterr().out
    assert "SLOWER" in out
    assert "Slower by more than 15%, twice: no-op, asyncio." in out


def test_what_is_slower_once_is_noise(check: Callable[..., int]) -> None:
    machine = Machine(0.4, 1.0)
    assert check(machine) == 0
    assert machine.measured == [NO_OP.key] * 2


def test_the_median_of_the_rounds_counts(check: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(0.2, 1.1, 0.9)
    assert check(machine, "--rounds", "3") == 0
    assert machine.measured == [NO_OP.key] * 3
    assert "0.90x (0.20-1.10)" in capsys.readouterr().out


def test_only_what_seems_slower_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, same_sources: None, capsys: pytest.CaptureFixture[str]
) -> None:
    other = CASES[1]
    measured = []

    def measure(case: Case, request: Request) -> float:
        measured.append(case.key)
        return 1.0 if case is NO_OP else 0.5

    monkeypatch.setattr(pairs, "measure", measure)
    assert command.main(["--rounds", "2", "--case", NO_OP.key, "--case", other.key]) == 1
    # Round by round at first, so that what happens for some seconds meets one round of each case.
    assert measured == [NO_OP.key, other.key] * 2 + [other.key] * 2
    assert "twice: no-op, uvloop." in capsys.readouterr().out


def test_today_and_the_earlier_commit_are_measured_alike(check: Callable[..., int]) -> None:
    machine = Machine(1.0)
    check(machine, "--workers", "3", "--slowed", "1.25")
    assert machine.request == Request(
        now=SOURCES, before=SOURCES, workers=3, seconds=command.SECONDS, bursts=command.BURSTS, slowed=1.25
    )


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["--case", "nonsense"])
    assert "choose from no-op, asyncio; " in capsys.readouterr().err


# --- the earlier sources ----------------------------------------------------------------------------------------------


def git(*arguments: str) -> None:
    author = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *author, *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits of a package."""
    root = tmp_path / "repository"
    package = root / "src" / "lifepool"
    package.mkdir(parents=True)
    git("init", "-q", str(root))
    for content in ("before = 1\n", "now = 1\n"):
        (package / "__init__.py").write_text(content)
        git("-C", str(root), "add", ".")
        git("-C", str(root), "commit", "-q", "-m", "a commit")
    monkeypatch.setattr(baseline, "ROOT", root)
    return root


def test_the_sources_are_those_of_the_commit(repository: Path, tmp_path: Path) -> None:
    sources = baseline.unpack("HEAD~1", tmp_path / "before")
    assert (sources / "lifepool" / "__init__.py").read_text() == "before = 1\n"


def test_without_the_commit_nothing_is_measured_and_it_says_what_to_do(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--quick", "--against", "nonsense"]) == command.NO_BASELINE
    assert "git has no sources of nonsense (" in (said := capsys.readouterr().err)
    assert "git fetch --unshallow" in said


def test_without_git_nothing_is_measured_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert command.main(["--quick"]) == command.NO_BASELINE
    assert "are taken from git, which failed" in capsys.readouterr().err


# --- real measurements ------------------------------------------------------------------------------------------------


def request(before: Path = SOURCES, workers: int = 1) -> Request:
    return Request(now=SOURCES, before=before, workers=workers, seconds=0.02, bursts=2)


def test_another_lifepool_than_the_one_asked_for_is_never_measured(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=f"no-op, asyncio: lifepool was imported from .*, not from {tmp_path}"):
        pairs.measure(NO_OP, request(before=tmp_path))


def test_a_measurement_that_fails_says_why(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match=f"no-op, asyncio: the process with lifepool from {SOURCES} ended"):
        pairs.measure(NO_OP, request(workers=-1))
    assert "max_workers" in capfd.readouterr().err


async def call_here(fn: Callable[..., Any], *arguments: Any) -> Any:
    """Stand in for a pool."""
    return fn(*arguments)


@pytest.mark.parametrize("case", CASES, ids=[case.key for case in CASES])
async def test_each_case_tells_how_long_a_call_takes(case: Case) -> None:
    assert await case.burst(call_here, 0.001) > 0


async def test_what_is_slowed_takes_longer() -> None:
    run = calls.slowed(call_here, 0.01)
    start = time.perf_counter()
    assert await run(int, "3") == 3
    assert time.perf_counter() - start >= 0.01


# Far more than 15 %: on a busy machine one side's call may take a hundred times as long as the other's.
@pytest.mark.parametrize(("case", "slowed"), [(CASES[1], 1000), (CASES[-1], 100)], ids=("no-op", "bytes 1 MiB"))
def test_a_planted_regression_is_found(
    case: Case, slowed: int, same_sources: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--quick", "--workers", "1", "--case", case.key, "--slowed", str(slowed)]) == 1
    assert "SLOWER" in capsys.readouterr().out
