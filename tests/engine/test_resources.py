"""`@pool.resource`: loaded once in each worker, kept for its tasks, cleaned up at its end."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lifepool import BackendUnsupported, Pool, TaskNotPicklable, WorkerStartError
from lifepool._core import policy
from lifepool._inside.resources import close_all
from tests.engine import resourceful
from tests.engine.gates import PATIENCE_S, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.gates import Gate


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What happened to resources, a line each: what, and the process."""
    path = tmp_path / "log"
    monkeypatch.setenv(resourceful.LOG, str(path))
    return path


@pytest.fixture(autouse=True)
def _this_process_keeps_nothing() -> Iterator[None]:
    yield
    close_all()


def events(log: Path) -> list[str]:
    """What happened, without the processes."""
    return [line.rpartition(" ")[0] for line in log.read_text().splitlines()] if log.exists() else []


# --- loading --------------------------------------------------------------------------------------------------------


async def test_it_is_loaded_once_in_each_worker_that_uses_it(log: Path, gate: Gate) -> None:
    async with resourceful.pool as pool:
        assert events(log) == []
        for expected in (1, 2):
            handles = [pool.submit(resourceful.hold_and_use, gate.address) for _ in range(2)]
            for _ in range(2):
                (await gate.arrival()).let_through()
            used = [await handle for handle in handles]
            assert [count for _, count in used] == [expected] * 2
            assert len({pid for pid, _ in used} - {os.getpid()}) == 2
    assert events(log) == ["loaded model"] * 2


async def test_a_worker_that_replaces_another_loads_its_own(log: Path) -> None:
    pool = Pool(max_workers=1, max_tasks_per_worker=2)
    async with pool:
        used = [await pool.run(resourceful.use) for _ in range(4)]
    by_worker: dict[int, list[int]] = {}
    for pid, count in used:
        by_worker.setdefault(pid, []).append(count)
    assert len(by_worker) >= 2
    assert all(counts in ([1], [1, 2]) for counts in by_worker.values()), "one, if its successor was up before"
    assert events(log) == ["loaded model"] * len(by_worker)


async def test_one_can_use_another() -> None:
    async with resourceful.pool as pool:
        assert await pool.run(resourceful.same_model)


async def test_it_can_be_passed_to_a_task_and_is_the_workers_own_there() -> None:
    async with resourceful.pool as pool:
        assert await pool.run(resourceful.ask, resourceful.connection) == ["connection"]
        assert await pool.run(resourceful.is_the_modules_own, resourceful.model)


def test_it_is_pickled_by_reference() -> None:
    assert pickle.loads(pickle.dumps(resourceful.model)) is resourceful.model


async def test_a_name_that_means_something_else_there_is_said() -> None:
    async with Pool(max_workers=1) as pool:
        made: Any = pool.resource(_hidden)
        with pytest.raises(TaskNotPicklable, match=r"_hidden is not a resource here, but a function"):
            await pool.run(resourceful.ask, made)


def _hidden() -> int:
    return 1


def test_outside_of_workers_the_process_that_asks_loads_it_once(log: Path) -> None:
    assert resourceful.use()[1] == 1
    assert resourceful.use() == (os.getpid(), 2)
    assert events(log) == ["loaded model"]


def test_threads_that_ask_at_once_load_it_once(log: Path) -> None:
    barrier = threading.Barrier(8)

    def ask(_: int) -> resourceful.Model:
        barrier.wait(20)
        return resourceful.model()

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(8)))) == 1
    assert events(log) == ["loaded model"]


async def test_a_forked_child_of_a_task_loads_its_own(log: Path) -> None:
    async with resourceful.pool as pool:
        used_in_child, _, used_here = await pool.run(resourceful.fork_and_use)
    assert (used_in_child, used_here) == (1, 2)
    assert events(log) == ["loaded model"] * 2


# --- failing --------------------------------------------------------------------------------------------------------


async def test_a_failure_is_the_tasks_and_the_next_one_tries_again(log: Path) -> None:
    async with Pool(max_workers=1) as pool:
        with pytest.raises(OSError, match="the first try") as caught:
            await pool.run(resourceful.read_moody)
        assert "while the resource tests.engine.resourceful.moody was being loaded" in str(caught.value.__cause__)
        assert await pool.run(resourceful.read_moody) == "survived"


async def test_a_load_that_is_broken_off_by_a_timeout_is_tried_again(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(resourceful.LOG, gate.address)
    monkeypatch.setattr(policy, "INTERRUPT_GRACE_S", PATIENCE_S)
    async with Pool(max_workers=1) as pool:
        loading = pool.submit(resourceful.ask, resourceful.slow)
        visitor = await gate.arrival()
        loading.cancel()
        await visitor.gone()
        assert await pool.run(resourceful.ask, resourceful.slow) == "loaded"
        assert pool.statistics().restarts == {}


@pytest.mark.parametrize(
    ("resource", "message"),
    [
        (resourceful.circular, "the resource circular needs itself to be loaded"),
        (resourceful.empty, "the resource empty yielded nothing"),
    ],
)
def test_what_can_not_be_loaded_says_why(resource: Any, message: str) -> None:
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            resource()


async def test_an_eager_one_that_fails_fails_the_start_with_its_traceback() -> None:
    with pytest.raises(WorkerStartError, match="no model in this directory") as caught:
        await resourceful.failing_pool.start()
    assert "while the resource tests.engine.resourceful.failing was being loaded" in caught.value.cause
    assert 'raise LookupError("no model' in caught.value.cause


# --- eager ----------------------------------------------------------------------------------------------------------


async def test_an_eager_one_is_loaded_before_the_worker_is_ready(log: Path) -> None:
    async with resourceful.eager_pool:
        assert events(log) == ["loaded eager"] * 2
        assert await resourceful.eager_pool.run(resourceful.ask, resourceful.eager) == "eager"
    assert events(log) == ["loaded eager"] * 2


async def test_the_pools_own_initializer_comes_before_it(log: Path) -> None:
    pool = Pool(max_workers=1, initializer=resourceful.initialize, initargs=("first",))
    pool._runtime.declared.resources.append(resourceful.eager)
    async with pool:
        assert events(log) == ["initialized first", "loaded eager"]


async def test_one_that_is_declared_when_the_pool_runs_comes_too_late_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with Pool(max_workers=1) as pool:
        with caplog.at_level(logging.WARNING, "lifepool"):
            pool.resource(eager=True)(_hidden)
    assert "_hidden is loaded when it is first used" in caplog.text


async def test_workers_of_a_backend_of_ones_own_can_not_load_eagerly() -> None:
    with ThreadPoolExecutor(1) as threads:
        pool = Pool(max_workers=1, backend=threads)
        pool.resource(eager=True)(_hidden)
        with pytest.raises(BackendUnsupported, match="leave out eager=True"):
            await pool.start()


# --- cleaning up ----------------------------------------------------------------------------------------------------


async def test_a_generator_cleans_up_when_its_worker_exits(log: Path) -> None:
    pool = Pool(max_workers=1)
    async with pool:
        assert await pool.run(resourceful.read_connection) == "connection"
        assert await pool.run(resourceful.read_connection) == "connection"
        assert events(log) == ["opened connection"]
    assert events(log) == ["opened connection", "closed connection"]


async def test_a_worker_that_is_replaced_cleans_up(log: Path) -> None:
    pool = Pool(max_workers=1, max_tasks_per_worker=1)
    async with pool:
        await pool.run(resourceful.read_connection)
        await until(lambda: events(log) == ["opened connection", "closed connection"])


async def test_what_was_loaded_last_is_cleaned_up_first(log: Path) -> None:
    async with Pool(max_workers=1) as pool:
        assert await pool.run(resourceful.read_session) == "session over connection"
    assert events(log) == ["opened connection", "closed session", "closed connection"]


async def test_a_cleanup_that_fails_leaves_the_others_theirs(log: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with Pool(max_workers=1) as pool:
        await pool.run(resourceful.read_connection)
        assert await pool.run(resourceful.use_grumpy) == 1
    assert events(log)[-1] == "closed connection"
    assert "cleaning up the resource grumpy failed" in capfd.readouterr().err
    assert pool.statistics().restarts == {"closed": 1}


def test_closing_by_hand_cleans_up_and_the_next_call_loads_anew(log: Path) -> None:
    first = resourceful.connection()
    resourceful.connection.close()
    resourceful.connection.close()
    assert events(log) == ["opened connection", "closed connection"]
    assert resourceful.connection() is not first


def test_a_generator_that_yields_twice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert resourceful.unending() == 1
    resourceful.unending.close()
    assert "the resource unending yielded twice" in caplog.text


def test_a_program_that_ends_cleans_up(log: Path) -> None:
    program = "from tests.engine import resourceful; resourceful.read_session()"
    subprocess.run([sys.executable, "-c", program], timeout=40, check=True, cwd=Path(__file__).parents[2])
    assert events(log) == ["opened connection", "closed session", "closed connection"]


# --- other backends -------------------------------------------------------------------------------------------------


async def test_inline_it_is_loaded_here_and_cleaned_up_with_the_pool(log: Path) -> None:
    pool = Pool(backend="inline")
    pool._runtime.declared.resources.append(resourceful.connection)
    async with pool:
        assert await pool.run(resourceful.read_connection) == "connection"
        assert await pool.run(resourceful.read_connection) == "connection"
        assert events(log) == ["opened connection"]
    assert events(log) == ["opened connection", "closed connection"]


async def test_inline_an_eager_one_is_loaded_at_the_start(log: Path) -> None:
    pool = Pool(backend="inline")
    pool._runtime.declared.resources.append(resourceful.eager)
    async with pool:
        assert events(log) == ["loaded eager"]


async def test_processes_of_an_executor_load_and_clean_up_too(log: Path) -> None:
    async with Pool(max_workers=1, backend="executor") as pool:
        answers = await asyncio.gather(*(pool.run(resourceful.read_connection) for _ in range(3)))
    assert answers == ["connection"] * 3
    assert events(log) == ["opened connection", "closed connection"]


# --- the decorator --------------------------------------------------------------------------------------------------


async def _async_loader() -> int:
    return 1


def _needs_an_argument(path: str) -> str:
    return path


def test_functions_that_can_not_load_anything_are_refused() -> None:
    def local() -> int:
        return 1

    pool: Any = Pool()
    for function, message in [
        (local, "top level of a module"),
        (_async_loader, "is async"),
        (_needs_an_argument, "is called without arguments, but needs path"),
    ]:
        with pytest.raises(TypeError, match=message):
            pool.resource(function)


def test_it_looks_like_the_function() -> None:
    assert (resourceful.model.__name__, resourceful.model.__doc__) == ("model", "The model.")
