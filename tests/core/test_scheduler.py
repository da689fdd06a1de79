"""What becomes of tasks: scripts of events, and the exact commands that follow. Workers' lives: test_supervisor.py."""

from __future__ import annotations

import pytest

from lifepool._core.states import TaskState
from lifepool.errors import InternalError, PoolClosed, QueueFull, TaskTimeout, WorkerLost
from tests.core.script import Script, knowing, running

# -- dispatch ---------------------------------------------------------------------------------------------------------


def test_an_idle_worker_gets_the_task_at_once() -> None:
    pool = running()
    assert pool.submit(1) == ["send 1 to w1", "wake in 2"]
    assert pool.scheduler.task_state(1) is TaskState.RUNNING
    assert (pool.scheduler.running, pool.scheduler.waiting) == (1, 0)


def test_the_answer_settles_the_task() -> None:
    pool = running()
    pool.submit(1)
    assert pool.returned(1, 1) == ["1 is completed"]
    assert pool.scheduler.task_state(1) is None
    pool.submit(2)
    assert pool.returned(1, 2, succeeded=False) == ["2 is failed"]


def test_who_finds_no_worker_waits_and_goes_in_order() -> None:
    pool = running()
    pool.submit(1)
    assert [pool.submit(2), pool.submit(3)] == [[], []]
    assert pool.scheduler.task_state(2) is TaskState.QUEUED
    assert pool.returned(1, 1, 1.0) == ["1 is completed", "send 2 to w1"]
    assert pool.returned(1, 2, 1.0) == ["2 is completed", "send 3 to w1"]


def test_a_higher_priority_goes_first() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    pool.submit(3, priority=1)
    assert pool.returned(1, 1, 1.0) == ["1 is completed", "send 3 to w1"]


def test_keys_take_turns() -> None:
    pool = running()
    for task, key in enumerate(["a", "a", "a", "b"]):
        pool.submit(task, fair_key=key)
    assert pool.returned(1, 0, 1.0)[-1] == "send 1 to w1"
    assert pool.returned(1, 1, 1.0)[-1] == "send 3 to w1"


def test_a_task_submitted_twice_is_a_bug_of_ours() -> None:
    pool = running()
    pool.submit(1)
    with pytest.raises(InternalError, match=r"task 1 was submitted twice(?s:.*)TaskSubmitted\(task=1"):
        pool.submit(1)


def test_a_task_that_is_admitted_as_the_pool_closes_is_settled() -> None:
    pool = running()
    pool.close()
    assert pool.submit(1) == ["1 is cancelled: PoolClosed"]


def test_refusals_are_counted_where_a_task_is_refused_and_not_where_it_is_asked_for() -> None:
    pool = running(max_queue=1)
    pool.submit(1)
    assert pool.scheduler.admit(None) is None
    pool.submit(2)
    assert isinstance(pool.scheduler.admission.refusal(None), QueueFull)
    assert pool.scheduler.tally.refused == 0
    assert isinstance(pool.scheduler.admit(None), QueueFull)
    assert pool.scheduler.tally.refused == 1
    pool.close()
    assert isinstance(pool.scheduler.admit(None), PoolClosed)
    assert pool.scheduler.tally.refused == 1, "a pool that is closed is not full"


def test_waiting_and_running_are_measured() -> None:
    pool = running()
    pool.submit(1)
    pool.now += 3.0
    pool.returned(1, 1, 1.0)
    tally = pool.scheduler.tally
    assert (tally.wait.sum_s, tally.run.sum_s, tally.submitted) == (2.0, 1.0, 1)
    assert pool.scheduler.run_times.overall_s == 1.0


# -- timeouts ---------------------------------------------------------------------------------------------------------


def test_a_timeout_in_the_queue_drops_the_task() -> None:
    pool = running()
    pool.submit(1)
    assert pool.submit(2, timeout=1.0) == ["wake in 1"]
    assert pool.fire() == ["2 is timed_out: TaskTimeout", "wake in 1"]
    error = pool.errors[2]
    assert isinstance(error, TaskTimeout)
    assert (error.timeout, error.started) == (1.0, False)
    assert pool.returned(1, 1, 2.0) == ["1 is completed"]


def test_a_timeout_while_running_interrupts_and_after_a_grace_kills() -> None:
    pool = running()
    pool.submit(1, timeout=1.0)
    assert pool.fire() == ["1 is timed_out: TaskTimeout", "interrupt 1 on w1", "wake in 0.25"]
    error = pool.errors[1]
    assert isinstance(error, TaskTimeout)
    assert error.started
    assert pool.fire() == ["kill w1", "wake in 0.75"]
    assert pool.exited(1, signal=9) == ["start w2"]
    assert pool.scheduler.tally.restarts == {"a task did not end when interrupted": 1}


def test_a_task_that_ends_when_interrupted_keeps_its_worker() -> None:
    pool = running()
    pool.submit(1, timeout=1.0)
    pool.submit(2)
    pool.fire()
    assert pool.returned(1, 1, 1.1, succeeded=False) == ["send 2 to w1"]
    assert pool.fire() == ["wake in 0.75"], "nobody is killed"


def test_a_pipelined_task_that_times_out_is_taken_back_and_its_worker_left_alone() -> None:
    pool = knowing(1e-3)
    pool.submit(1, name="f")
    pool.submit(2, name="f", timeout=1e-3)
    assert pool.fire() == ["2 is timed_out: TaskTimeout", "retract from w1", "wake in 0.004"]
    error = pool.errors[2]
    assert isinstance(error, TaskTimeout)
    assert not error.started
    assert pool.retracted(1, 2) == []
    assert pool.returned(1, 1, 2e-3) == ["1 is completed"]


def test_what_is_pipelined_behind_a_task_that_times_out_goes_elsewhere() -> None:
    pool = knowing(1e-3)
    pool.submit(1, name="f", timeout=2e-3)
    pool.submit(2, name="f")
    assert pool.fire() == ["1 is timed_out: TaskTimeout", "retract from w1", "interrupt 1 on w1", "wake in 0.003"]
    assert pool.retracted(1, 2) == [], "not behind a task that is being broken off"
    pool.pass_time(0.3)
    assert pool.exited(1, signal=9) == ["start w2"]
    assert pool.ready(2) == ["send 2 to w2"]


def test_a_task_that_nobody_wants_is_broken_off_as_soon_as_it_runs() -> None:
    pool = knowing(1e-3)
    pool.submit(1, name="f")
    pool.submit(2, name="f", timeout=1e-3)
    pool.fire()
    pool.retracted(1)  # too late: it runs already
    assert pool.returned(1, 1, 2e-3) == ["1 is completed", "interrupt 2 on w1"]
    assert pool.returned(1, 2, 3e-3, succeeded=False) == []


def test_an_interrupted_task_that_never_ran_costs_nobody_his_worker() -> None:
    pool = knowing(1e-3)
    pool.submit(1, name="f", timeout=2e-3)
    pool.submit(2, name="f")
    pool.fire()
    assert pool.retracted(1, 1, 2) == ["send 2 to w1"], "it had not even started the first"
    assert "kill w1" not in pool.pass_time(1.0)


def test_a_timeout_of_nothing_passes_at_once() -> None:
    pool = running()
    assert pool.submit(1, timeout=0.0) == ["wake in 0"]
    assert pool.fire()[0] == "1 is timed_out: TaskTimeout"


def test_many_timeouts_at_one_instant_are_all_served() -> None:
    pool = running()
    pool.submit(1)
    for task in (2, 3, 4):
        pool.submit(task, timeout=1.0)
    assert [line for line in pool.fire() if "timed_out" in line] == [
        f"{n} is timed_out: TaskTimeout" for n in (2, 3, 4)
    ]


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_a_cancelled_task_leaves_the_queue() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    assert pool.cancel(2) == ["2 is cancelled"]
    assert pool.errors[2] is None
    assert pool.returned(1, 1) == ["1 is completed"]


def test_a_running_task_that_is_cancelled_is_broken_off() -> None:
    pool = running()
    pool.submit(1)
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w1", "wake in 0.25"]
    assert pool.fire()[0] == "kill w1"


def test_an_abandoned_task_may_go_on_and_its_answer_is_dropped() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    assert pool.cancel(1, abandon=True) == ["1 is cancelled"]
    assert (pool.scheduler.running, pool.scheduler.waiting) == (0, 1)
    assert pool.returned(1, 1, 60.0) == ["send 2 to w1"]


def test_a_pipelined_task_that_is_cancelled_is_taken_back() -> None:
    pool = knowing(1e-3)
    for task in (1, 2):
        pool.submit(task, name="f")
    assert pool.cancel(2) == ["2 is cancelled", "retract from w1"]
    assert pool.retracted(1, 2) == []
    assert pool.returned(1, 1, 1e-3) == ["1 is completed"]


def test_where_nothing_can_be_interrupted_the_worker_is_killed() -> None:
    pool = running(can_interrupt=False)
    pool.submit(1)
    assert pool.cancel(1) == ["1 is cancelled", "kill w1"]
    assert pool.exited(1, signal=9) == ["start w2"]
    assert pool.scheduler.tally.restarts == {"interrupted": 1}


def test_where_nothing_can_be_killed_an_interrupt_is_all_there_is() -> None:
    pool = running(can_kill=False)
    pool.submit(1)
    assert pool.cancel(1) == ["1 is cancelled", "interrupt 1 on w1"]


def test_cancelling_what_is_settled_is_late_and_not_wrong() -> None:
    pool = running()
    pool.submit(1)
    pool.returned(1, 1)
    assert pool.cancel(1) == []


# -- workers that die -------------------------------------------------------------------------------------------------


def test_only_what_a_dead_worker_had_started_is_lost() -> None:
    pool = knowing(1e-4)
    for task in (1, 2, 3):
        pool.submit(task, name="f")
    assert pool.exited(1, 2, 3, signal=11) == ["1 is lost: WorkerLost", "start w2"]
    error = pool.errors[1]
    assert isinstance(error, WorkerLost)
    assert (error.signal, error.exitcode, error.oom_suspected) == (11, None, False)
    assert "TaskSubmitted(task=1" in error.story[0]
    assert pool.ready(2) == ["send 2 to w2", "send 3 to w2"]


def test_a_task_with_retries_runs_again_after_a_backoff() -> None:
    pool = running(max_workers=2, min_workers=2, jitter=0.5)
    pool.submit(1, retries=1)
    assert pool.exited(2, signal=9) == ["start w3", "wake in 0.0375"]
    assert pool.scheduler.task_state(1) is TaskState.QUEUED
    assert pool.scheduler.tally.retried == 1
    assert pool.fire()[0] == "send 1 to w1"


def test_a_task_that_kills_every_worker_stops_there() -> None:
    pool = running()
    pool.submit(1, retries=2)
    for worker in (1, 2):
        assert "1 is lost: WorkerLost" not in pool.exited(worker, signal=11)
        pool.ready(worker + 1)
        assert f"send 1 to w{worker + 1}" in pool.fire()
    assert pool.exited(3, signal=11)[0] == "1 is lost: WorkerLost"


def test_a_retryable_error_is_tried_again_and_any_other_is_not() -> None:
    pool = running(jitter=0.0)
    pool.submit(1, retries=1)
    assert pool.returned(1, 1, succeeded=False, retryable=True) == ["wake in 0.025"]
    assert pool.fire() == ["send 1 to w1", "wake in 1.975"]
    assert pool.returned(1, 1, succeeded=False, retryable=True) == ["1 is failed"]
    pool.submit(2, retries=1)
    assert pool.returned(1, 2, succeeded=False) == ["2 is failed"]


def test_retries_wait_longer_each_time() -> None:
    pool = running(jitter=0.0)
    pool.submit(1, retries=9)
    delays = []
    for _ in range(9):
        pool.returned(1, 1, succeeded=False, retryable=True)
        before = pool.now
        while "send 1 to w1" not in pool.fire():
            pass
        delays.append(round(pool.now - before, 6))
    assert delays == [0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0]
    assert pool.scheduler.attempts_of(1) == 10


def test_a_task_can_be_cancelled_or_time_out_while_it_waits_for_its_next_try() -> None:
    pool = running()
    for task, timeout in ((1, None), (2, 0.01)):
        pool.submit(task, retries=1, timeout=timeout)
        pool.returned(1, task, succeeded=False, retryable=True)
    assert pool.cancel(1) == ["1 is cancelled"]
    assert "2 is timed_out: TaskTimeout" in pool.pass_time(0.011)
    assert not [line for line in pool.pass_time(5.0) if "send" in line]


# -- the alarm and the history ----------------------------------------------------------------------------------------


def test_the_alarm_is_set_for_the_earliest_timer_and_only_when_that_is_earlier() -> None:
    pool = running(can_retract=False)
    pool.submit(0)
    assert pool.submit(1, timeout=5.0) == ["wake in 5"]
    assert pool.submit(2, timeout=3.0) == ["wake in 3"]
    assert pool.submit(3, timeout=4.0) == []
    pool.cancel(2)
    assert pool.fire() == ["wake in 1"], "it rang for nothing, and is set anew"
    assert pool.fire() == ["3 is timed_out: TaskTimeout", "wake in 1"]


def test_a_history_is_that_of_one_task_or_one_worker() -> None:
    pool = running()
    pool.submit(1)
    pool.submit(2)
    pool.retracted(1, 7)
    pool.returned(1, 1)
    history = pool.scheduler.history(task=1)
    assert [line.split()[1].split("(")[0] for line in history] == ["TaskSubmitted", "TaskReturned"]
    assert history[0].startswith("1000.000000 ")
    assert len(pool.scheduler.history(task=7)) == 1, "an event about several tasks is part of each one's history"
    assert [line.split()[1].split("(")[0] for line in pool.scheduler.history(worker=1)] == [
        "WorkerReady", "TasksRetracted", "TaskReturned",
    ]  # fmt: skip
    assert pool.scheduler.history() == ()


def test_news_of_those_who_are_gone_is_ignored() -> None:
    pool = running()
    assert [pool.ready(9), pool.returned(9, 1), pool.retracted(9, 1), pool.exited(9)] == [[], [], [], []]
    assert pool.ready(1) == [], "twice ready is once ready"


def test_a_worker_that_answers_what_it_was_not_asked_is_killed() -> None:
    pool = running()
    pool.submit(1)
    assert pool.returned(1, 99) == ["kill w1"]
    assert pool.exited(1, signal=9) == ["1 is lost: WorkerLost", "start w2"]
    assert "answered a task that it did not have" in str(pool.errors[1])


def test_a_worker_that_is_being_killed_may_still_answer_what_it_had() -> None:
    pool = running(slots=2, can_retract=False)
    for task in (1, 2):
        pool.submit(task)
    pool.returned(1, 99)
    assert pool.cancel(2) == ["2 is cancelled"], "no use interrupting it"
    assert pool.returned(1, 1) == ["1 is completed"]
    assert pool.returned(1, 2) == []
    assert pool.exited(1, signal=9) == ["start w2"]


def test_a_closed_pool_cancels_what_is_left() -> None:
    pool = Script()
    pool.start()
    pool.submit(1)
    pool.close()
    assert isinstance(pool.errors[1], PoolClosed)
