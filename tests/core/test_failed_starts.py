"""Workers that can't start: backoff, the crash loop, and what counts as a failed start."""

from __future__ import annotations

import pytest

from lifepool._core.policy import CRASH_LOOP_STARTS, PROBATION_S
from lifepool.errors import WorkerStartError
from tests.core.script import Script, running


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
