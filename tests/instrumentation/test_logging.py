"""What workers log arrives in the server's loggers; on real processes."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from lifepool import BackendUnsupported, Pool, WorkerLost
from lifepool.instrumentation.logging import ForwardLogs
from tests.instrumentation import logging_tasks as tasks

if TYPE_CHECKING:
    from collections.abc import Iterator

request: ContextVar[str] = ContextVar("request", default="none")


class Listening(logging.Handler):
    """A handler that keeps records, and the request they were handled in."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[Any] = []

    def emit(self, record: logging.LogRecord) -> None:
        record.request = request.get()
        self.records.append(record)

    @property
    def texts(self) -> list[str]:
        return [record.getMessage() for record in self.records if record.name.startswith("app")]


@contextmanager
def listening() -> Iterator[Listening]:
    handler, root = Listening(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def forwarding(**settings: Any) -> Pool:
    pool = Pool(max_workers=1, **settings)
    pool.add_hook(ForwardLogs())
    return pool


async def test_a_record_arrives_with_its_task_and_in_the_context_of_its_request() -> None:
    with listening() as heard:
        async with forwarding() as pool:
            request.set("A17")
            number = await pool.run(tasks.say, "hello", logging.INFO, {"colour": "red"})
            request.set("none")
            await pool.run(tasks.say, "not wanted", logging.DEBUG)
    (record,) = [each for each in heard.records if each.name == "app.work"]
    assert (record.getMessage(), record.levelname, record.colour) == ("hello", "INFO", "red")
    assert (record.task_id, record.task_name, record.worker) == (number, "say", 1)
    assert record.request == "A17"
    assert record.pathname.endswith("logging_tasks.py")


async def test_levels_are_those_of_the_servers_loggers() -> None:
    tasks.log.setLevel(logging.ERROR)
    try:
        with listening() as heard:
            async with forwarding() as pool:
                await pool.run(tasks.say, "quiet", logging.WARNING)
                await pool.run(tasks.say, "loud", logging.ERROR)
    finally:
        tasks.log.setLevel(logging.NOTSET)
    assert heard.texts == ["loud"]


async def test_exceptions_threads_forks_and_a_last_word_arrive() -> None:
    with listening() as heard:
        async with forwarding() as pool:
            await pool.run(tasks.say_that_it_failed)
            await pool.run(tasks.say_from_a_thread_and_a_fork)
            with pytest.raises(WorkerLost):
                await pool.run(tasks.say_and_die)
    assert heard.texts == ["could not read", "from a thread", "from a fork", "goodbye"]
    (failed, *_) = [each for each in heard.records if each.name == "app.work"]
    assert "ValueError: no such file" in failed.exc_text


async def test_a_flood_is_thinned_out_and_what_was_dropped_is_counted() -> None:
    pool = Pool(max_workers=1)
    pool.add_hook(ForwardLogs(per_second=50))
    with listening() as heard:
        async with pool:
            assert await pool.run(tasks.flood, 100_000, timeout=40) == 100_000
            for _ in range(200):  # until a token has come
                await pool.run(tasks.say, "after")
                if "after" in heard.texts:
                    break
    through = len([text for text in heard.texts if text.isdigit()])
    assert 0 < through < 5000
    assert dropped(heard) >= 100_000 - through - 50


def dropped(heard: Listening) -> int:
    return sum(int(r.args[1]) for r in heard.records if "dropped" in str(r.msg) and r.name == "lifepool")


async def test_what_was_dropped_is_reported_when_the_worker_ends_and_not_with_each_record() -> None:
    pool = Pool(max_workers=1)
    pool.add_hook(ForwardLogs(per_second=50))
    with listening() as heard:
        async with pool:
            assert await pool.run(tasks.flood, 20_000, timeout=40) == 20_000
    through = len(heard.texts)
    assert dropped(heard) == 20_000 - through
    warnings = [r for r in heard.records if "dropped" in str(r.msg) and r.name == "lifepool"]
    assert len(warnings) < through / 2


async def test_invalid_data_is_reported_once_and_long_records_are_cut() -> None:
    with listening() as heard:
        async with forwarding() as pool:
            await pool.run(tasks.write_garbage)
            await pool.run(tasks.say_something_long)
    assert len([each for each in heard.records if "no log record" in str(each.msg)]) == 1
    (text,) = heard.texts
    assert text.endswith("[cut]")


async def test_structlog_events_stay_dicts_and_bring_what_was_bound() -> None:
    with listening() as heard:
        async with forwarding(initializer=tasks.use_structlog) as pool:
            with structlog.contextvars.bound_contextvars(order=7):
                await pool.run(tasks.say_with_structlog)
    (record,) = [each for each in heard.records if each.name == "app.struct"]
    assert isinstance(record.msg, dict)
    assert record.msg.items() >= {"event": "paid", "amount": 3, "order": 7}.items()


async def test_an_executor_can_not_and_inline_need_not() -> None:
    with listening() as heard:
        async with forwarding(backend="inline") as pool:
            await pool.run(tasks.say, "here")
        with pytest.raises(BackendUnsupported, match="does not forward"):
            await forwarding(backend="executor").start()
        async with Pool(max_workers=1, backend="executor") as pool:
            with pytest.raises(BackendUnsupported, match="does not forward"):
                pool.add_hook(ForwardLogs())
            assert not pool.hooks
    assert heard.texts == ["here"]
