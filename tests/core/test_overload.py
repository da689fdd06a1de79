"""Overload in simulated time: what the door lets in is answered in time, and the workers do not work for nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lifepool._core import policy
from tests.core.overload import Simulation
from tests.core.script import running

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


@pytest.mark.parametrize("factor", [2, 5, 10])
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


def test_caution_comes_from_tasks_that_waited_too_long_not_from_those_that_hang() -> None:
    pool = running(max_queue=50)
    door = pool.scheduler.door
    pool.submit(1, timeout=100.0)
    pool.submit(2, timeout=10.0)
    pool.submit(3, timeout=1.0)
    pool.pass_time(1.5)
    assert door.caution == policy.CAUTION * (1 + policy.CAUTION_STEP), "the third waited in vain behind the second"
    pool.returned(1, 1)
    assert door.caution < policy.CAUTION * (1 + policy.CAUTION_STEP), "the first was in time"
    before = door.caution
    pool.pass_time(9.0)
    assert pool.errors.keys() == {3, 1, 2}
    assert door.caution == before, "nobody waited before the second"


def test_a_task_that_had_most_of_its_time_to_itself_was_let_in_rightly() -> None:
    pool = running(max_queue=50)
    for task in (1, 2, 3):
        pool.submit(task, timeout=10.0)
    for task in (1, 2):
        pool.returned(1, task)
    pool.pass_time(11.0)
    assert pool.errors[3] is not None
    assert pool.scheduler.door.caution == policy.CAUTION
