"""Overload in simulated time: admitted tasks are answered in time, and little work is done for tasks given up on."""

from __future__ import annotations

from itertools import chain, repeat
from typing import TYPE_CHECKING

import pytest

from lifepool._core import policy
from lifepool._core.states import TaskState, WorkerState
from lifepool.errors import QueueFull
from tests.core.overload import Simulation
from tests.core.script import Script, knowing, running

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

MEAN_S = 0.01
DURATION_S = 6.0


def always_the_same(_: Random) -> tuple[str, float]:
    return "f", MEAN_S


def exponential(random: Random) -> tuple[str, float]:
    return "f", random.expovariate(1 / MEAN_S)


def short_and_long_by_name(random: Random) -> tuple[str, float]:
    if random.random() < 0.9:
        return "short", random.uniform(0.001, 0.003)
    return "long", random.uniform(0.062, 0.102)


def short_and_long_unforeseen(random: Random) -> tuple[str, float]:
    return "f", 0.002 if random.random() < 0.9 else 0.082


@pytest.mark.parametrize("factor", [2, 10])
@pytest.mark.parametrize("workers", [2, 8])
@pytest.mark.parametrize(
    ("work", "timeout", "least"),
    [
        (always_the_same, 0.2, 0.97),
        (exponential, 0.2, 0.93),
        (short_and_long_by_name, 0.2, 0.9),
        (short_and_long_unforeseen, 0.2, 0.85),
        (exponential, 0.05, 0.83),  # one in 150 tasks needs longer than its timeout even if it starts at once
    ],
)
def test_at_many_times_the_capacity_the_goodput_stays_near_it(
    work: Callable[[Random], tuple[str, float]], timeout: float, least: float, workers: int, factor: int
) -> None:
    simulation = Simulation(work, factor=factor, mean_s=MEAN_S, timeout=timeout, workers=workers, seed=1)
    overload = simulation.run(DURATION_S)
    assert overload.goodput >= least
    assert overload.late < 0.1
    assert overload.refused > 0.05


def test_a_load_that_fits_is_let_in() -> None:
    simulation = Simulation(exponential, factor=0.7, mean_s=MEAN_S, timeout=0.2, workers=4, seed=1)
    overload = simulation.run(DURATION_S)
    assert overload.refused < 0.01
    assert overload.late < 0.01


def test_the_safety_factor_comes_from_tasks_that_waited_too_long_not_from_those_that_hang() -> None:
    pool = knowing(0.1, max_queue=50)
    admission = pool.scheduler.admission
    pool.submit(1, name="f", timeout=100.0)
    pool.submit(2, name="f", timeout=10.0)
    pool.submit(3, name="f", timeout=1.0)
    pool.pass_time(1.0 - 1e-6)
    pool.fire()
    assert admission.safety_factor == pytest.approx(policy.SAFETY_FACTOR * (1 + policy.SAFETY_STEP)), (
        "the third waited in vain"
    )
    before = admission.safety_factor
    pool.returned(1, 1)
    assert admission.safety_factor < before, "the first was in time"
    before = admission.safety_factor
    pool.pass_time(9.0)
    assert pool.errors.keys() == {3, 1, 2}
    assert admission.safety_factor < before, "nobody waited before the second"


def test_what_was_learned_is_forgotten_by_half_in_a_minute() -> None:
    pool = taught_by_late_tasks()
    admission = pool.scheduler.admission
    excess = admission.safety_factor - policy.SAFETY_FACTOR
    pool.now += policy.SAFETY_HALF_LIFE_S
    pool.submit(90, name="f")
    assert admission.safety_factor - policy.SAFETY_FACTOR == pytest.approx(excess / 2, rel=0.01)
    pool.now += 20 * policy.SAFETY_HALF_LIFE_S
    pool.submit(91, name="f")
    assert admission.safety_factor == pytest.approx(policy.SAFETY_FACTOR, rel=0.01)


def test_while_nobody_waits_it_is_forgotten_in_no_time() -> None:
    pool = taught_by_late_tasks()
    excess = pool.scheduler.admission.safety_factor - policy.SAFETY_FACTOR
    pool.returned(1, 1)
    pool.returned(1, 2)
    pool.now += 4 * policy.CALM_HALF_LIFE_S
    pool.submit(50, name="f")
    pool.submit(51, name="f")
    assert pool.scheduler.admission.safety_factor - policy.SAFETY_FACTOR == pytest.approx(excess / 2**4, rel=0.25)


def taught_by_late_tasks() -> Script:
    """Return a busy pool with one waiting task, in which many tasks were late."""
    pool = knowing(0.1, max_queue=50)
    for task in (1, 2):
        pool.submit(task, name="f")
    for _ in range(10):
        pool.scheduler.admission.learn(late=True)
    assert pool.scheduler.admission.safety_factor > 3.0
    return pool


def test_a_wait_that_nobody_could_predict_does_not_raise_the_safety_factor() -> None:
    pool = knowing(0.1, max_queue=50)
    pool.submit(1, name="new")
    pool.submit(2, name="new")
    pool.submit(3, name="f", timeout=1.0)
    pool.pass_time(1.1)
    assert pool.errors[3] is not None
    assert pool.scheduler.admission.safety_factor == policy.SAFETY_FACTOR, "nothing was known of the second"


def test_a_run_that_was_broken_off_was_at_least_so_long() -> None:
    pool = running()
    pool.submit(1, name="f", timeout=2.0)
    pool.pass_time(2.1)
    assert pool.scheduler.run_times.mean("f") == pytest.approx(2.0, rel=0.01)
    known = knowing(5.0)
    known.submit(1, name="f", timeout=2.0)
    known.pass_time(2.1)
    assert known.scheduler.run_times.mean("f") == 5.0, "that it takes longer than two seconds was known"


# -- the first tasks of a function ------------------------------------------------------------------------------------


def taking(seconds: float) -> Callable[[Random], tuple[str, float]]:
    return lambda _: ("f", seconds)


class SlowAtFirst:
    """Each of two workers loads something in its first task."""

    def __init__(self, first_s: float, then_s: float) -> None:
        self._seconds = chain([first_s] * 2, repeat(then_s))

    def __call__(self, _: Random) -> tuple[str, float]:
        return "f", next(self._seconds)


def cold(work: Callable[[Random], tuple[str, float]], timeout: float, workers: int = 2) -> Simulation:
    simulation = Simulation(work, factor=1, mean_s=1, timeout=timeout, workers=workers, seed=1)
    simulation.start()
    return simulation


@pytest.mark.parametrize(("workers", "tasks"), [(2, 40), (8, 200)])
def test_of_a_cold_burst_those_who_have_no_hope_are_refused_while_they_wait(workers: int, tasks: int) -> None:
    pool = cold(taking(0.4), 2.0, workers)
    assert pool.burst(tasks) == 0, "nothing is known yet"
    pool.pass_time(1.0)
    assert pool.outcomes()["cancelled"] == tasks - 4 * workers, "within half of their timeout"
    pool.pass_time(1.5)
    assert pool.outcomes() == {"completed": 4 * workers, "cancelled": tasks - 4 * workers}
    assert pool.scheduler.tally.refused == tasks - 4 * workers
    assert pool.burst(3 * workers) == 0, "and those who come then are let in if they fit"
    pool.pass_time(2.5)
    assert pool.outcomes()["completed"] == 7 * workers


@pytest.mark.parametrize(
    ("work", "timeout", "tasks"),
    [
        (taking(0.001), 2.0, 100),
        (taking(0.02), 2.0, 100),
        (taking(0.001), 30.0, 900),
        (SlowAtFirst(1.5, 0.001), 2.0, 100),
        (SlowAtFirst(3.0, 0.01), 10.0, 500),
    ],
)
def test_of_a_cold_burst_that_fits_nobody_is_refused(
    work: Callable[[Random], tuple[str, float]], timeout: float, tasks: int
) -> None:
    pool = cold(work, timeout)
    assert pool.burst(tasks) == 0
    pool.pass_time(timeout)
    assert pool.outcomes() == {"completed": tasks}


def test_who_is_refused_later_hears_when_to_come_back() -> None:
    pool = running(max_queue=100)
    for task in range(1, 31):
        pool.submit(task, name="f", timeout=2.0)
    pool.now += 0.4
    pool.returned(1, 1, 0.4)
    pool.pass_time(0.4)
    refused = [error for error in pool.errors.values() if error is not None]
    assert len(refused) > 20
    assert all(isinstance(error, QueueFull) and error.retry_after > 0 for error in refused)
    assert pool.errors[30] is not None, "who came last goes first"
    assert pool.scheduler.tally.outcomes[TaskState.CANCELLED] == pool.scheduler.tally.refused == len(refused)


def test_a_chunk_of_a_map_is_not_refused_any_more() -> None:
    pool = running(max_queue=100)
    for task in range(1, 31):
        pool.submit(task, name="f", timeout=2.0, firm=True)
    pool.now += 0.4
    pool.returned(1, 1, 0.4)
    pool.pass_time(1.0)
    assert pool.errors == {1: None}


def test_the_end_of_the_pool_overtakes_provisional_tasks() -> None:
    pool = running(max_queue=100)
    for task in range(1, 31):
        pool.submit(task, name="f", timeout=2.0)
    pool.close()
    assert len(pool.errors) == 30
    pool.pass_time(3.0)


def test_a_drain_ends_when_the_last_who_waited_was_refused() -> None:
    pool = running(max_queue=100)
    for task in range(1, 31):
        pool.submit(task, name="f", timeout=2.0)
    pool.now += 0.4
    pool.returned(1, 1, 0.4)
    pool.drain()
    pool.pass_time(3.0)
    assert len(pool.errors) == 30
    pool.returned(1, 2, 3.0, succeeded=False)
    assert pool.scheduler.fleet.count(WorkerState.STOPPING) == 1


def test_a_task_that_had_most_of_its_time_to_itself_was_let_in_rightly() -> None:
    pool = running(max_queue=50)
    for task in (1, 2, 3):
        pool.submit(task, timeout=10.0)
    for task in (1, 2):
        pool.returned(1, task)
    pool.pass_time(11.0)
    assert pool.errors[3] is not None
    assert pool.scheduler.admission.safety_factor == policy.SAFETY_FACTOR
