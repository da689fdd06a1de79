"""`Pool` from outside: what it is made with, how it lives, what it refuses. No process where none is needed."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import math
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest

from lifepool import BackendUnsupported, Pool, PoolClosed, TaskHandle, WorkerStartError, report_progress
from lifepool._engine.options import OPTION_NAMES, TaskOptions, task_options
from lifepool._inside import state
from lifepool.config import describe_settings
from tests.tasks import concatenate, double, echo, fail, fail_for_three, load, nothing, what_is_loaded

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


def inline(**settings: Any) -> Pool:
    return Pool(backend="inline", **settings)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in describe_settings():
        monkeypatch.delenv(setting.variable, raising=False)


# --- made -----------------------------------------------------------------------------------------------------------

#: Each argument with a value, the text of the same value for its environment variable, and another value.
ARGUMENTS: list[tuple[str, Any, str, Any]] = [
    ("max_workers", 3, "3", 4),
    ("min_workers", 1, "1", 0),
    ("max_queue", 5, "5", 6),
    ("timeout", 2.5, "2.5", 3.5),
    ("target_wait", 0.25, "0.25", 0.5),
    ("max_tasks_per_worker", 100, "100", None),
    ("max_worker_memory", 2**29, "512MiB", None),
    ("idle_timeout", 5.0, "5", 6.0),
    ("preload", ("json", "re"), "json, re", ()),
    ("backend", "inline", "inline", "local"),
    ("start_timeout", 10.0, "10", 20.0),
    ("drain_timeout", 3.0, "3", 4.0),
    ("shutdown_delay", 5.0, "5", 0),
    ("max_payload", 10**6, "1MB", 10),
    ("carry_context", ("tests.tasks:language",), "tests.tasks:language", ()),
    ("name", "texts", "texts", "images"),
]
each_argument = pytest.mark.parametrize(
    ("name", "value", "text", "other"), ARGUMENTS, ids=[row[0] for row in ARGUMENTS]
)


def test_the_table_of_this_file_has_every_argument() -> None:
    elsewhere = {"initializer", "initargs", "overflow", "fallback"}  # the latter two: tests/remote/test_routing.py
    assert {row[0] for row in ARGUMENTS} | elsewhere == {s.name for s in describe_settings()}


@each_argument
def test_an_argument_can_be_given_in_code(name: str, value: Any, text: str, other: Any) -> None:
    assert getattr(Pool(**{name: value}).config, name) == value


@each_argument
def test_an_argument_can_be_given_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, text: str, other: Any
) -> None:
    monkeypatch.setenv(f"LIFEPOOL_{name.upper()}", text)
    assert getattr(Pool().config, name) == value


@each_argument
def test_code_wins_over_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: Any, text: str, other: Any
) -> None:
    monkeypatch.setenv(f"LIFEPOOL_{name.upper()}", text)
    assert getattr(Pool(**{name: other}).config, name) == other


async def test_the_initializer_can_be_named_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEPOOL_INITIALIZER", "tests.tasks:load")
    monkeypatch.setenv("LIFEPOOL_INITARGS", '["model"]')
    async with Pool(max_workers=1) as pool:
        assert (await pool.run(what_is_loaded))[1] == ["model"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers=0: expected a whole number >= 1"),
        ({"max_workers": "2"}, TypeError, "max_workers='2'"),
        ({"timeout": -1}, ValueError, "timeout=-1: expected a number of seconds > 0"),
        ({"max_workers": 2, "min_workers": 3}, ValueError, "min_workers=3: expected at most max_workers, which is 2"),
        ({"initargs": (1,)}, ValueError, "initargs: expected an initializer"),
        ({"max_worker_memory": "512M"}, ValueError, "max_worker_memory='512M'"),
        ({"backend": "remote"}, ValueError, "backend='remote': expected 'local', 'inline'"),
        ({"backend": 5}, TypeError, "backend=5"),
        ({"backend": "celery+redis://:secret@host"}, BackendUnsupported, "celery"),
    ],
)
def test_a_bad_argument_is_refused_when_the_pool_is_made(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        Pool(**arguments)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_argument_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="unexpected argument 'max_worker': did you mean 'max_workers'"):
        Pool(max_worker=2)  # type: ignore[call-arg]  # so type checkers find it as well


def test_type_checkers_know_the_type_of_each_argument() -> None:
    with pytest.raises(TypeError, match="max_workers='2'"):
        Pool(max_workers="2")  # type: ignore[arg-type]


def test_arguments_have_names() -> None:
    with pytest.raises(TypeError, match="positional"):
        cast("Any", Pool)(2)


def test_a_pool_that_was_only_made_has_started_nothing_and_can_be_looked_at() -> None:
    threads = threading.active_count()
    pool = Pool(max_workers=3, name="texts")
    assert threading.active_count() == threads
    assert pool.state.value == "created"
    assert repr(pool) == "<Pool 'texts' created, max_workers=3>"
    assert pool.statistics().workers == {}
    assert pool.statistics().submitted == 0
    assert pool.max_workers == 3


# --- lives ----------------------------------------------------------------------------------------------------------


async def test_it_lives_as_long_as_the_block() -> None:
    async with inline() as pool:
        assert pool.state.value == "running"
        assert await pool.run(double, 2) == 4
    assert pool.state.value == "closed"


async def test_it_ends_also_if_the_block_raises() -> None:
    pool = inline()
    with pytest.raises(KeyError):
        async with pool:
            raise KeyError
    assert pool.state.value == "closed"


async def test_the_last_of_nested_blocks_ends_it() -> None:
    async with inline() as pool:
        async with pool as same:
            assert same is pool
        assert await pool.run(double, 2) == 4
    assert pool.state.value == "closed"


async def test_starting_a_running_pool_changes_nothing() -> None:
    async with inline() as pool:
        await pool.run(nothing)
        await pool.start()
        assert pool.statistics().completed == 1


async def test_it_can_be_started_again_and_counts_anew() -> None:
    pool = inline()
    for _ in range(2):
        async with pool:
            assert await pool.run(double, 2) == 4
            assert pool.statistics().completed == 1


def test_it_can_live_on_one_event_loop_after_the_other() -> None:
    pool = inline()

    async def use() -> int:
        async with pool:
            return await pool.run(double, 2)

    assert [asyncio.run(use()) for _ in range(2)] == [4, 4]


@pytest.mark.parametrize("close", [Pool.aclose, Pool.drain])
async def test_it_can_be_closed_in_any_state_and_twice(close: Callable[[Pool], Any]) -> None:
    pool = inline()
    await close(pool)
    assert pool.state.value == "created"
    await pool.start()
    await close(pool)
    await close(pool)
    assert pool.state.value == "closed"


async def test_closing_at_once_takes_no_time_limit() -> None:
    async with Pool(max_workers=1) as pool:
        await pool.aclose(timeout=0)
        assert pool.state.value == "closed"


async def test_a_start_that_fails_says_why_and_leaves_a_pool_that_can_be_started() -> None:
    broken = [True]

    def initialize() -> None:
        if broken:
            raise ConnectionError("no model")

    pool = inline(initializer=initialize)
    with pytest.raises(WorkerStartError, match="no model"):
        async with pool:
            pytest.fail("it started")
    assert pool.state.value == "closed"
    broken.clear()
    async with pool:
        assert await pool.run(double, 2) == 4
    assert pool.state.value == "closed"


async def test_the_start_is_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lifepool"):
        async with inline(name="texts", max_workers=1):
            pass
    assert [record.getMessage() for record in caplog.records if "is up" in record.getMessage()] == [
        line for line in caplog.messages if line.startswith("pool 'texts' is up: 1 of 1 workers in ")
    ]
    assert "max_workers from argument" in caplog.text


async def test_a_pool_refuses_to_start_while_a_worker_imports_and_names_the_guard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(state, "phase", state.Phase.IMPORTING)
    monkeypatch.setattr(state, "start_refused", False)
    with pytest.raises(PoolClosed, match='if __name__ == "__main__"'):
        await inline().start()
    assert state.start_refused


# --- lifespan -------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def database(app: str) -> AsyncIterator[dict[str, str]]:
    yield {"database": f"of {app}"}


class Application:
    """Its lifespan is a method, as some people write it."""

    @asynccontextmanager
    async def lifespan(self, app: str) -> AsyncIterator[dict[str, str]]:
        yield {"database": f"of {app}"}

    @asynccontextmanager
    async def lifespan_without_state(self, app: str) -> AsyncIterator[None]:
        yield

    @asynccontextmanager
    async def lifespan_with_pool(self, app: str) -> AsyncIterator[dict[str, str]]:
        yield {"pool": "its own idea"}


async def test_alone_the_lifespan_puts_the_pool_into_the_state() -> None:
    pool = inline()
    async with pool.lifespan("app") as state:
        assert state == {"pool": pool}
        assert pool.state.value == "running"
    assert pool.state.value == "closed"


@pytest.mark.parametrize(
    "own", [database, Application().lifespan, functools.partial(database)], ids=["function", "method", "partial"]
)
async def test_around_the_apps_own_lifespan_the_states_are_merged(own: Any) -> None:
    pool = inline()
    async with pool.lifespan(own)("app") as state:
        assert state == {"pool": pool, "database": "of app"}
    assert pool.state.value == "closed"


async def test_the_apps_own_lifespan_may_have_no_state() -> None:
    pool = inline()
    async with pool.lifespan(Application().lifespan_without_state)("app") as state:
        assert state == {"pool": pool}


async def test_on_the_same_name_the_apps_own_state_wins() -> None:
    async with inline().lifespan(Application().lifespan_with_pool)("app") as state:
        assert state == {"pool": "its own idea"}


async def test_two_pools_can_be_put_around_one_lifespan() -> None:
    outer, inner = inline(), inline()
    async with outer.lifespan(inner.lifespan(database))("app"):
        assert (outer.state.value, inner.state.value) == ("running", "running")
    assert (outer.state.value, inner.state.value) == ("closed", "closed")


# --- refuses --------------------------------------------------------------------------------------------------------


async def test_a_pool_that_was_never_started_says_so_and_names_the_line_to_add() -> None:
    with pytest.raises(PoolClosed, match=r"never started.*FastAPI\(lifespan=pool.lifespan\)"):
        await inline().run(double, 2)


async def test_a_closed_pool_takes_nothing() -> None:
    async with inline() as pool:
        pass
    with pytest.raises(PoolClosed, match="the pool is closed"):
        pool.submit(double, 2)
    with pytest.raises(PoolClosed):
        await pool.gather(double, [1, 2])
    with pytest.raises(PoolClosed):
        await anext(aiter(pool.map(double, [1, 2])))


async def test_a_pool_of_another_event_loop_says_how_to_reach_it() -> None:
    async with inline() as pool:

        def elsewhere() -> None:
            asyncio.run(pool.run(double, 2))

        with pytest.raises(RuntimeError, match=r"belongs to another event loop.*pool.from_thread.run"):
            await asyncio.to_thread(elsewhere)


async def test_a_thread_reaches_the_pool_in_the_way_that_the_error_names() -> None:
    async with inline() as pool:
        loop = asyncio.get_running_loop()

        def in_a_thread() -> int:
            return asyncio.run_coroutine_threadsafe(pool.run(double, 2), loop).result(20)

        assert await asyncio.to_thread(in_a_thread) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout=0: expected seconds above 0, or None"),
        ({"timeout": -1.0}, "timeout=-1.0"),
        ({"timeout": math.nan}, "timeout=nan"),
        ({"retries": -1}, "retries=-1: expected a whole number >= 0"),
        ({"on_cancel": "kill"}, "on_cancel='kill': expected 'interrupt' or 'abandon'"),
    ],
)
async def test_a_bad_option_of_a_task_is_refused(options: dict[str, Any], message: str) -> None:
    async with inline() as pool:
        with pytest.raises(ValueError, match="expected") as caught:
            pool.submit(double, 2, **options)
        assert message in str(caught.value)
        assert pool.statistics().submitted == 0


async def test_a_coroutine_function_is_refused() -> None:
    async with inline() as pool:
        with pytest.raises(TypeError, match="it belongs on the event loop"):
            pool.submit(asyncio.sleep, 1)


# --- runs -----------------------------------------------------------------------------------------------------------


async def test_keywords_are_the_pools_and_the_functions_own_go_through_partial() -> None:
    async with inline() as pool:
        joined = await pool.run(functools.partial(concatenate, separator="-"), "a", "b", timeout=20, retries=1)
    assert joined == "a-b"


async def test_an_exception_is_raised_as_itself() -> None:
    async with inline() as pool:
        with pytest.raises(ValueError, match="no luck"):
            await pool.run(fail, "no luck")
        assert pool.statistics().failed == 1


async def test_a_handle_can_be_asked_and_awaited_later() -> None:
    async with Pool(max_workers=1) as pool:
        handle = pool.submit(double, 2)
        assert isinstance(handle, TaskHandle)
        assert handle.state.value in ("queued", "running")
        assert await handle == 4
        assert handle.state.value == "completed"
        assert handle.progress is None


def report_half() -> str:
    report_progress(0.5)
    return "done"


async def test_progress_is_seen_on_the_handle() -> None:
    async with inline() as pool:
        handle = pool.submit(report_half)
        assert await handle == "done"
        assert handle.progress == 0.5


def test_reporting_progress_outside_of_a_task_does_nothing() -> None:
    assert report_half() == "done"


async def test_an_endless_timeout_lifts_the_pools_own() -> None:
    async with inline(timeout=1e-9) as pool:
        assert await pool.run(echo, "in time", timeout=math.inf) == "in time"


async def test_map_and_gather_keep_the_order() -> None:
    async with inline() as pool:
        assert [result async for result in pool.map(double, range(100))] == [2 * n for n in range(100)]
        assert await pool.gather(double, range(100)) == [2 * n for n in range(100)]


async def test_gather_puts_exceptions_in_their_place_if_asked() -> None:
    async with inline() as pool:
        results: list[Any] = await pool.gather(fail_for_three, [1, 3, 5], return_exceptions=True)
        assert [results[0], results[2]] == [1, 5]
        assert isinstance(results[1], ValueError)
        with pytest.raises(ValueError, match="no 3"):
            await pool.gather(fail_for_three, [1, 3, 5])


# --- @pool.task -----------------------------------------------------------------------------------------------------

decorating = Pool(max_workers=1)


@decorating.task
def shout(text: str, mark: str = "!") -> str:
    """Say it loudly."""
    return text.upper() + mark


@decorating.task(timeout=20, retries=1)
def whisper(text: str) -> str:
    return text.lower()


async def test_a_decorated_function_runs_in_a_real_worker_with_its_own_keywords() -> None:
    async with decorating:
        assert await shout("hello") == "HELLO!"
        assert await shout("hello", mark="?") == "HELLO?"
        assert await whisper("HELLO") == "hello"
        assert await decorating.run(cast("Any", whisper), "HELLO") == "hello"
        assert await decorating.gather(cast("Any", whisper), ["A", "B"]) == ["a", "b"]
        assert await shout.submit("hello") == "HELLO!"


def test_a_decorated_function_keeps_its_name_and_can_be_called_plainly() -> None:
    assert (cast("Any", shout).__name__, shout.__doc__) == ("shout", "Say it loudly.")
    assert shout.function("hello") == "HELLO!"


def test_an_unknown_option_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError, match=r"does not know \['time'\]"):
        decorating.task(time=2)(nothing)  # type: ignore[call-overload]


def test_a_local_function_can_not_be_decorated() -> None:
    with pytest.raises(TypeError, match="define it at the top level of a module"):
        decorating.task(lambda: None)


async def test_the_initializer_runs_before_the_first_task() -> None:
    async with Pool(max_workers=1, initializer=load, initargs=("model",)) as pool:
        assert (await pool.run(what_is_loaded))[1] == ["model"]


# --- declared once --------------------------------------------------------------------------------------------------


def keywords_of(function: Callable[..., object]) -> dict[str, object]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def test_the_options_of_a_task_are_the_same_wherever_they_are_named() -> None:
    declared = keywords_of(task_options)
    assert keywords_of(Pool.run) == declared == keywords_of(Pool.submit)
    assert declared.keys() == OPTION_NAMES
    own = set(TaskOptions._fields) - {"is_admitted"}
    assert own == declared.keys() - {"on_cancel"} | {"abandon"}


def test_map_and_gather_name_what_they_have_in_common_with_tasks_alike() -> None:
    declared = keywords_of(task_options)
    for method in (Pool.map, Pool.gather):
        own = keywords_of(method)
        assert {name: own[name] for name in ("timeout", "retries", "priority")}.items() <= declared.items()


def test_tasks_without_options_share_one_object_that_nobody_can_change() -> None:
    default = TaskOptions(timeout=3.0)
    assert task_options(default) is default
    assert task_options(default, copy=False) == TaskOptions(timeout=3.0, copy=False)
    assert task_options(default, timeout=math.inf).timeout is None
    with pytest.raises(AttributeError):
        default.timeout = 4.0  # type: ignore[misc]


def test_a_part_of_a_call_has_the_options_of_the_call_and_its_own_time() -> None:
    whole = TaskOptions(timeout=3.0, retries=2, priority=1)
    assert whole.within(3.0) is whole
    assert whole.within(math.inf) == TaskOptions(retries=2, priority=1)
    assert whole.within(1.0, is_admitted=True) == TaskOptions(timeout=1.0, retries=2, priority=1, is_admitted=True)
