"""An exception there and back, and whether it is what it was."""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from lifepool._transfer.exceptions import RemoteTraceback, decode_error, encode_error


def carried(error: BaseException) -> BaseException:
    """Raise, encode and decode an exception."""
    try:
        raise error
    except BaseException as raised:
        return decode_error(encode_error(raised))


def assert_same(home: BaseException, error: BaseException, *, outermost: bool = True) -> None:
    """What people can see of the two is the same."""
    assert type(home) is type(error)
    assert str(home) == str(error)
    assert shown(home.args) == shown(error.args)
    assert {k: shown(v) for k, v in vars(home).items()} == {k: shown(v) for k, v in vars(error).items()}
    assert fields(home) == fields(error)
    assert not outermost or isinstance(home.__cause__, RemoteTraceback)
    if isinstance(error, BaseExceptionGroup) and isinstance(home, BaseExceptionGroup):
        for mine, its in zip(error.exceptions, home.exceptions, strict=True):
            assert_same(its, mine, outermost=False)


def fields(error: BaseException) -> dict[str, str]:
    """What built-in classes and slots keep outside of the ``__dict__``."""
    found = {}
    for cls in type(error).__mro__[:-2]:
        for name, field in vars(cls).items():
            if isinstance(field, (MemberDescriptorType, GetSetDescriptorType)) and not name.startswith("__"):
                found[name] = shown(getattr(error, name, "unset"))
    return found


def shown(value: Any) -> str:
    return repr(value)
