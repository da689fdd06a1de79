"""Give ``Pool`` the signature and the docstring that follow from the declaration of its settings."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TypeVar

from lifepool.config import describe_settings

C = TypeVar("C", bound=type)

#: The line of the docstring that stands for all settings.
_PLACEHOLDER = re.compile(r"^( *)\*\*settings: .*\n", re.MULTILINE)


def takes_settings(cls: C) -> C:
    """Show each setting as an argument of its own, to ``help()`` and ``inspect.signature``.

    For type checkers the constructor has ``**settings: Unpack[PoolSettings]``: which settings were given is what the
    dict has, without a value of our own that stands for "not given".
    """
    kind = inspect.Parameter
    settings = [
        kind(each.name, kind.KEYWORD_ONLY, default=each.default, annotation=each.accepts)
        for each in describe_settings()
    ]
    parameters = [kind("self", kind.POSITIONAL_OR_KEYWORD), *settings]
    vars(cls)["__init__"].__signature__ = inspect.Signature(parameters, return_annotation=None)
    if cls.__doc__ is not None:  # it is with python -OO
        cls.__doc__ = _PLACEHOLDER.sub(_described, cls.__doc__)
    return cls


def _described(placeholder: re.Match[str]) -> str:
    """Return the settings as lines of a docstring, indented as it is: Python 3.13 takes the common indent away."""
    indent = placeholder[1]
    return "".join(
        textwrap.fill(
            f"{each.name}: {each.meaning.replace('`', '``')}",
            112 + len(indent),
            initial_indent=indent,
            subsequent_indent=indent + " " * 4,
            break_on_hyphens=False,
        )
        + "\n"
        for each in describe_settings()
    )
