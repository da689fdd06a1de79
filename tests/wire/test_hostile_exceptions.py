"""Whatever an exception's class refuses, encoding and decoding do not raise, and the worker's traceback comes home."""

from __future__ import annotations

from typing import Any

import pytest

from lifepool import Pool, TaskError
from lifepool.carrying import RemoteTraceback, decode_error, encode_error
from tests import tasks
from tests.wire import hostile_exceptions
from tests.wire.hostile_exceptions import HOSTILE, OfAMetaclass, raise_hostile

cause_of: Any = BaseException.__dict__["__cause__"].__get__
NAMES = [*(cls.__name__ for cls in HOSTILE), "OfAMetaclass"]


def class_named(name: str) -> type:
    cls: type = getattr(hostile_exceptions, name)
    return cls


def assert_at_home(home: BaseException, name: str) -> None:
    assert type(home) is class_named(name) or type(home) is TaskError
    story = cause_of(home)
    assert type(story) is RemoteTraceback
    assert "in raise_hostile" in str(story)


@pytest.mark.parametrize("name", NAMES)
def test_encoding_and_decoding_never_raise(name: str) -> None:
    try:
        raise_hostile(name)
    except BaseException as error:
        raised = error
    payload = encode_error(raised)
    assert_at_home(decode_error(payload), name)


def test_most_of_them_come_home_as_themselves() -> None:
    came: set[str] = set()
    for name in NAMES:
        try:
            raise_hostile(name)
        except BaseException as error:
            raised = error
        if type(decode_error(encode_error(raised))) is type(raised):
            came.add(name)
    assert set(NAMES) - came <= {"OfAMetaclass"}, "a class that refuses to be found by its name"
    assert OfAMetaclass.__call__ is not None


async def test_they_fail_their_task_alone() -> None:
    async with Pool(max_workers=1) as pool:
        for name in NAMES:
            handle = pool.submit(raise_hostile, name)
            caught: BaseException | None = None
            try:
                await handle
            except BaseException as error:
                caught = error
            assert caught is not None
            assert_at_home(caught, name)
        assert await pool.run(tasks.double, 2) == 4
        assert len(pool.workers()) == 1
