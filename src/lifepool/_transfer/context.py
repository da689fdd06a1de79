"""Propagate context with a call into the worker: named context variables, and what hooks send along.

Every call of a user's function runs in a copy of the context that its process had before: nothing has to be set back
afterwards and nothing can be left behind for the next call, not even when the task is interrupted half-way. What the
initializer has set is in all of them.
"""

from __future__ import annotations

import contextvars
import functools
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from lifepool._transfer.reference import import_by_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

#: The name of the context variable in which ``decimal`` keeps its context.
_DECIMAL = "decimal_context"


class PropagatedContext(Protocol):
    """What goes along with a task into the worker; it is pickled with the arguments.

    If it can't be pickled its hook is disabled, and the task goes without it.
    """

    def restore(self) -> None:
        """Set context variables: called in the worker before the function, in a fresh context of that call.

        What it raises is logged in the worker, and the function is called all the same.
        """


class WithContext(NamedTuple):
    """Arguments, and the context that is propagated with them."""

    args: tuple[Any, ...]
    propagated: tuple[PropagatedContext, ...]


def call(fn: Callable[..., Any], arguments: tuple[Any, ...] | WithContext) -> Any:
    """Call a function; first set the context that was propagated with its arguments, if there is one."""
    if type(arguments) is WithContext:
        for item in arguments.propagated:
            if type(item) is ContextValues:
                item.restore()
            else:
                _restore(item)
        return fn(*arguments.args)
    return fn(*arguments)


def call_in_copy(fn: Callable[..., Any], arguments: tuple[Any, ...] | WithContext) -> Any:
    """Call a function in a copy of the present context: what it sets is gone when this returns."""
    return contextvars.copy_context().run(with_own_decimals(call), fn, arguments)


def with_own_decimals(fn: Callable[..., T]) -> Callable[..., T]:
    """Wrap a function that is going to run in copies of the present context, if they would share what is in them.

    A copy has the same objects. That matters for one of the standard library: ``decimal.getcontext().prec = 6`` changes
    the object, which is there as soon as anybody has made a ``Decimal``. With this each copy gets its own.
    """
    if any(variable.name == _DECIMAL for variable in contextvars.copy_context()):
        return functools.partial(_with_own_decimals, fn)
    return fn


def _with_own_decimals(fn: Callable[..., T], *args: Any) -> T:
    import decimal

    decimal.setcontext(decimal.getcontext().copy())
    return fn(*args)


def _restore(item: PropagatedContext) -> None:
    """Restore what a hook has propagated; if that fails, log it: it is the hook's mistake, and hurts no task."""
    try:
        item.restore()
    except Exception:
        import logging

        logging.getLogger("lifepool").exception("what the hook's %s brought could not be restored", type(item).__name__)


class ContextValues:
    """The values that some context variables have now, to be set in a worker.

    Args:
        values: By the name of the variable, as in ``"package.module:variable"``. Variables without a value are left
            out.
    """

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __reduce__(self) -> tuple[Any, ...]:
        return (ContextValues, (self._values,))

    def restore(self) -> None:
        """Set the variables."""
        for name, value in self._values.items():
            _variable(name).set(value)


class Carrier:
    """Take the values of chosen variables when a task is submitted.

    Args:
        variables: Context variables, or names as in ``"package.module:variable"``.

    Raises:
        ValueError: If a variable can't be found where workers could find it.
        TypeError: If what is found is no context variable.
    """

    def __init__(self, variables: Sequence[contextvars.ContextVar[Any] | str]) -> None:
        names = [each if isinstance(each, str) else _name_of(each) for each in variables]
        self._variables = [(name, _variable(name)) for name in names]

    def pack(self) -> ContextValues | None:
        """Return the variables' values now; None if none has one."""
        unset = self
        values = {name: value for name, variable in self._variables if (value := variable.get(unset)) is not unset}
        return ContextValues(values) if values else None


def _variable(name: str) -> contextvars.ContextVar[Any]:
    module, _, path = name.partition(":")
    variable = import_by_name(module, path)
    if not isinstance(variable, contextvars.ContextVar):
        raise TypeError(f"carry_context: {name!r} is a {type(variable).__name__}, not a ContextVar")
    return variable


def _name_of(variable: contextvars.ContextVar[Any]) -> str:
    """Return the name under which a module has this variable, which does not know it itself."""
    for module_name, module in list(sys.modules.items()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return f"{module_name}:{name}"
    raise ValueError(
        f"carry_context: {variable!r} is not a global of any module, so a worker could not find it; "
        "make it one, or name it as 'package.module:variable'"
    )
