from __future__ import annotations

import functools
import math
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference, resolve

if TYPE_CHECKING:
    from collections.abc import Callable


def hidden(function: Callable[[int], int]) -> Any:
    """As ``@pool.task`` does: something else takes the function's name and keeps the function."""

    @functools.wraps(function)
    def wrapper(_: int) -> int:
        raise AssertionError("the wrapper was called")

    return wrapper


@hidden
def double(number: int) -> int:
    return 2 * number


def triple(number: int, *, plus: int = 0) -> int:
    return 3 * number + plus


class Tools:
    @staticmethod
    def square(number: int) -> int:
        return number * number


def test_pickle_alone_refuses_a_function_whose_name_was_taken() -> None:
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(double.__wrapped__)


def test_a_reference_travels_all_the_same_and_is_the_plain_function_there() -> None:
    arrived = pickle.loads(pickle.dumps(Reference(double.__wrapped__)))
    assert arrived is double.__wrapped__
    assert arrived(4) == 8


def test_a_function_without_a_decorator_travels_too() -> None:
    assert pickle.loads(pickle.dumps(Reference(triple))) is triple
    assert pickle.loads(pickle.dumps(Reference(Tools.square))) is Tools.square


def test_here_it_calls_the_function_with_all_that_it_is_given() -> None:
    assert Reference(double.__wrapped__)(4) == 8
    assert Reference(triple)(2, plus=1) == 7


def test_it_is_called_as_the_function_is() -> None:
    reference = Reference(triple)
    assert (reference.__name__, reference.__qualname__) == ("triple", "triple")
    assert name_of(reference) == "triple"


def test_what_a_worker_could_not_find_is_refused_with_advice() -> None:
    def local() -> None: ...

    for function in (local, lambda: None, functools.partial(triple, 1)):
        with pytest.raises(TypeError, match="define it at the top level of a module"):
            Reference(function)


def test_a_name_that_is_gone_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        resolve(__name__, "no_such_function")


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (triple, "triple"),
        (Tools.square, "Tools.square"),
        (functools.partial(triple, 1), "triple"),
        (functools.partial(functools.partial(triple, 1)), "triple"),
        (math.sqrt, "sqrt"),
        (Tools, "Tools"),
        (type("Callable", (), {"__call__": lambda self: None})(), "Callable"),
    ],
)
def test_a_call_is_known_by_its_functions_name(function: object, name: str) -> None:
    assert name_of(function) == name
