"""Functions by their import path."""

from __future__ import annotations

import pickle
from functools import partial
from typing import Any

import pytest

from lifepool import TaskNotPicklable
from lifepool._transfer.exceptions import decode_error
from lifepool._transfer.grouped import BatchFunction, Chunk, GroupResult
from lifepool.backends.remote.functions import NodeCall, RemoteCall, path_in
from lifepool.backends.remote.messages import Refused
from lifepool.backends.remote.security import AllowList
from lifepool.jobs.calls import JobCall
from lifepool.jobs.values import encode
from tests import tasks

LIMIT = 10_000


class Counter:
    """A callable object, with all kinds of methods."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, number: int) -> int:
        return self.start + number

    def minus(self, number: int) -> int:
        return self.start - number

    @classmethod
    def make(cls, start: int) -> int:
        return cls(start).start

    @staticmethod
    def twice(number: int) -> int:
        return 2 * number


def double_all(numbers: list[int]) -> list[int]:
    return [2 * number for number in numbers]


def there(fn: Any, *args: Any) -> Any:
    """Send a call through bytes, and make it as a node does."""
    call = RemoteCall(fn, args, (), LIMIT)
    value, error, _ = pickle.loads(pickle.dumps(NodeCall(call.spec, LIMIT)))(call.pickled)
    if error is not None:
        raise decode_error(error)
    return pickle.loads(value)


@pytest.mark.parametrize(
    ("fn", "args", "expected"),
    [
        (tasks.double, (4,), 8),
        (len, ("abc",), 3),
        (partial(tasks.concatenate, "a", separator="-"), ("b",), "a-b"),
        (partial(partial(tasks.concatenate, "a"), "b", separator="+"), ("c",), "a+b+c"),
        (Counter(3), (4,), 7),
        (Counter(3).minus, (1,), 2),
        (Counter.make, (5,), 5),
        (Counter.twice, (5,), 10),
        ("abc".replace, ("b", "x"), "axc"),
        (Counter, (1,), None),
    ],
)
def test_all_that_can_be_called_is_called_there(fn: Any, args: Any, expected: Any) -> None:
    answer = there(fn, *args)
    assert answer == expected or isinstance(answer, Counter)


def test_chunks_and_batches_go_along() -> None:
    chunk = there(Chunk(partial(tasks.concatenate, separator=".")), ["a", "b"], True)
    assert chunk.values == ["a", "b"]
    batch = there(BatchFunction(double_all), [1, 2], True)
    assert isinstance(batch, GroupResult)
    assert batch.values == [2, 4]


def test_the_path_can_be_read_without_importing_anything() -> None:
    call = RemoteCall(Chunk(partial(tasks.double)), ([1],), (), LIMIT)
    assert path_in(call.spec) == "tests.tasks:double"
    assert b"double" not in call.pickled
    assert NodeCall(call.spec, LIMIT).__qualname__ == "double"


def test_a_lambda_is_refused_with_advice() -> None:
    with pytest.raises(TaskNotPicklable, match="import path") as refused:
        RemoteCall(lambda: 1, (), (), LIMIT)
    assert refused.value.side == "arguments"


def test_what_can_not_be_pickled_is_named_by_its_path() -> None:
    with pytest.raises(TaskNotPicklable) as arguments:
        RemoteCall(tasks.echo, ({"session": tasks.make_session()},), (), LIMIT)
    assert arguments.value.path.startswith("args[0]['session']")
    with pytest.raises(TaskNotPicklable) as result:
        there(tasks.make_session)
    assert result.value.side == "result"
    assert result.value.path.startswith("result.")


def test_a_function_that_the_node_does_not_have_is_said_to_be_missing() -> None:
    call = RemoteCall(tasks.double, (1,), (), LIMIT)
    _, error, _ = NodeCall("tests.no_such_module:double", LIMIT)(call.pickled)
    assert error is not None
    with pytest.raises(TaskNotPicklable, match="same code installed on the node"):
        raise decode_error(error)


def test_a_job_is_allowed_or_refused_by_the_function_that_it_calls() -> None:
    job = JobCall("tests.tasks:double", *encode(((4,), {}), "arguments", may_pickle=False), may_pickle=False)
    call = RemoteCall(job, (), (), 10_000)
    assert call.spec == {"job": "tests.tasks:double"}
    assert AllowList(["tests.tasks"]).check(call.spec) == "tests.tasks:double"
    with pytest.raises(Refused, match=r"does not run tests\.tasks:double"):
        AllowList(["lifepool"]).check(call.spec)
    value, error, _ = NodeCall(call.spec, 10_000)(call.pickled)
    assert error is None
    assert value is not None
    assert pickle.loads(value) == encode(8, "result", may_pickle=False)
