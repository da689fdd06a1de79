"""Pipelining: which tasks are sent ahead, and what is taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lifepool._core import policy
from lifepool._core.states import TaskState
from tests.core.script import knowing, limits_for

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.core.script import Script


def test_short_tasks_are_pipelined_as_deep_as_they_are_short() -> None:
    pool = knowing(1e-3)
    assert [pool.submit(n, name="f") for n in (1, 2, 3)] == [
        ["send 1 to w1", "wake in 2"],
        ["send 2 to w1", "wake in 0.005"],
        [],
    ]
    assert pool.returned(1, 1, 1e-3) == ["1 is completed", "send 3 to w1"]
    tiny = knowing(0.0)
    sent = [said for n in range(10) for said in tiny.submit(n, name="f") if said.startswith("send")]
    assert len(sent) == policy.PIPELINE_DEPTH


def test_long_and_unknown_tasks_are_not_pipelined() -> None:
    pool = knowing(0.01)
    pool.submit(1, name="f")
    assert [pool.submit(2, name="f"), pool.submit(3, name="unknown")] == [[], []]


def test_nothing_is_pipelined_where_nothing_can_be_taken_back() -> None:
    pool = knowing(1e-4, can_retract=False)
    assert pool.submit(1, name="f") == ["send 1 to w1"], "and nobody has to look whether it was claimed"
    assert pool.submit(2, name="f") == []


def test_a_server_that_is_late_sends_as_much_ahead_as_lasts_until_its_next_turn() -> None:
    pool = knowing(2e-3)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    pool.now += 0.0405  # a turn of the server's loop, in which it has heard of nothing
    assert pool.scheduler.task_state(2) is TaskState.RUNNING, "it was not taken back: it may be done"
    said = pool.returned(1, 1, 2e-3)
    assert said == ["1 is completed", "send 3 to w1"]
    sent = [task for task in range(4, 44) if f"send {task} to w1" in pool.submit(task, name="f")]
    assert len(sent) == int(0.0385 / 2e-3) + 1 - 2, "38.5 ms of work, and the one that runs"


def test_the_server_that_is_in_time_again_sends_less_ahead() -> None:
    gap = policy.next_gap(0.0, 0.04)
    assert gap == policy.next_gap(gap, gap) == 0.04
    for _ in range(500):
        gap = policy.next_gap(gap, 1e-4)
    assert gap < policy.PIPELINE_S
    assert policy.next_gap(0.0, 5.0) == policy.GAP_MOST_S, "one long block is not what lies ahead"


def test_tasks_as_long_as_the_server_is_late_are_pipelined() -> None:
    assert policy.pipeline_depth(0.02, 0.05) == 3
    assert policy.pipeline_depth(0.05, 0.05) == 2
    assert policy.pipeline_depth(0.051, 0.05) == 1
    assert policy.pipeline_depth(0.0, 0.05) == policy.PIPELINE_MOST


def test_what_waits_behind_an_overrun_task_is_taken_back() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    assert pool.fire() == ["retract from w1", "wake in 0.005"]
    assert pool.retracted(1, 2) == []
    assert pool.scheduler.task_state(2) is TaskState.QUEUED
    assert pool.submit(3, name="f") == [], "never behind an overrun head"
    assert pool.returned(1, 1, 0.2)[:2] == ["1 is completed", "send 2 to w1"]


def test_a_retraction_that_comes_too_late_is_not_asked_for_in_circles() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    pool.pass_time(0.011)
    assert pool.retracted(1) == []
    assert pool.returned(1, 1, 0.2) == ["1 is completed"]
    assert pool.returned(1, 2, 1e-3) == ["2 is completed"]


def test_the_look_after_pipelined_tasks_ends_with_them() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    for task in (1, 2):
        pool.returned(1, task, 1e-3)
    assert pool.fire() == ["wake in 1.995"], "only the look for stopped workers is left"
    assert pool.fire() == []


def test_only_what_waits_behind_an_overrun_task_is_taken_back() -> None:
    pool = knowing(1e-3, max_workers=2, min_workers=2)
    for task in (1, 2, 3, 4):
        pool.submit(task, name="f")
    pool.now += 4e-3
    pool.returned(2, 1, 4e-3)
    pool.submit(5, name="f")
    assert pool.fire() == ["retract from w1", "wake in 0.005"]


def test_an_idle_worker_is_given_what_is_pipelined_elsewhere() -> None:
    pool = knowing(1e-3, max_workers=2, min_workers=2)
    for task in (1, 2, 3, 4):
        pool.submit(task, name="f")
    pool.returned(2, 1, 1e-3)
    assert pool.returned(2, 3, 1e-3) == ["3 is completed", "retract from w1"]
    assert pool.retracted(1, 4) == ["send 4 to w2"]


def test_tasks_that_are_nearly_done_are_not_stolen() -> None:
    pool = knowing(1e-4, max_workers=2, min_workers=2)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.returned(1, 2, 1e-4) == ["2 is completed"]


def test_a_theft_that_comes_too_late_leaves_all_as_it_is() -> None:
    pool = knowing(1e-3, max_workers=2, min_workers=2)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.returned(1, 2, 1e-3) == ["2 is completed", "retract from w2"]
    assert pool.retracted(2) == []
    assert pool.returned(2, 1, 1e-3) == ["1 is completed"]


def test_a_task_that_nobody_wants_is_not_stolen() -> None:
    pool = knowing(1e-3, max_workers=2, min_workers=2)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.cancel(3) == ["3 is cancelled", "retract from w2"]
    pool.retracted(2)
    assert pool.returned(1, 2, 1e-3) == ["2 is completed"]


def test_what_was_taken_back_keeps_its_position() -> None:
    pool = knowing(2e-4)
    for task in range(1, 8):
        pool.submit(task, name="f")
    assert (pool.scheduler.running, pool.scheduler.waiting) == (6, 1)
    pool.pass_time(0.011)
    pool.retracted(1, 2, 3, 4, 5, 6)
    sent = pool.returned(1, 1, 2e-4)
    assert [line for line in sent if line.startswith("send")] == [f"send {n} to w1" for n in range(2, 8)][:6]


def test_a_worker_that_is_interrupted_gets_nothing_more_until_it_has_answered() -> None:
    pool = knowing(1e-3)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.cancel(2) == ["2 is cancelled", "retract from w1"]
    assert pool.retracted(1) == [], "too late: it has been started"
    said = pool.returned(1, 1, 1e-3)
    assert "interrupt 2 on w1" in said
    assert not [line for line in said if line.startswith("send")]
    assert "send 3 to w1" in pool.returned(1, 2, succeeded=False)


def more_workers_than_cpus(run_s: float) -> Script:
    """Return a pool of four workers on two CPUs that knows how long tasks of ``f`` take."""
    pool = knowing(run_s, max_workers=4, min_workers=4, max_queue=100, cpus=2.0)
    for worker in (3, 4):  # they start as those before them are ready
        pool.ready(worker)
    assert len(pool.scheduler.fleet.idle) == 4
    return pool


def sent_to(pool: Script, tasks: Iterable[int], name: str) -> list[str]:
    return [line.split()[-1] for task in tasks for line in pool.submit(task, name=name) if line.startswith("send")]


def test_very_short_tasks_keep_only_as_many_workers_busy_as_there_are_cpus() -> None:
    pool = more_workers_than_cpus(1e-5)
    assert sent_to(pool, range(16), "f") == ["w4", "w3"] * 8
    assert sent_to(pool, (16,), "f") == ["w2"], "those are full: nobody waits beside a free worker"


def test_tasks_that_are_longer_or_unknown_spread_over_all_workers() -> None:
    assert sent_to(more_workers_than_cpus(1e-3), range(4), "f") == ["w4", "w3", "w2", "w1"]
    assert sent_to(more_workers_than_cpus(1e-5), range(4), "unknown") == ["w4", "w3", "w2", "w1"]


def test_very_short_tasks_do_not_wait_behind_one_that_turned_out_to_be_long() -> None:
    pool = more_workers_than_cpus(1e-5)
    sent_to(pool, (1, 2, 3), "f")
    pool.now += 2 * policy.OVERRUN_S
    assert sent_to(pool, (4,), "f") == ["w2"]


def test_very_short_tasks_do_not_wait_behind_a_long_one_while_another_worker_is_free() -> None:
    pool = more_workers_than_cpus(1e-5)
    assert sent_to(pool, (1, 2), "unknown") == ["w4", "w3"]
    assert sent_to(pool, (3,), "f") == ["w2"]


def test_a_late_server_gathers_no_tasks_that_are_longer() -> None:
    pool = more_workers_than_cpus(1e-2)
    assert sent_to(pool, [1], "f") == ["w4"]
    pool.now += 0.09
    pool.returned(4, 1, 1e-2)
    assert sent_to(pool, range(2, 6), "f") == ["w4", "w3", "w2", "w1"]


@pytest.mark.parametrize("limits", [{"cpus": None}, {"cpus": 4.0}, {"slots": 2}, {"can_retract": False}])
def test_short_tasks_are_gathered_only_where_it_helps(limits: dict[str, Any]) -> None:
    few = {"max_workers": 4, "cpus": 2.0}
    assert policy.workers_for_short(limits_for(**few)) == 2
    assert policy.workers_for_short(limits_for(**few | limits)) == 0
