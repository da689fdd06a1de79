"""`lifepool.futures.ProcessPoolExecutor`: its constructor."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

import lifepool
from lifepool._inside import state
from lifepool.futures import ProcessPoolExecutor
from tests.futures.helpers import value
from tests.tasks import double, fail, load, what_is_loaded

if TYPE_CHECKING:
    from collections.abc import Callable


def test_the_initializer_runs_in_each_worker() -> None:
    with ProcessPoolExecutor(1, initializer=load, initargs=("model",)) as executor:
        _, loaded = value(executor.submit(what_is_loaded))
        assert loaded == ["model"]


def test_an_initializer_that_fails_fails_the_futures_and_says_why() -> None:
    with ProcessPoolExecutor(1, initializer=fail, initargs=("no model",)) as executor:
        for _ in range(2):  # each call tries again
            with pytest.raises(lifepool.WorkerStartError, match="no model"):
                value(executor.submit(double, 1))


def test_a_worker_is_replaced_after_its_tasks() -> None:
    with ProcessPoolExecutor(1, max_tasks_per_child=1) as executor:
        first, second = (value(executor.submit(os.getpid)) for _ in range(2))
    assert first != second


def test_the_positional_order_is_the_standard_librarys() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, load, ("model",), max_tasks_per_child=5) as executor:
        assert value(executor.submit(what_is_loaded))[1] == ["model"]


def test_arguments_without_an_initializer_are_ignored_as_in_the_standard_library() -> None:
    with ProcessPoolExecutor(1, initargs=("unused",)) as executor:
        assert value(executor.submit(double, 1)) == 2


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: ProcessPoolExecutor(0), ValueError),
        (lambda: ProcessPoolExecutor(-1), ValueError),
        (lambda: ProcessPoolExecutor(cast("Any", "2")), TypeError),
        (lambda: ProcessPoolExecutor(initializer=cast("Any", 5)), TypeError),
        (lambda: ProcessPoolExecutor(max_tasks_per_child=0), ValueError),
        (lambda: ProcessPoolExecutor(max_tasks_per_child=cast("Any", 1.5)), TypeError),
    ],
)
def test_a_wrong_argument_is_refused_at_once(make: Callable[[], Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        make()


def test_nothing_starts_before_the_first_call() -> None:
    before = threading.active_count()
    with ProcessPoolExecutor(1):
        assert threading.active_count() == before


def test_max_workers_is_where_other_libraries_look_for_it() -> None:
    assert ProcessPoolExecutor(3)._max_workers == 3


def test_it_refuses_to_run_while_a_worker_imports_and_names_the_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "phase", state.Phase.IMPORTING)
    monkeypatch.setattr(state, "start_refused", False)
    with pytest.raises(lifepool.PoolClosed, match="__main__"):
        ProcessPoolExecutor(1).submit(double, 1)
    assert state.start_refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProcessPoolExecutor(0), "max_workers must be greater than 0"),
        (lambda: ProcessPoolExecutor(initializer=cast("Any", 5)), "initializer must be a callable"),
        (lambda: ProcessPoolExecutor(max_tasks_per_child=0), "max_tasks_per_child must be >= 1"),
        (lambda: ProcessPoolExecutor(max_tasks_per_child=cast("Any", "1")), "max_tasks_per_child must be an integer"),
    ],
)
def test_it_is_refused_in_the_standard_librarys_words(make: Callable[[], Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}$"):
        make()


@pytest.mark.parametrize("context", [multiprocessing.get_context("fork"), multiprocessing])
def test_a_context_that_forks_is_not_used_and_a_warning_says_so(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "fork")  # as on Linux before Python 3.14
    with pytest.warns(UserWarning, match="lifepool never does") as caught, ProcessPoolExecutor(1, context) as executor:
        assert value(executor.submit(what_is_loaded))[1] == []
    assert caught[0].filename == __file__


def test_it_is_a_standard_executor_for_those_who_ask() -> None:
    assert isinstance(ProcessPoolExecutor(1), concurrent.futures.ProcessPoolExecutor)


def test_no_second_worker_starts_before_there_is_work_for_it() -> None:
    with ProcessPoolExecutor(4) as executor:
        pids = {value(executor.submit(os.getpid)) for _ in range(5)}
    assert len(pids) == 1


def test_its_workers_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_IDLE_TIMEOUT", "7")
    assert ProcessPoolExecutor(1)._thread._runtime.config.idle_timeout == 7
    monkeypatch.delenv("LIFEPOOL_IDLE_TIMEOUT")
    assert ProcessPoolExecutor(1)._thread._runtime.config.idle_timeout > 30 * 86400


def test_payloads_beyond_the_limit_of_pools_are_sent() -> None:
    with ProcessPoolExecutor(1) as executor:
        assert value(executor.submit(len, bytes(257 << 20))) == 257 << 20
