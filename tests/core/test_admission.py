from __future__ import annotations

import pytest

from lifepool._core.events import WorkerExited
from lifepool._core.policy import SAFETY_FACTOR
from lifepool.errors import PoolClosed, QueueFull, WorkerStartError
from tests.core.script import Script, running


def full_queue(count: int, **limits: int) -> Script:
    """Return a pool with all workers busy and so many tasks waiting."""
    pool = running(**limits)
    for task in range(1 + count):
        pool.submit(task)
    assert pool.scheduler.waiting == count
    return pool


def refused(pool: Script, timeout: float | None = None, fair_key: str | None = None) -> QueueFull:
    refusal = pool.scheduler.admission.refusal(timeout, fair_key)
    assert isinstance(refusal, QueueFull)
    assert refusal.retry_after > 0
    return refusal


def test_before_the_start_the_refusal_names_the_line_to_add() -> None:
    refusal = Script().scheduler.admission.refusal(None)
    assert isinstance(refusal, PoolClosed)
    assert "never started" in str(refusal)
    assert "FastAPI(lifespan=pool.lifespan)" in refusal.hint


def test_while_it_starts_and_runs_a_pool_takes_tasks() -> None:
    pool = Script()
    pool.start()
    assert pool.scheduler.admission.refusal(None) is None
    pool.ready(1)
    assert pool.scheduler.admission.refusal(None) is None


def test_a_draining_pool_sends_clients_to_another_server() -> None:
    pool = full_queue(0)
    pool.drain()
    refusal = pool.scheduler.admission.refusal(None)
    assert isinstance(refusal, PoolClosed)
    assert "draining" in str(refusal)
    assert "another" in refusal.hint


def test_a_closed_pool_takes_nothing() -> None:
    pool = running()
    pool.close()
    refusal = pool.scheduler.admission.refusal(None)
    assert isinstance(refusal, PoolClosed)
    assert "is closed" in str(refusal)


def test_in_a_crash_loop_the_refusal_says_why_no_worker_comes_up() -> None:
    pool = Script(min_workers=0)
    pool.start()
    pool.submit(1)
    for worker in (1, 2, 3):
        pool.feed(WorkerExited(worker, start_error="ImportError: model", start_hint="install it"))
        if worker < 3:
            pool.fire()
    refusal = pool.scheduler.admission.refusal(None)
    assert isinstance(refusal, WorkerStartError)
    assert (refusal.cause, refusal.hint) == ("ImportError: model", "install it")


def test_a_full_queue_refuses_and_advises_to_wait_for_half_of_it_to_drain() -> None:
    pool = full_queue(10, max_queue=10)
    assert "10 tasks wait" in str(refused(pool))
    assert refused(pool).retry_after == 0.05, "nothing is known of the run time: the least"
    pool.scheduler.run_times.learn("f", 2.0)
    assert refused(pool).retry_after == 10.0


def test_one_place_below_the_limit_there_is_room() -> None:
    assert full_queue(9, max_queue=10).scheduler.admission.refusal(None) is None


def test_with_a_free_worker_even_a_queue_of_no_length_takes_a_task() -> None:
    pool = running(max_queue=0)
    assert pool.scheduler.admission.refusal(0.001) is None
    pool.submit(1)
    assert "the queue is full" in str(refused(pool))


def test_a_task_that_could_not_be_in_time_is_refused_at_once() -> None:
    pool = full_queue(4, max_queue=10)
    pool.scheduler.run_times.learn("f", 1.0)
    refusal = refused(pool, timeout=3.0)
    assert "with a predicted wait of 4 s the timeout of 3 s would pass" in str(refusal)
    assert refusal.retry_after == SAFETY_FACTOR * 4 - 3
    assert refused(pool, timeout=SAFETY_FACTOR * 4 - 0.01).retry_after == 0.05
    assert pool.scheduler.admission.refusal(SAFETY_FACTOR * 4) is None
    assert pool.scheduler.admission.refusal(None) is None


def test_the_time_that_the_task_itself_takes_counts_if_it_is_known() -> None:
    pool = full_queue(4, max_queue=10)
    pool.scheduler.run_times.learn("f", 1.0)
    assert pool.scheduler.admission.refusal(SAFETY_FACTOR * 5, name="f") is None
    refusal = pool.scheduler.admission.refusal(SAFETY_FACTOR * 5 - 1, name="f")
    assert isinstance(refusal, QueueFull)
    assert refusal.retry_after == 1.0
    assert pool.scheduler.admission.refusal(SAFETY_FACTOR * 5 - 1, name="never seen") is None


def test_as_long_as_nobody_waits_no_estimate_refuses_anybody() -> None:
    """A wrong estimate would never be put right if nothing were let in."""
    pool = full_queue(0)
    pool.scheduler.run_times.learn("f", 100.0)
    assert pool.scheduler.admission.refusal(0.001, name="f") is None


def test_the_more_slots_the_shorter_the_predicted_wait() -> None:
    pool = running(slots=4, can_kill=False, can_interrupt=False, can_retract=False)
    for task in range(8):
        pool.submit(task)
    pool.scheduler.run_times.learn("f", 1.0)
    assert refused(pool, timeout=0.5).retry_after == SAFETY_FACTOR - 0.5


def test_workers_that_do_not_come_up_are_not_counted_on() -> None:
    pool = Script(max_workers=8, min_workers=1, max_queue=50)
    pool.start()
    pool.ready(1)
    for task in range(9):
        pool.submit(task, name="f")
    pool.scheduler.run_times.learn("f", 1.0)
    assert pool.scheduler.admission.predicted_wait_s == 1.0, "seven more are on their way"
    for worker in range(2, 9):
        pool.exited(worker, start_error="no memory")
    assert pool.scheduler.admission.predicted_wait_s == 8.0, "they were not to be had"


def test_a_tenant_gets_its_share_of_the_queue_and_the_others_theirs() -> None:
    pool = running(max_queue=9)
    pool.submit(0)
    for task in range(1, 5):
        assert pool.scheduler.admission.refusal(None, "big") is None
        pool.submit(task, fair_key="big")
    assert "'big' has its share" in str(refused(pool, fair_key="big"))
    assert pool.scheduler.admission.refusal(None, "small") is None
    assert pool.scheduler.admission.refusal(None) is None
    pool.submit(5, fair_key="small")
    assert pool.scheduler.admission.refusal(None, "small") is None
    assert pool.scheduler.admission.refusal(None, "third") is None


def test_a_share_is_never_less_than_one() -> None:
    pool = running(max_queue=2)
    for task, key in enumerate([None, "a"]):
        pool.submit(task, fair_key=key)
    assert pool.scheduler.admission.refusal(None, "b") is None
    refused(pool, fair_key="a")


def test_asking_changes_nothing() -> None:
    pool = full_queue(3)
    before = (pool.scheduler.waiting, pool.scheduler.tally.refused, pool.now)
    for _ in range(3):
        pool.scheduler.admission.refusal(1.0, "key")
    assert (pool.scheduler.waiting, pool.scheduler.tally.refused, pool.now) == before


@pytest.mark.parametrize("timeout", [None, 0.0, 5.0])
def test_a_pool_that_waits_for_its_first_worker_takes_tasks(timeout: float | None) -> None:
    pool = Script(min_workers=0)
    pool.start()
    assert pool.scheduler.admission.refusal(timeout) is None
