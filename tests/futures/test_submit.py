"""`lifepool.futures.ProcessPoolExecutor`: submit calls."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

import lifepool
from tests.engine.gates import PATIENCE_S, Gate
from tests.futures.helpers import arrive, value
from tests.tasks import concatenate, double, echo, exit_hard, fail, hold

if TYPE_CHECKING:
    from lifepool.futures import ProcessPoolExecutor


def test_a_call_runs_in_another_process(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(os.getpid)) != os.getpid()


def test_keywords_are_the_functions_own(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(concatenate, "a", "b", separator="-")) == "a-b"


def test_a_function_may_have_arguments_named_fn_and_self(executor: ProcessPoolExecutor) -> None:
    assert value(executor.submit(dict, self=1, fn=2)) == {"self": 1, "fn": 2}


def test_an_exception_is_raised_as_itself_with_the_workers_traceback(executor: ProcessPoolExecutor) -> None:
    with pytest.raises(ValueError, match="no luck") as caught:
        value(executor.submit(fail, "no luck"))
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ((lambda: None,), lifepool.TaskNotPicklable),
        ((echo, threading.Lock()), lifepool.TaskNotPicklable),
        ((asyncio.sleep, 0), TypeError),
    ],
)
def test_a_call_that_cannot_be_sent_fails_its_future(
    executor: ProcessPoolExecutor, call: tuple[Any, ...], error: type[Exception]
) -> None:
    future = executor.submit(*call)
    with pytest.raises(error):
        value(future)
    assert value(executor.submit(double, 1)) == 2


def test_a_dead_worker_fails_only_its_own_future(executor: ProcessPoolExecutor, gate: Gate) -> None:
    before = executor.submit(double, 1)
    dying = executor.submit(exit_hard, 3)
    after = [executor.submit(double, number) for number in range(10)]
    with pytest.raises(lifepool.WorkerLost) as caught:
        value(dying)
    assert caught.value.exitcode == 3
    assert value(before) == 2
    assert [value(future) for future in after] == [2 * number for number in range(10)]


def test_thousands_of_calls_may_wait(executor: ProcessPoolExecutor, gate: Gate) -> None:
    first = executor.submit(hold, gate.address)
    visitor = arrive(gate)
    rest = [executor.submit(double, number) for number in range(3000)]
    visitor.let_through()
    assert value(first) is None
    assert sum(map(value, rest)) == 2 * sum(range(3000))


def test_it_can_be_used_from_several_threads(executor: ProcessPoolExecutor) -> None:
    answers: dict[int, list[int]] = {}

    def use(base: int) -> None:
        futures = [executor.submit(double, base + offset) for offset in range(50)]
        answers[base] = [value(future) for future in futures]

    threads = [threading.Thread(target=use, args=(1000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert answers == {1000 * n: [2 * (1000 * n + offset) for offset in range(50)] for n in range(4)}


async def test_it_serves_run_in_executor(executor: ProcessPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    answers = await asyncio.gather(*(loop.run_in_executor(executor, double, number) for number in range(20)))
    assert answers == [2 * number for number in range(20)]


async def test_cancelling_what_runs_in_executor_breaks_the_task_off(executor: ProcessPoolExecutor, gate: Gate) -> None:
    waiting = asyncio.get_running_loop().run_in_executor(executor, hold, gate.address)
    visitor = await gate.arrival()
    waiting.cancel()
    await visitor.gone()
    assert await asyncio.get_running_loop().run_in_executor(executor, double, 2) == 4
