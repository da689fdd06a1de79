"""Read what an object holds, without running its code: no properties, no ``__getattr__``."""

from __future__ import annotations

import sys
from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterator

Field = MemberDescriptorType | GetSetDescriptorType


def own_dict(value: object) -> dict[str, Any]:
    """Return its ``__dict__``; empty if it has none."""
    try:
        if issubclass(type(value), BaseException):
            found = BaseException.__dict__["__dict__"].__get__(value)
        else:
            found = object.__getattribute__(value, "__dict__")
    except BaseException:  # it has none, or a property of that name
        return {}
    return found if type(found) is dict else {}


def mro_of(cls: type) -> tuple[type, ...]:
    """Return the class and its bases, whatever its metaclass says."""
    found: tuple[type, ...] = type.__dict__["__mro__"].__get__(cls)
    return found


def fields_of(cls: type) -> Iterator[tuple[str, Field]]:
    """Yield where its classes keep values outside of the ``__dict__``: slots, and what built-in exceptions keep in C.

    What all exceptions have (``args``, ``__cause__``, ...) is left out.
    """
    for each in mro_of(cls):
        if each is object or each is BaseException:
            continue
        kinds = Field if issubclass(each, BaseException) else MemberDescriptorType
        for name, field in type.__dict__["__dict__"].__get__(each).items():
            if isinstance(field, kinds) and not (name.startswith("__") and name.endswith("__")):
                yield name, field


def held(value: object) -> Iterator[tuple[str, Any]]:
    """Yield the names and values of all that."""
    yield from list(own_dict(value).items())
    for name, field in fields_of(type(value)):
        try:
            yield name, field.__get__(value)
        except Exception:  # noqa: S112 - an unset slot
            continue


def add_note(error: BaseException, note: str) -> None:
    """Add a note to the error, also if its class refuses to have attributes set, as frozen dataclasses do."""
    notes = own_dict(error).setdefault("__notes__", [])
    if type(notes) is list:
        notes.append(note)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return a function's signature, without evaluating its annotations.

    Since Python 3.14 annotations are code that runs when somebody asks for them. They may name what is imported for
    type checkers alone.

    Raises:
        ValueError: If it has no signature, as some functions in C.
        TypeError: If it can't be called.
    """
    import inspect  # takes long to import, and workers hardly need it

    if sys.version_info >= (3, 14):
        from annotationlib import Format

        return inspect.signature(function, annotation_format=Format.FORWARDREF)
    return inspect.signature(function)
