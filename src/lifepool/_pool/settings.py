"""Give ``Pool`` the signature and the docstring that follow from the declaration of its settings."""

from __future__ import annotations

import inspect
import textwrap
from typing import TypeVar

from lifepool.config import describe_settings

C = TypeVar("C", bound=type)

_PLACEHOLDER = "        **settings: The settings of ``lifepool.config.PoolSettings``.\n"


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
        cls.__doc__ = cls.__doc__.replace(_PLACEHOLDER, _described())
    return cls


def _described() -> str:
    """Return the settings as the lines of a docstring."""
    return "".join(
        textwrap.fill(
            f"{each.name}: {each.meaning.replace('`', '``')}",
            120,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
        + "\n"
        for each in describe_settings()
    )
