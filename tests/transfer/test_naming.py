"""What a task is called: the user's function, whatever it is wrapped in."""

from __future__ import annotations

import functools
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._transfer.grouped import BatchFunction, Chunk
from lifepool._transfer.naming import name_of, names_of
from lifepool._transfer.reference import Reference
from tests import tasks

if TYPE_CHECKING:
    from collections.abc import Callable


class Model:
    def predict(self, value: int) -> int:
        return value

    def __call__(self, value: int) -> int:
        return value

    @staticmethod
    def fixed(value: int) -> int:
        return value


class HasFunc:
    """Is no partial, though it has a ``func``."""

    func = staticmethod(tasks.double)

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("fn", "name"),
    [
        (tasks.double, "double"),
        (len, "len"),
        (tasks.Point, "Point"),
        (Reference(tasks.double), "double"),
        (BatchFunction(tasks.double), "double"),
        (Chunk(tasks.double, 3), "double"),
        (Chunk(functools.partial(tasks.fail_for, bad=3), 3), "fail_for"),
        (functools.partial(tasks.double, 1), "double"),
        (functools.partial(Reference(tasks.double), number=1), "double"),
        (functools.partial(Model().predict, 1), "Model.predict"),
        (functools.lru_cache(tasks.double), "double"),
        (Model().predict, "Model.predict"),
        (Model.fixed, "Model.fixed"),
        ([].append, "list.append"),
        (Model(), "Model"),
        (functools.partial(Model()), "Model"),
        (lambda: 1, "<lambda>"),
        (HasFunc(), "HasFunc"),
    ],
)
def test_a_task_is_called_what_its_function_is_called(fn: Callable[..., Any], name: str) -> None:
    assert name_of(fn) == name
    assert names_of(fn)[0] == name


@pytest.mark.parametrize(
    ("count", "learned"),
    [(1, "double"), (2, "double x2"), (3, "double x4"), (4, "double x4"), (1000, "double x1024")],
)
def test_run_times_of_chunks_are_learned_by_their_size_and_apart_from_single_calls(count: int, learned: str) -> None:
    assert names_of(Chunk(tasks.double, count)) == ("double", learned)


def test_a_chunk_that_has_travelled_calls_the_same_function() -> None:
    arrived = pickle.loads(pickle.dumps(Chunk(tasks.double, 3)))
    assert arrived([1, 2], go_on=False).values == [2, 4]


@pytest.mark.parametrize("nonsense", [7, "", RuntimeError("no")])
def test_an_object_with_nonsense_for_a_name_is_called_by_its_class(nonsense: object) -> None:
    class Evasive:
        def __call__(self) -> None: ...

        def __getattr__(self, name: str) -> object:
            if isinstance(nonsense, Exception):
                raise nonsense
            return nonsense

    assert name_of(Evasive()).endswith("Evasive")
