"""What a setting may be: a value from code becomes the setting's own type, or is refused.

Each check returns the value in the setting's own type, or raises TypeError or ValueError; ``lifepool.config`` says in
the error what was expected. Each parser turns the text of an environment variable into a value for a check.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex, cast

if TYPE_CHECKING:
    from collections.abc import Callable


def whole_from(least: int) -> Callable[[object], int]:
    """Return a check for whole numbers from ``least`` on."""

    def check(value: object) -> int:
        if isinstance(value, bool):  # an int to Python, a mistake to everybody else
            raise TypeError
        number = operator.index(cast("SupportsIndex", value))  # numpy's integers too, floats not
        if number < least:
            raise ValueError
        return number

    return check


def seconds(value: object) -> float:
    """Check a duration above 0."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError
    number = float(value)
    if not 0 < number < math.inf:  # NaN compares false and is refused as well
        raise ValueError
    return number


def seconds_or_zero(value: object) -> float:
    """Check a duration that may be 0."""
    return 0.0 if value == 0 and not isinstance(value, bool) else seconds(value)


_UNITS: dict[str, int] = {
    "": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate(["", *"KMGT"])},
    **{f"{letter}IB": 1024**power for power, letter in enumerate("KMGT", start=1)},
}


def size_from(least: int) -> Callable[[object], int]:
    """Return a check for sizes from ``least`` bytes on, as numbers or texts such as ``512MiB``."""
    check = whole_from(least)
    return lambda value: check(_bytes(value) if isinstance(value, str) else value)


def _bytes(text: str) -> int:
    """Return the bytes of `512MiB`. A bare `512M` is refused: some tools mean 2**20, some 10**6."""
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)", text.strip())
    if match is None or match[2].upper() not in _UNITS:
        raise ValueError
    return round(float(match[1]) * _UNITS[match[2].upper()])


@dataclass(frozen=True, slots=True)
class ImportedFunction:
    """A function by its name, imported where and when it is called: in the worker.

    The server process never imports it, however heavy its module is; and a module may name one of its own functions
    while it is itself still being imported.

    Attributes:
        path: Its name, as in ``package.module:function``.
    """

    path: str

    def __call__(self, *args: object) -> object:
        """Import the function and call it."""
        import importlib

        module, _, name = self.path.partition(":")
        function = operator.attrgetter(name)(importlib.import_module(module))
        return function(*args)


_MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


def function(value: object) -> Callable[..., object]:
    """Check a function, or the name of one as in ``package.module:function``."""
    if isinstance(value, str):
        if not re.fullmatch(f"{_MODULE}:{_MODULE}", value.strip()):
            raise ValueError
        return ImportedFunction(value.strip())
    if not callable(value):
        raise TypeError
    return value


def arguments(value: object) -> tuple[Any, ...]:
    """Check positional arguments."""
    if not isinstance(value, (tuple, list)):
        raise TypeError
    return tuple(value)


def parse_json(text: str) -> object:
    """Parse JSON."""
    import json

    return json.loads(text)


def modules(value: object) -> tuple[str, ...]:
    """Check names of modules; a text has them separated by commas."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, (tuple, list)) or not all(isinstance(name, str) for name in value):
        raise TypeError
    if not all(re.fullmatch(_MODULE, name) for name in value):
        raise ValueError
    return tuple(value)


def variables(value: object) -> tuple[Any, ...]:
    """Check context variables or their names; a text has names separated by commas."""
    if isinstance(value, str):
        value = [name.strip() for name in value.split(",") if name.strip()]
    if not isinstance(value, (tuple, list)) or not all(isinstance(each, (str, ContextVar)) for each in value):
        raise TypeError
    if not all(re.fullmatch(f"{_MODULE}:{_MODULE}", each) for each in value if isinstance(each, str)):
        raise ValueError
    return tuple(value)


def backend(value: object) -> object:
    """Check the name of a backend, or an object that may be one: the pool finds out when it uses it."""
    if isinstance(value, str):
        return line_of_text(value)
    if type(value).__module__ == "builtins":  # a number, None, or a class in place of an instance
        raise TypeError
    return value


def one_of(*texts: str) -> Callable[[object], str]:
    """Return a check for one of these texts."""

    def check(value: object) -> str:
        text = line_of_text(value)
        if text not in texts:
            raise ValueError
        return text

    return check


def line_of_text(value: object) -> str:
    """Check one line of text that is not empty."""
    if not isinstance(value, str):
        raise TypeError
    if not value.strip() or not value.isprintable():
        raise ValueError
    return value.strip()
