"""Locks, queues and the like of `multiprocessing` in `initargs`, also those that were made for forked processes."""

from __future__ import annotations

import multiprocessing
import sys
import threading
from typing import Any

import pytest

from lifepool.futures import ProcessPoolExecutor, TaskNotPicklable
from tests.engine.gates import PATIENCE_S

given: list[Any] = []

#: With the first one multiprocessing gets memory for all that are to come, and keeps it.
_first = multiprocessing.Value("i", 0)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked by default")


def take(*objects: Any) -> None:
    given[:] = objects


def use_all(number: int) -> bool:
    shared, counter = given
    with shared["lock"], shared["rlock"], shared["semaphore"]:
        shared["queue"].put(number)
        shared["simple queue"].put(number)
    with counter.get_lock():
        counter.value += 1
    with shared["condition"]:
        shared["condition"].notify_all()
    return bool(shared["event"].is_set())


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_all_of_them_work(method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    shared = {
        "lock": context.Lock(),
        "rlock": context.RLock(),
        "semaphore": context.BoundedSemaphore(2),
        "queue": context.Queue(),
        "simple queue": context.SimpleQueue(),
        "condition": context.Condition(),
        "event": context.Event(),
    }
    counter = context.Value("i", 0)
    try:
        with ProcessPoolExecutor(2, initializer=take, initargs=(shared, counter)) as executor:
            assert list(executor.map(use_all, range(4))) == [False] * 4
            shared["event"].set()
            with shared["lock"], counter.get_lock():  # the very locks that the workers have
                held = [executor.submit(use_all, number) for number in range(4)]
                assert not held[0].done()
            assert [future.result(PATIENCE_S) for future in held] == [True] * 4
        assert counter.value == 8
        assert sorted(shared["queue"].get(timeout=PATIENCE_S) for _ in range(8)) == [0, 0, 1, 1, 2, 2, 3, 3]
        assert sorted(shared["simple queue"].get() for _ in range(8)) == [0, 0, 1, 1, 2, 2, 3, 3]
    finally:
        shared["queue"].close()
        shared["simple queue"].close()


def test_those_that_wait_for_a_condition_hear_of_it() -> None:
    condition = multiprocessing.get_context("fork").Condition()
    with ProcessPoolExecutor(1, initializer=take, initargs=(condition,)) as executor, condition:
        future = executor.submit(notify)
        assert condition.wait(PATIENCE_S)
    assert future.result(0) is None


def notify() -> None:
    with given[0]:
        given[0].notify()


def assert_is_refused(shared: object) -> None:
    with (
        ProcessPoolExecutor(1, initializer=take, initargs=(shared,)) as executor,
        pytest.raises(TaskNotPicklable, match="get_context"),
    ):
        executor.submit(len, ()).result(PATIENCE_S)


def test_a_lock_that_is_held_is_refused_and_stays_what_it_is() -> None:
    lock = multiprocessing.get_context("fork").Lock()
    with lock:
        assert_is_refused(lock)
    assert lock.acquire(block=False)
    lock.release()


def test_so_is_one_that_a_forked_process_may_have() -> None:
    context = multiprocessing.get_context("fork")
    lock, event = context.Lock(), context.Event()
    process = context.Process(target=event.wait, daemon=True)
    process.start()
    try:
        assert_is_refused(lock)
    finally:
        event.set()
        process.join(PATIENCE_S)


def test_so_is_a_queue_that_is_in_use_here() -> None:
    queue = multiprocessing.get_context("fork").Queue()
    queue.put(1)
    try:
        assert_is_refused(queue)
        assert queue.get(timeout=PATIENCE_S) == 1
    finally:
        queue.close()
        queue.join_thread()


def test_a_semaphore_that_a_thread_may_wait_for_is_left_alone() -> None:
    semaphore = multiprocessing.get_context("fork").Semaphore(0)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(semaphore.acquire(timeout=PATIENCE_S)))
    thread.start()
    assert_is_refused(semaphore)
    semaphore.release()
    thread.join(PATIENCE_S)
    assert got == [True]
