"""Exceptions there and back: as themselves if they can, in parts if they must, told if nothing else is left."""

from __future__ import annotations

import asyncio
import concurrent.futures
import pickle
import threading
from typing import Any

import pytest

from lifepool import PayloadTooLarge, TaskError, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool._inside.state import TaskInterrupted
from lifepool._transfer.exceptions import (
    MAX_TRACEBACK_CHARS,
    RemoteTraceback,
    as_raised,
    decode_error,
    worker_traceback,
)
from tests import tasks
from tests.transfer.faithful import assert_same, carried


class NewOfItsOwn(Exception):
    def __new__(cls, code: int) -> NewOfItsOwn:
        return super().__new__(cls, code)

    def __init__(self, code: int) -> None:
        super().__init__("a text", "of two parts")


class ReadOnly(Exception):
    """Its attributes can't be set again."""

    def __init__(self, *, code: int) -> None:
        super().__init__(code)
        self.__dict__["code"] = code

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(name)


class OwnBase(BaseException):
    pass


class PicklesAsAnother(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (ValueError, ("somebody else",))


class FailsOnLoad(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (tasks.fail, ("on load",))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        ValueError(),
        KeyError("key", 2),
        OSError(2, "No such file", "name"),
        FileNotFoundError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "why"),
        ExceptionGroup("several", [ValueError(1), KeyError(2)]),
        AssertionError(),
        RecursionError("too deep"),
        TaskNotPicklable("result", "result.x", "why"),
        PayloadTooLarge("result", 2, 1),
        TaskTimeout(2.0, started=True),
        WorkerLost(exitcode=3, story=("one", "two")),
    ],
)
def test_an_exception_that_can_be_pickled_comes_home_as_itself(error: Exception) -> None:
    assert_same(carried(error), error)


@pytest.mark.parametrize(
    ("error", "fields"),
    [
        (tasks.OwnInit(42, detail="why"), {"code": 42, "detail": "why"}),
        (tasks.HoldsLock("text"), {"number": 7}),
        (ReadOnly(code=1), {"code": 1}),
        (NewOfItsOwn(1), {}),
    ],
)
def test_other_exceptions_come_home_in_parts(error: Exception, fields: dict[str, Any]) -> None:
    home = carried(error)
    assert type(home) is type(error)
    assert home.args[0] == error.args[0]
    assert {name: getattr(home, name) for name in fields} == fields


def test_an_argument_that_can_not_be_pickled_is_replaced_by_its_text() -> None:
    lock = threading.Lock()
    home = carried(ValueError("with", lock))
    assert type(home) is ValueError
    assert home.args == ("with", str(lock))


@pytest.mark.parametrize(
    "error",
    [
        SystemExit(3),
        KeyboardInterrupt(),
        GeneratorExit("text"),
        StopIteration("value"),
        StopAsyncIteration("value"),
        asyncio.CancelledError("why"),
        TaskInterrupted(),
    ],
)
def test_what_an_event_loop_can_not_bear_is_the_cause_of_a_task_error(error: BaseException) -> None:
    home = carried(error)
    assert type(home) is TaskError
    assert f"the task raised {type(error).__name__}: {error}" in str(home)
    cause = home.__cause__
    assert type(cause) is type(error)
    assert cause.args == error.args
    assert isinstance(cause.__cause__, RemoteTraceback)
    assert type(error).__name__ in str(cause.__cause__)
    assert as_raised(home) is cause


def test_the_workers_traceback_is_found_also_behind_what_can_not_be_raised() -> None:
    assert "SystemExit" in (worker_traceback(carried(SystemExit(3))) or "")
    assert "ValueError" in (worker_traceback(carried(ValueError(3))) or "")
    assert worker_traceback(ValueError(3)) is None


def test_a_task_error_of_the_tasks_own_stays_one() -> None:
    home = carried(TaskError("mine"))
    assert as_raised(home) is home
    assert str(home) == "mine"


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError("late"),
        concurrent.futures.CancelledError("of a future"),
        concurrent.futures.TimeoutError(),
        OwnBase("of its own"),
        BaseExceptionGroup("all", [SystemExit(1), asyncio.CancelledError("x"), ValueError(2)]),
    ],
)
def test_what_a_coroutine_can_raise_comes_home_as_itself(error: BaseException) -> None:
    assert_same(carried(error), error)


def test_an_exception_that_pickles_as_another_one_is_not_taken_for_it() -> None:
    assert type(carried(PicklesAsAnother("me"))) is PicklesAsAnother


def test_an_exception_that_can_not_be_loaded_comes_home_in_parts() -> None:
    home = carried(FailsOnLoad("me"))
    assert type(home) is FailsOnLoad
    assert home.args == ("me",)


def test_an_exception_that_can_not_be_shown_comes_home() -> None:
    assert type(carried(tasks.Unprintable())) is tasks.Unprintable


def test_a_very_long_traceback_is_cut_in_the_middle() -> None:
    home = carried(ValueError("x" * 10 * MAX_TRACEBACK_CHARS))
    story = str(home.__cause__)
    assert len(story) < MAX_TRACEBACK_CHARS + 100
    assert "... cut ..." in story
    assert story.count("Traceback") == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        pickle.dumps("a string"),
        pickle.dumps(("whole", b"garbage", "Lost: text", "its story")),
        pickle.dumps(("whole", pickle.dumps("no exception"), "Lost: text", "its story")),
    ],
)
def test_bytes_that_are_no_exception_still_give_one(payload: bytes) -> None:
    home = decode_error(payload)
    assert isinstance(home, TaskError)
    assert isinstance(home.__cause__, RemoteTraceback)


def test_of_an_exception_whose_class_is_unknown_here_the_story_is_kept() -> None:
    home = decode_error(pickle.dumps(("whole", b"garbage", "Lost: text", "its story")))
    assert "Lost: text" in str(home)
    assert "its story" in str(home.__cause__)
