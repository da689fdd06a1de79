"""What becomes of a job when an attempt has ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifepool.jobs.records import JobState
from lifepool.jobs.rules import MAX_DELAY_S, Counts, Ending, next_step

QUEUED, FAILED, LOST = JobState.QUEUED, JobState.FAILED, JobState.LOST


@pytest.mark.parametrize(
    ("ending", "attempts", "failures", "retries", "expected"),
    [
        (Ending.SUCCEEDED, 1, 0, 0, JobState.SUCCEEDED),
        (Ending.FAILED, 1, 0, 0, FAILED),
        (Ending.FAILED, 1, 0, 1, QUEUED),
        (Ending.FAILED, 2, 1, 1, FAILED),
        (Ending.FAILED, 3, 0, 9, FAILED),  # there are retries left, but no attempts
        (Ending.PERMANENT_FAILURE, 1, 0, 9, FAILED),
        (Ending.CRASHED, 2, 0, 0, QUEUED),
        (Ending.CRASHED, 3, 0, 0, LOST),
        (Ending.CANCELLED, 1, 0, 9, JobState.CANCELLED),
        (Ending.RELEASED, 3, 0, 0, QUEUED),
    ],
)
def test_an_ending_leads_to_a_state(ending: Ending, attempts: int, failures: int, retries: int, expected: str) -> None:
    assert next_step(ending, Counts(attempts, 3, failures, retries, False)).state == expected


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.SUCCEEDED])
def test_a_job_that_is_to_stop_does_not_run_again_whatever_happens(ending: Ending) -> None:
    assert next_step(ending, Counts(1, 3, 0, 9, True)).state is JobState.CANCELLED


def test_what_succeeds_before_it_is_stopped_has_succeeded() -> None:
    assert next_step(Ending.SUCCEEDED, Counts(1, 3, 0, 0, True)).state is JobState.SUCCEEDED


def test_what_is_given_back_was_no_attempt_and_does_not_wait() -> None:
    step = next_step(Ending.RELEASED, Counts(2, 3, 1, 2, False))
    assert (step.attempts, step.failures, step.delay) == (1, 1, 0)


def test_each_failure_waits_twice_as_long_up_to_a_limit() -> None:
    delays = [next_step(Ending.FAILED, Counts(n + 1, 99, n, 99, False)).delay for n in range(12)]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[-1] == MAX_DELAY_S


@given(st.lists(st.sampled_from(list(Ending)), max_size=60), st.integers(0, 5), st.integers(1, 8))
def test_a_job_ends_unless_it_is_given_back_for_ever(endings: list[Ending], retries: int, max_attempts: int) -> None:
    attempts = failures = counted = 0
    for ending in endings:
        attempts += 1
        step = next_step(ending, Counts(attempts, max_attempts, failures, retries, False))
        counted += ending is not Ending.RELEASED
        attempts, failures = step.attempts, step.failures
        assert attempts == counted
        assert counted <= max_attempts
        if step.state is not QUEUED:
            break
