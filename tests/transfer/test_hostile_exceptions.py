"""Whatever an exception's class refuses, encoding and decoding do not raise, and the worker's traceback comes home."""

from __future__ import annotations

from typing import Any

import pytest

from lifepool import Pool, TaskError
from lifepool._batching.collector import _copy
from lifepool._inside.resources import Resource
from lifepool._transfer.exceptions import RemoteTraceback, decode_error, encode_error, set_cause, worker_traceback
from tests import tasks
from tests.transfer import hostile_exceptions
from tests.transfer.hostile_exceptions import (
    HOSTILE,
    Frozen,
    FrozenSlots,
    HidesAttributes,
    OfAMetaclass,
    RefusesAttributes,
    load_frozen,
    raise_hostile,
)

cause_of: Any = BaseException.__dict__["__cause__"].__get__
NAMES = [*(cls.__name__ for cls in HOSTILE), "OfAMetaclass"]


def class_named(name: str) -> type:
    cls: type = getattr(hostile_exceptions, name)
    return cls


def assert_at_home(home: BaseException, name: str) -> None:
    assert type(home) is class_named(name) or type(home) is TaskError
    assert type(cause_of(home)) is RemoteTraceback
    assert "in raise_hostile" in (worker_traceback(home) or "")


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


def test_a_note_can_be_added_to_an_exception_that_refuses_attributes() -> None:
    resource: Resource[Any] = Resource(load_frozen)
    with pytest.raises(Frozen) as caught:
        resource()
    assert caught.value.__notes__ == [
        "while the resource tests.transfer.hostile_exceptions.load_frozen was being loaded"
    ]


def test_callers_of_a_batch_can_share_an_exception_that_refuses_attributes() -> None:
    cause = ValueError("why")
    for cls in (Frozen, FrozenSlots, RefusesAttributes, HidesAttributes):
        error = cls()
        set_cause(error, cause)
        copy = _copy(error)
        assert type(copy) is cls
        assert cause_of(copy) is cause


async def test_they_fail_their_task_alone() -> None:
    async with Pool(max_workers=1) as pool:
        for name in NAMES:
            handle: Any = pool.submit(raise_hostile, name)
            caught: BaseException | None = None
            try:
                await handle
            except BaseException as error:
                caught = error
            assert caught is not None
            assert_at_home(caught, name)
        assert await pool.run(tasks.double, 2) == 4
        assert len(pool.workers()) == 1
