"""The lives of workers: scripts of events, and the exact commands that follow."""

from __future__ import annotations

from lifepool._core.policy import STOP_GRACE_S
from lifepool.errors import WorkerLost
from tests.core.script import Script, knowing, running

UP_AND_DOWN = {"max_workers": 3, "min_workers": 1, "idle_timeout": 60.0}


# -- up ---------------------------------------------------------------------------------------------------------------


def test_the_pool_is_up_when_its_first_workers_are() -> None:
    pool = Script(max_workers=2, min_workers=2, start_timeout=10.0)
    assert pool.start() == ["start w1", "start w2", "wake in 10"]
    assert pool.ready(2) == []
    assert pool.ready(1) == ["started"]


def test_workers_start_as_few_at_a_time_as_the_cpus_need() -> None:
    pool = Script(max_workers=5, min_workers=5, cpus=2.0, start_timeout=10.0)
    assert pool.start() == ["start w1", "start w2", "wake in 10"]
    assert pool.ready(1, 1.0) == ["start w3"]
    assert pool.ready(2, 0.9) == ["start w4"]
    assert pool.ready(4, 0.4) == ["start w5"], "beside others it got less"
    assert pool.ready(5, 1.0) == []
    assert pool.ready(3, 1.0) == ["started"]


def test_workers_that_do_not_compute_while_they_start_are_started_together() -> None:
    pool = Script(max_workers=9, min_workers=9, cpus=1.0)
    assert [line for line in pool.start() if line.startswith("start")] == ["start w1"]
    assert pool.ready(1, 0.25) == ["start w2", "start w3", "start w4", "start w5"]
    assert pool.ready(2, 0.5) == [], "they compute more than that: no more than two at a time"
    assert [pool.ready(worker, 0.5) for worker in (3, 4)] == [[], ["start w6"]]


def test_workers_for_those_who_wait_and_replacements_are_started_a_few_at_a_time() -> None:
    pool = Script(max_workers=4, min_workers=0, cpus=1.0)
    pool.start()
    said = [line for task in range(4) for line in pool.submit(task)]
    assert [line for line in said if line.startswith("start")] == ["start w1"]
    assert "start w2" in pool.ready(1, 1.0)
    assert "start w3" in pool.ready(2, 1.0)


def test_without_a_minimum_it_is_up_at_once_and_the_first_task_starts_a_worker() -> None:
    pool = Script(min_workers=0, start_timeout=10.0)
    assert pool.start() == ["started"]
    assert pool.submit(1) == ["start w1", "wake in 10"]
    assert pool.ready(1) == ["send 1 to w1", "wake in 2"]


def test_workers_are_started_for_those_who_wait_up_to_the_maximum() -> None:
    pool = running(**UP_AND_DOWN)
    pool.submit(1)
    assert pool.submit(2) == ["start w2"]
    assert pool.submit(3) == ["start w3"]
    assert pool.submit(4) == []
    assert pool.ready(2) == ["send 2 to w2"]


def test_a_worker_is_started_for_as_many_tasks_as_it_has_slots() -> None:
    pool = Script(max_workers=3, min_workers=0, slots=4, can_kill=False)
    pool.start()
    started = [said for task in range(9) for said in pool.submit(task) if said.startswith("start")]
    assert started == ["start w1", "start w2", "start w3"]
    few = Script(max_workers=3, min_workers=0, slots=4, can_kill=False)
    few.start()
    assert [said for task in range(4) for said in few.submit(task) if said.startswith("start")] == ["start w1"]


def test_a_crowd_that_waited_for_the_backoff_gets_no_more_workers_than_it_can_fill() -> None:
    pool = Script(max_workers=3, min_workers=0, slots=4, can_kill=False)
    pool.start()
    for task in range(5):
        pool.submit(task)
    pool.exited(2, start_error="no")
    pool.exited(1, start_error="no")
    assert [line for line in pool.pass_time(0.3) if line.startswith("start")] == ["start w3", "start w4"]


def test_tasks_that_are_sent_while_the_pool_starts_run_on_the_first_worker_that_is_ready() -> None:
    pool = Script(max_workers=2, min_workers=2)
    pool.start()
    assert pool.submit(1) == []
    assert pool.ready(1) == ["send 1 to w1", "wake in 2"]
    assert pool.exited(1, signal=9) == ["1 is lost: WorkerLost"], "replaced once the pool is up"
    assert pool.ready(2) == ["started", "start w3"]


def test_a_worker_that_takes_too_long_to_start_is_killed() -> None:
    pool = Script(min_workers=0, start_timeout=10.0)
    pool.start()
    pool.submit(1)
    assert pool.fire() == ["kill w1"]
    assert pool.ready(1) == [], "too late"
    assert pool.exited(1, signal=9) == ["wake in 0.1"]
    assert pool.fire() == ["start w2", "wake in 10"]


# -- workers that die -------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_at_work_is_replaced_at_once() -> None:
    pool = running()
    pool.submit(1)
    assert pool.exited(1, signal=9, oom_suspected=True) == ["1 is lost: WorkerLost", "start w2"]
    assert pool.scheduler.tally.restarts == {"out of memory": 1}
    error = pool.errors[1]
    assert isinstance(error, WorkerLost)
    assert error.oom_suspected


def test_a_worker_that_has_worked_may_die_idle_and_is_replaced_at_once() -> None:
    pool = running()
    pool.submit(1)
    pool.returned(1, 1)
    assert pool.exited(1, exitcode=1) == ["start w2"]
    assert pool.scheduler.tally.restarts == {"died": 1}


def test_lifetimes_are_counted_from_ready_to_gone() -> None:
    pool = Script(min_workers=0)
    pool.start()
    pool.submit(1)
    pool.now += 5
    pool.ready(1)
    pool.now += 7
    pool.exited(1, signal=9)
    assert pool.scheduler.tally.worker_s == 7.0


def test_a_clock_may_start_at_zero() -> None:
    pool = Script()
    pool.now = 0.0
    pool.start()
    pool.ready(1)
    pool.submit(1)
    assert pool.exited(1, signal=9) == ["1 is lost: WorkerLost", "start w2"]


# -- down -------------------------------------------------------------------------------------------------------------


def test_workers_above_the_minimum_go_when_they_have_been_idle_long_enough() -> None:
    pool = running(**UP_AND_DOWN)
    pool.submit(1)
    pool.submit(2)
    pool.ready(2)
    pool.returned(1, 1)
    pool.now += 30
    pool.returned(2, 2)
    said = pool.pass_time(200.0)
    assert [line for line in said if line.startswith("stop")] == ["stop w1"]
    assert pool.exited(1, exitcode=0) == ["wake in 60"]
    assert not [line for line in pool.pass_time(500.0) if line.startswith("stop")]
    assert pool.scheduler.tally.restarts == {"idle_timeout": 1}


def test_a_worker_that_gets_something_to_do_is_not_idle() -> None:
    pool = running(max_workers=2, min_workers=0, idle_timeout=60.0)
    pool.submit(1)
    pool.ready(1)
    pool.returned(1, 1)
    pool.pass_time(59.0)
    pool.submit(2)
    assert not [line for line in pool.pass_time(30.0) if line.startswith("stop")]
    pool.returned(1, 2)
    assert "stop w1" in pool.pass_time(61.0)


def test_a_pool_of_fixed_size_watches_nobody() -> None:
    pool = running()
    assert pool.alarm is not None, "the start was watched"
    assert pool.fire() == []
    assert pool.alarm is None


def test_a_worker_that_does_not_stop_when_asked_to_is_killed() -> None:
    pool = running(max_workers=2, min_workers=0, idle_timeout=1.0)
    pool.submit(1)
    pool.ready(1)
    pool.returned(1, 1)
    assert "stop w1" in pool.pass_time(1.5)
    assert "kill w1" in pool.pass_time(STOP_GRACE_S)
    assert pool.exited(1, signal=9) == []


def test_a_worker_that_is_stopping_is_not_stopped_again_for_being_idle() -> None:
    pool = running(max_workers=2, min_workers=0, idle_timeout=1.0)
    for task in (1, 2):
        pool.submit(task)
    for worker in (1, 2):
        pool.ready(worker)
    pool.returned(1, 1)
    pool.cancel(2, abandon=True)
    pool.now += 0.5
    assert "stop w1" in pool.drain(), "the other one still runs what nobody wants"
    assert "stop w1" not in pool.pass_time(1.0)


def test_a_worker_without_tasks_that_talks_nonsense_is_killed_once() -> None:
    pool = running(max_workers=2, min_workers=0, idle_timeout=1.0)
    for task in (1, 2):
        pool.submit(task)
    for worker in (1, 2):
        pool.ready(worker)
        pool.returned(worker, worker)
    assert pool.returned(1, 99) == ["kill w1"]
    assert [line for line in pool.pass_time(1.5) if "w1" in line] == []


# -- stopped workers --------------------------------------------------------------------------------------------------


def test_a_worker_that_does_not_even_take_its_task_is_replaced() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.submit(1)
    assert pool.fire() == ["retract from w2", "wake in 2"]
    assert pool.retracted(2, 1) == ["kill w2", "send 1 to w1"]
    pool.exited(2, signal=9)
    assert pool.scheduler.tally.restarts == {"it did not take the task that it was sent": 1}


def test_only_who_had_time_to_take_his_task_is_asked() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.submit(1)
    pool.now += 1.5
    pool.submit(2)
    assert pool.fire() == ["retract from w2", "wake in 2"]


def test_a_worker_that_works_long_is_left_alone() -> None:
    pool = running()
    pool.submit(1)
    for _ in range(5):
        assert pool.fire() == ["retract from w1", "wake in 2"]
        assert pool.retracted(1) == []
    assert pool.returned(1, 1, 10.0) == ["1 is completed"]
    assert pool.fire() == [], "nobody is busy: nobody is watched"


def test_a_suspicion_that_proved_wrong_is_forgotten() -> None:
    pool = knowing(1e-3, jitter=0.0)
    pool.submit(1, name="f", retries=1)
    assert pool.fire() == ["retract from w1", "wake in 2"]
    pool.retracted(1)  # it does run
    pool.returned(1, 1, 1e-3, succeeded=False, retryable=True)
    pool.now += 0.024
    pool.submit(2, name="f")
    assert "send 1 to w1" in pool.fire(), "tried again, pipelined behind the other"
    assert pool.cancel(1) == ["1 is cancelled", "retract from w1"]
    assert pool.retracted(1, 1) == [], "the worker is busy with task 2, and innocent"


def test_a_worker_that_we_killed_was_not_killed_for_its_memory() -> None:
    pool = running()
    pool.submit(1)
    assert "kill w1" in pool.returned(1, 999), "it answered what it was never asked"
    pool.exited(1, signal=9, oom_suspected=True)
    lost = pool.errors[1]
    assert isinstance(lost, WorkerLost)
    assert not lost.oom_suspected
