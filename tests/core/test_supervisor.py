"""The lives of workers: scripts of events, and the exact commands that follow."""

from __future__ import annotations

import pytest

from lifepool._core.policy import CRASH_LOOP_STARTS, PROBATION_S, STOP_GRACE_S
from lifepool.errors import WorkerLost, WorkerStartError
from tests.core.script import Script, knowing, running

UP_AND_DOWN = {"max_workers": 3, "min_workers": 1, "idle_timeout": 60.0}


# -- up ---------------------------------------------------------------------------------------------------------------


def test_the_pool_is_up_when_its_first_workers_are() -> None:
    pool = Script(max_workers=2, min_workers=2, start_timeout=10.0)
    assert pool.start() == ["start w1", "start w2", "wake in 10"]
    assert pool.ready(2) == []
    assert pool.ready(1) == ["started"]


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


# -- starts that fail -------------------------------------------------------------------------------------------------


def test_if_a_first_worker_fails_so_does_the_start_and_nobody_is_left() -> None:
    pool = Script(max_workers=2, min_workers=2)
    pool.start()
    pool.submit(7)
    assert pool.exited(2, start_error="ImportError: model", start_hint="install it") == [
        "not started: WorkerStartError",
        "7 is cancelled: PoolClosed",
        "kill w1",
        "wake in 0.1",
    ]
    error = pool.start_error
    assert isinstance(error, WorkerStartError)
    assert (error.cause, error.hint) == ("ImportError: model", "install it")
    assert pool.exited(1, signal=9) == ["closed"]


def test_if_the_only_first_worker_fails_the_pool_is_closed_with_it() -> None:
    pool = Script()
    pool.start()
    assert pool.exited(1, exitcode=3) == ["not started: WorkerStartError", "closed", "wake in 0.1"]
    assert "exited with code 3" in str(pool.start_error)


def test_a_first_worker_that_is_too_slow_fails_the_start() -> None:
    pool = Script(start_timeout=10.0)
    pool.start()
    assert pool.fire() == ["kill w1"]
    assert pool.exited(1, signal=9)[:2] == ["not started: WorkerStartError", "closed"]
    assert "was not ready within start_timeout (10 s)" in str(pool.start_error)


def test_failed_starts_are_backed_off_from() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.submit(1)  # a worker stays alive: no crash loop
    pool.exited(1, reason="it vanished")
    worker, delays = 3, []
    for _ in range(8):
        before = pool.now
        while f"start w{worker}" not in pool.fire():
            pass
        delays.append(round(pool.now - before, 3))
        pool.exited(worker, start_error="no")
        worker += 1
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert pool.scheduler.crash_loop is None


def test_while_starts_are_backed_off_from_nobody_is_started_for_a_new_task_either() -> None:
    pool = Script(min_workers=0, max_workers=3)
    pool.start()
    pool.submit(1)
    pool.exited(1, start_error="no")
    assert pool.submit(2) == []
    assert pool.fire()[:2] == ["start w2", "start w3"]


def crash_looping(**limits: int) -> Script:
    pool = Script(**{"min_workers": 0} | limits)
    pool.start()
    pool.submit(1)
    for worker in range(1, CRASH_LOOP_STARTS):
        pool.exited(worker, start_error="ImportError: model", start_hint="install it")
        pool.fire()
    return pool


def test_in_a_crash_loop_those_who_wait_get_the_cause() -> None:
    pool = crash_looping()
    pool.submit(2)
    assert pool.exited(3, start_error="ImportError: model", start_hint="install it") == [
        "1 is lost: WorkerStartError",
        "2 is lost: WorkerStartError",
        "wake in 0.4",
    ]
    error = pool.errors[1]
    assert isinstance(error, WorkerStartError)
    assert (error.cause, error.hint) == ("ImportError: model", "install it")
    assert error is not pool.errors[2], "each caller gets an exception of its own"
    assert pool.scheduler.crash_loop is not None


def test_a_crash_loop_heals_when_a_worker_comes_up() -> None:
    pool = crash_looping(min_workers=0, max_workers=3)
    pool.exited(3, start_error="no")
    assert pool.fire()[0] == "start w4", "one is enough to see"
    pool.exited(4, start_error="no")
    assert pool.fire()[0] == "start w5"
    pool.ready(5)
    assert pool.scheduler.crash_loop is None
    assert pool.submit(9)[0] == "send 9 to w5"


def test_a_crash_loop_waits_for_the_starts_that_are_under_way() -> None:
    pool = Script(max_workers=2, min_workers=0)
    pool.start()
    for task in (1, 2):
        pool.submit(task)
    pool.exited(1, start_error="no")
    pool.fire()
    pool.exited(3, start_error="no")
    pool.fire()
    pool.exited(4, start_error="no")
    assert pool.scheduler.crash_loop is not None
    assert not [line for line in pool.pass_time(2.0) if line.startswith("start")], "w2 has not said anything yet"
    assert pool.exited(2, start_error="no")[-1].startswith("wake in")
    assert "start w5" in pool.fire()


def test_workers_that_die_before_they_did_anything_are_failed_starts() -> None:
    pool = running()
    for worker in range(1, CRASH_LOOP_STARTS):
        assert f"start w{worker + 1}" not in pool.exited(worker, signal=11)
        pool.fire()
        pool.ready(worker + 1)
    assert pool.scheduler.tally.restarts == {"failed to start": CRASH_LOOP_STARTS - 1}


def test_a_worker_that_did_not_even_start_its_task_is_a_failed_start_too() -> None:
    pool = running()
    pool.submit(1)
    assert pool.exited(1, 1, exitcode=0) == ["wake in 0.1"], "no hot loop of forks"
    assert pool.scheduler.waiting == 1
    assert pool.fire()[0] == "start w2"


def test_workers_that_end_by_themselves_whenever_they_are_ready_are_a_crash_loop() -> None:
    pool = running()
    pool.submit(7)
    for worker in range(1, CRASH_LOOP_STARTS):
        pool.exited(worker, 7, signal=11)
        pool.fire()
        pool.ready(worker + 1)
    assert pool.exited(CRASH_LOOP_STARTS, 7, signal=11)[0] == "7 is lost: WorkerStartError"
    assert "killed by signal 11" in str(pool.errors[7])
    assert pool.scheduler.crash_loop is not None


def test_a_worker_that_ends_by_itself_after_a_while_did_start() -> None:
    pool = running()
    pool.now += PROBATION_S
    assert pool.exited(1, signal=11) == ["start w2"]
    assert pool.scheduler.tally.restarts == {"died": 1}


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"signal": 9}, "died"),
        ({"signal": 15}, "died"),
        ({"signal": 9, "oom_suspected": True}, "out of memory"),
        ({}, "died"),  # nobody knows how: the template is gone
    ],
)
def test_ready_workers_that_are_killed_have_not_failed_to_start(how: dict[str, object], reason: str) -> None:
    pool = running(max_workers=8, min_workers=8)
    for worker in range(1, 9):
        assert pool.exited(worker, **how) == [f"start w{worker + 8}"]
    assert pool.scheduler.crash_loop is None
    assert pool.scheduler.tally.restarts == {reason: 8}
    assert pool.scheduler.admission.refusal(None) is None


def test_replacements_that_are_killed_as_well_come_with_a_pause() -> None:
    pool = running(max_workers=2, min_workers=2)
    delays = []
    for first in range(1, 17, 2):
        before = pool.now
        said = [*pool.exited(first, signal=9), *pool.exited(first + 1, signal=9)]
        while len([line for line in said if line.startswith("start w")]) < 2:
            said += pool.fire()
        delays.append(round(pool.now - before, 3))
        pool.ready(first + 2)
        pool.ready(first + 3)
    assert delays == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert pool.scheduler.crash_loop is None
    pool.pass_time(PROBATION_S)
    assert pool.exited(17, signal=9) == ["start w19"], "that one had time to do something"


def test_while_replacements_are_killed_one_that_comes_up_does_not_end_the_pause() -> None:
    pool = running(max_workers=2, min_workers=2)
    pool.exited(1, signal=9)
    pool.ready(3)
    assert pool.exited(3, signal=9) == ["wake in 0.1"]
    pool.exited(2, signal=9)
    pool.fire()
    assert pool.ready(4) == []
    assert "wake in 0.2" in pool.exited(4, signal=9)
    assert pool.ready(5) == [], "no third start before its time"


def test_a_ready_worker_that_is_killed_while_the_pool_starts_does_not_fail_the_start() -> None:
    pool = Script(max_workers=2, min_workers=2)
    pool.start()
    pool.ready(1)
    assert pool.exited(1, signal=9) == []
    assert pool.ready(2) == ["started", "start w3"]


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ({"start_error": "Traceback: x", "reason": "y"}, "Traceback: x"),
        ({"reason": "it sent invalid data"}, "it sent invalid data"),
        ({"signal": 9, "oom_suspected": True}, "killed by signal 9"),
        ({}, "it vanished"),
    ],
)
def test_the_cause_of_a_failed_start_is_the_best_that_is_known(how: dict[str, object], cause: str) -> None:
    pool = Script()
    pool.start()
    pool.exited(1, **how)
    assert cause in str(pool.start_error)


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


# -- recycling --------------------------------------------------------------------------------------------------------


def test_a_worker_goes_after_its_last_task_and_its_successor_is_started_before() -> None:
    pool = running(max_tasks_per_worker=2)
    pool.submit(1)
    assert pool.returned(1, 1) == ["1 is completed", "start w2"]
    pool.submit(2)
    assert pool.returned(1, 2) == ["2 is completed", "stop w1"]
    assert pool.submit(3) == []
    assert pool.ready(2) == ["send 3 to w2"]
    assert pool.exited(1, exitcode=0) == []
    assert pool.scheduler.tally.restarts == {"max_tasks_per_worker": 1}


def test_a_successor_that_is_ready_takes_over_and_the_predecessor_goes() -> None:
    pool = running(max_tasks_per_worker=10)
    for task in range(9):
        pool.submit(task)
        said = pool.returned(1, task)
    assert said == ["8 is completed", "start w2"]
    assert pool.ready(2) == ["stop w1"]
    assert pool.submit(9) == ["send 9 to w2"]


def test_the_successor_is_started_as_far_ahead_as_starts_take_by_the_workers_own_pace() -> None:
    pool = Script(max_tasks_per_worker=10)
    pool.start()
    pool.now += 0.02
    pool.ready(1)
    for task in range(1, 7):
        pool.submit(task)
        pool.now += 0.01
        said = pool.returned(1, task, 0.01)
        assert said == ([f"{task} is completed"] if task < 6 else ["6 is completed", "start w2"])


def test_one_successor_is_started_and_no_more() -> None:
    pool = running(max_tasks_per_worker=20)
    started = []
    for task in range(20):
        pool.submit(task)
        started += [line for line in pool.returned(1, task) if line.startswith("start")]
    assert started == ["start w2"]


def test_a_predecessor_at_work_finishes_and_gives_back_the_rest() -> None:
    pool = knowing(1e-3, max_tasks_per_worker=20)
    pool.scheduler._supervisor.last_start_s = 1e-3
    for task in range(18):
        pool.submit(task, name="f")
        pool.returned(1, task, 1e-3)
    for task in (18, 19):
        pool.submit(task, name="f")
    assert pool.ready(2) == ["retract from w1"]
    assert pool.retracted(1, 19) == ["send 19 to w2"]
    assert pool.returned(1, 18, 1e-3) == ["18 is completed", "stop w1"]


def test_with_one_task_each_a_worker_is_stopped_and_the_next_one_started() -> None:
    pool = running(max_tasks_per_worker=1)
    pool.submit(1)
    assert pool.returned(1, 1) == ["1 is completed", "stop w1", "start w2"]


def test_nothing_is_pipelined_beyond_a_workers_last_task() -> None:
    pool = knowing(1e-4, max_tasks_per_worker=3)
    sent = [line for task in range(5) for line in pool.submit(task, name="f") if line.startswith("send")]
    assert len(sent) == 3
    pool.returned(1, 0, 1e-4)
    assert pool.returned(1, 1, 1e-4) == ["1 is completed", "start w2"]
    assert pool.returned(1, 2, 1e-4) == ["2 is completed", "stop w1"]


def test_a_worker_that_waits_for_its_successor_may_still_go_for_being_idle() -> None:
    pool = running(max_workers=2, min_workers=0, max_tasks_per_worker=2, idle_timeout=5.0)
    pool.submit(1)
    pool.ready(1)
    assert pool.returned(1, 1) == ["1 is completed"], "no minimum, no successor"
    assert "stop w1" in pool.pass_time(70.0)


def test_a_worker_above_its_memory_goes_after_the_task() -> None:
    pool = running(max_worker_memory=1000)
    pool.submit(1)
    assert pool.returned(1, 1, memory=1000) == ["1 is completed"]
    pool.submit(2)
    assert pool.returned(1, 2, memory=1001) == ["2 is completed", "stop w1", "start w2"]
    pool.exited(1, exitcode=0)
    assert pool.scheduler.tally.restarts == {"max_worker_memory": 1}


def test_memory_counts_near_the_last_task_too() -> None:
    pool = running(max_worker_memory=1000, max_tasks_per_worker=2)
    pool.submit(1)
    assert pool.returned(1, 1, memory=1001) == ["1 is completed", "stop w1", "start w2"]


def test_a_worker_above_its_memory_gives_back_what_it_has_not_started() -> None:
    pool = knowing(1e-3, max_worker_memory=1000)
    for task in (1, 2):
        pool.submit(task, name="f")
    assert pool.returned(1, 1, 1e-3, memory=5000) == ["1 is completed", "retract from w1", "start w2"]
    assert pool.retracted(1, 2) == ["stop w1"]
    assert pool.ready(2) == ["send 2 to w2"]


def test_a_worker_with_slots_finishes_them_all_before_it_goes() -> None:
    pool = running(slots=2, max_tasks_per_worker=1, can_kill=False, can_interrupt=False, can_retract=False)
    for task in (1, 2):
        pool.submit(task)
    assert pool.returned(1, 1) == ["1 is completed", "start w2"], "nothing is retracted where nothing can be"
    assert pool.returned(1, 2) == ["2 is completed", "stop w1", "wake in 2"]


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
