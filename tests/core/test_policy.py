from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool._core import policy

run_times = st.floats(0, 1, allow_nan=False)


def test_nothing_is_pipelined_while_nothing_is_known() -> None:
    assert policy.pipeline_depth(None) == 1


@given(run_times, run_times)
def test_the_longer_the_tasks_the_shorter_the_pipeline(one: float, other: float) -> None:
    shorter, longer = sorted((one, other))
    assert policy.pipeline_depth(shorter) >= policy.pipeline_depth(longer)


@given(run_times)
def test_a_pipeline_is_bounded(seconds: float) -> None:
    depth = policy.pipeline_depth(seconds)
    assert 1 <= depth <= policy.PIPELINE_DEPTH
    assert (depth == 1) == (seconds > policy.PIPELINE_TASK_S)
    assert depth <= 2 or (depth - 1) * seconds <= policy.PIPELINE_S


def test_pipelines_at_their_edges() -> None:
    edges = [0.0, 1e-9, 2.5e-4, policy.PIPELINE_TASK_S, policy.PIPELINE_TASK_S * 1.001]
    assert [policy.pipeline_depth(s) for s in edges] == [8, 8, 5, 2, 1]


@given(st.integers(1, 10**6))
def test_the_restart_backoff_doubles_up_to_its_bound(failures: int) -> None:
    delay, later = policy.restart_delay(failures), policy.restart_delay(failures + 1)
    assert policy.RESTART_FIRST_S <= delay <= policy.RESTART_LAST_S
    assert later == min(2 * delay, policy.RESTART_LAST_S)


def test_the_first_restart_is_prompt() -> None:
    assert policy.restart_delay(1) == policy.RESTART_FIRST_S


@given(st.integers(1, 10**6), st.floats(0, 1, exclude_max=True))
def test_a_retry_waits_half_its_backoff_and_up_to_the_whole(attempt: int, jitter: float) -> None:
    least, most = policy.retry_delay(attempt, 0.0), policy.retry_delay(attempt, 1.0)
    assert least == most / 2
    assert least <= policy.retry_delay(attempt, jitter) <= most <= policy.RETRY_LAST_S
    assert most >= policy.RETRY_FIRST_S
    assert policy.retry_delay(attempt + 1, jitter) >= policy.retry_delay(attempt, jitter)


def test_the_safety_factor_rises_with_who_is_late_and_is_even_when_one_in_a_hundred_is() -> None:
    factor = 2.0
    for late in [True] + [False] * 95:
        factor = policy.next_safety_factor(factor, late=late)
    assert factor == pytest.approx(2.0, rel=0.01)


def test_the_safety_factor_stays_within_its_bounds() -> None:
    assert policy.next_safety_factor(policy.SAFETY_FACTOR, late=False) == policy.SAFETY_FACTOR
    assert policy.next_safety_factor(policy.SAFETY_FACTOR_MOST, late=True) == policy.SAFETY_FACTOR_MOST


@pytest.mark.parametrize(
    ("tasks", "start_s", "pace_s", "lead"),
    [
        (0, 0.01, 0.001, 0),
        (1, 0.01, 0.001, 0),
        (2, 0.01, 1.0, 1),
        (1000, 0.01, 0.001, 20),
        (1000, 0.01, 0.0015, 14),
        (1000, 0.0, 0.001, 1),
        (10, 5.0, 0.001, 9),
        (10, 0.01, 0.0, 9),
    ],
)
def test_a_successor_is_started_twice_the_time_of_a_start_before_the_last_task(
    tasks: int, start_s: float, pace_s: float, lead: int
) -> None:
    assert policy.recycle_lead(tasks, start_s, pace_s) == lead


def test_as_many_start_at_once_as_keep_the_cpus_busy() -> None:
    assert [policy.starts_at_once(2.0, share) for share in (None, 1.0, 0.5, 0.1, 0.0, 7.0)] == [2, 2, 4, 20, 64, 2]
    assert policy.starts_at_once(0.5, None) == 1
