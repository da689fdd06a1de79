"""The last minutes from differences of counters: rates, percentiles, and what is forgotten."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from lifepool.dashboard.time_series import COLUMNS, MAX_POINTS, History, Sample
from lifepool.statistics import HistogramSnapshot, PoolStatistics

BOUNDS = (0.001, 0.01, 0.1)
NOTHING = HistogramSnapshot(BOUNDS, (0, 0, 0, 0), 0.0)
EMPTY = PoolStatistics(
    state="running", max_workers=2, workers={"ready": 2}, queued=0, running=0, submitted=0, refused=0, retried=0,
    completed=0, failed=0, cancelled=0, timed_out=0, lost=0, restarts={}, wait=NOTHING, run=NOTHING, utilisation=0.0,
)  # fmt: skip


def look(t: float, *, busy_s: float = 0.0, lag_s: float = 0.0, **counts: Any) -> Sample:
    counts.setdefault("submitted", counts.get("completed", 0))
    return Sample(t, dataclasses.replace(EMPTY, **counts), busy_s, lag_s)


def last(history: History) -> dict[str, float | None]:
    return dict(zip(COLUMNS, history.since(history.number - 1)[-1], strict=True))


def test_a_point_is_what_happened_since_the_one_before() -> None:
    history = History()
    history.add(look(10.0, completed=100))
    history.add(look(12.0, completed=140, failed=1, refused=6, queued=3, lag_s=0.25))
    point = last(history)
    assert (point["t"], point["completed"], point["failed"], point["refused"]) == (12.0, 20.0, 0.5, 3.0)
    assert (point["queued"], point["workers"], point["loop_lag"]) == (3, 2, 0.25)


def test_the_first_point_knows_no_rates() -> None:
    history = History()
    history.add(look(10.0, completed=100))
    point = last(history)
    assert (point["completed"], point["wait_p50"], point["utilisation"]) == (None, None, None)


def test_percentiles_are_those_of_the_second_not_of_all_time() -> None:
    history = History()
    history.add(look(1.0, run=HistogramSnapshot(BOUNDS, (10_000, 0, 0, 0), 1.0)))
    history.add(look(2.0, run=HistogramSnapshot(BOUNDS, (10_000, 0, 100, 0), 6.0)))
    assert last(history)["run_p50"] == pytest.approx(0.05)


def test_one_task_in_a_second_is_shown_with_its_own_time() -> None:
    history = History()
    history.add(look(1.0, run=HistogramSnapshot(BOUNDS, (10_000, 0, 0, 0), 1.0)))
    history.add(look(2.0, run=HistogramSnapshot(BOUNDS, (10_000, 0, 1, 0), 1.051)))
    point = last(history)
    assert [point[name] for name in ("run_p50", "run_p95", "run_p99")] == pytest.approx([0.051] * 3)


def test_a_pool_that_was_started_again_counts_anew() -> None:
    history = History()
    history.add(look(1.0, completed=100))
    history.add(look(2.0, completed=5))
    assert last(history)["completed"] is None
    history.add(look(3.0, completed=7))
    assert last(history)["completed"] == 2.0
    assert history.window()["seconds"] == 1.0


def test_the_window_is_the_last_minute() -> None:
    history = History()
    for second in range(200):
        history.add(look(float(second), completed=second * (10 if second < 100 else 11), lag_s=second / 1000))
    window = history.window()
    assert window["seconds"] == 60.0
    assert window["completed"] == 11.0
    assert window["loop_lag"] == 0.199
    assert History().window() == {"seconds": 0.0}


def test_old_points_are_forgotten_and_new_ones_can_be_asked_for() -> None:
    history = History()
    for second in range(MAX_POINTS + 50):
        history.add(look(float(second), completed=second))
    assert len(history.since(0)) == MAX_POINTS
    assert [point[0] for point in history.since(history.number - 2)] == [MAX_POINTS + 48, MAX_POINTS + 49]
    assert history.since(history.number) == []
    assert history.since(history.number + 5) == []


@pytest.mark.parametrize(
    ("ran_before", "busy_before", "ran", "busy", "expected"),
    [
        (0.0, 0.0, 1.0, 0.0, 0.5),  # one of two workers, with short tasks
        (0.0, 0.0, 0.0, 1.0, 0.5),  # one worker at a task that goes on
        (5.0, 9.0, 15.0, 0.5, 0.75),  # a task of ten seconds ends, and another has run for half of one
        (0.0, 8.0, 0.0, 0.0, 0.0),  # a task was killed: it never said how long it ran
        (0.0, 0.0, 9.0, 0.0, 1.0),  # never more than all
    ],
)
def test_utilisation_counts_tasks_that_go_on(
    ran_before: float, busy_before: float, ran: float, busy: float, expected: float
) -> None:
    history = History()
    history.add(look(1.0, busy_s=busy_before, run=HistogramSnapshot(BOUNDS, (0, 0, 0, 0), ran_before)))
    history.add(look(2.0, busy_s=busy, run=HistogramSnapshot(BOUNDS, (0, 0, 0, 0), ran)))
    assert last(history)["utilisation"] == expected


def test_workers_with_short_tasks_are_occupied_though_functions_hardly_run() -> None:
    history = History()
    for t in (1.0, 2.0, 3.0):
        history.add(look(t, workers={"busy": 2}, run=HistogramSnapshot(BOUNDS, (0, 0, 0, 0), t / 1000)))
    window = history.window()
    assert window["occupied"] == 1.0
    assert 0 < window["utilisation"] < 0.01  # type: ignore[operator]
    assert window["shortest"] == BOUNDS[0]


def test_the_verdicts_window_is_shorter() -> None:
    history = History()
    for t in range(1, 31):
        history.add(look(float(t), refused=t if t < 10 else 10, submitted=10 * t))
    assert history.window()["refused"] == 9 / 29
    assert history.window(10)["refused"] == 0.0
    assert history.window(10)["submitted"] == 10.0


def test_a_pool_without_workers_is_not_utilised() -> None:
    history = History()
    history.add(look(1.0, workers={}))
    history.add(look(2.0, workers={}))
    assert last(history)["utilisation"] == 0.0
