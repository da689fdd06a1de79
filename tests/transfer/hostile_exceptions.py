"""Exceptions whose classes refuse whatever a class can refuse."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, NoReturn
from unittest.mock import Mock


def refuse(*_: object, **__: object) -> NoReturn:
    raise RuntimeError("refused")


def leave(*_: object, **__: object) -> NoReturn:
    sys.exit("left")


class RefusesAttributes(Exception):
    """No attribute can be set, not even those of the interpreter."""

    __setattr__ = refuse
    __delattr__ = refuse


class HidesAttributes(Exception):
    """What all exceptions have is a property here, and each raises."""

    __cause__: Any = property(refuse, refuse)
    __context__: Any = property(refuse, refuse)
    __traceback__: Any = property(refuse, refuse)
    __notes__: Any = property(refuse, refuse)
    __dict__: Any = property(refuse, refuse)
    args: Any = property(refuse, refuse)


class RefusesTexts(Exception):
    __str__ = refuse
    __repr__ = refuse
    __format__ = refuse


class RefusesComparison(Exception):
    __eq__ = refuse
    __ne__ = refuse
    __hash__ = refuse
    __bool__ = refuse
    __len__ = refuse


class RefusesPickle(Exception):
    __reduce__ = refuse
    __reduce_ex__ = refuse


class RefusesState(Exception):
    def __init__(self) -> None:
        super().__init__()
        self.value = 1

    __setstate__ = refuse


class RefusesAccess(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("refused")


class AsksItself(Exception):
    def __getattr__(self, name: str) -> Any:
        return getattr(self, "another_" + name)


class RefusesConstruction(Exception):
    _made = False

    def __new__(cls) -> RefusesConstruction:
        if cls._made:
            raise RuntimeError("only one")
        cls._made = True
        return super().__new__(cls)


class LeavesOnPickle(Exception):
    __reduce__ = leave


class LeavesOnState(Exception):
    def __init__(self) -> None:
        super().__init__()
        self.value = 1

    __setstate__ = leave


class LeavesOnText(Exception):
    __str__ = leave


class LeavesOnClass(Exception):
    __class__: Any = property(leave)


class Meta(type):
    __name__: Any = property(refuse)
    __mro__: Any = property(refuse)
    __bases__: Any = property(refuse)
    __instancecheck__ = refuse
    __eq__ = refuse
    __hash__ = refuse
    __call__ = refuse


class OfAMetaclass(Exception, metaclass=Meta):
    pass


class BecomesAnother(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (Mock, (ValueError,))  # it says that it is one


class BecomesAClass(Exception):
    def __reduce__(self) -> tuple[object, ...]:
        return (getattr, (sys.modules["builtins"].__loader__, "nothing", ValueError))


@dataclass(frozen=True)
class Frozen(Exception):
    code: int = 3


@dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int = 3


HOSTILE: tuple[type[Exception], ...] = (
    RefusesAttributes, HidesAttributes, RefusesTexts, RefusesComparison, RefusesPickle, RefusesState, RefusesAccess,
    AsksItself, RefusesConstruction, LeavesOnPickle, LeavesOnState, LeavesOnText, LeavesOnClass, BecomesAnother,
    BecomesAClass, Frozen, FrozenSlots,
)  # fmt: skip


def raise_hostile(name: str) -> NoReturn:
    """Runs in a worker."""
    cls: Any = globals()[name]
    raise type.__call__(cls)


def load_frozen() -> NoReturn:
    raise Frozen
