"""Calls on the wire: the function, then its arguments, pickled separately.

A function is nearly always the same as before, so its bytes are made once here and read once there; what remains per
task is the arguments. (Apart, because one pickle of both would have to be made and read anew for each task.)
"""

from __future__ import annotations

import contextlib
import pickle
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any

from lifepool._core.framing import Kind
from lifepool._transfer import constants
from lifepool._transfer.context import WithContext
from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference
from lifepool._usercode.display import reason_of
from lifepool._usercode.interrupts import is_from_signal
from lifepool.backends.local.codec import unreachable
from lifepool.backends.local.codec.diagnosis import explain
from lifepool.backends.local.codec.large_text import LARGE, likely_bytes, placeholders
from lifepool.backends.local.codec.out_of_band import buffers_of, load_out_of_band
from lifepool.backends.local.codec.sink import PROTOCOL, TooLarge, dump, store_out_of_band
from lifepool.backends.local.codec.unreachable import is_of_main, misses_main
from lifepool.backends.local.shared.copying import FRESH_BYTES, PickleFile
from lifepool.errors import PayloadTooLarge, TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._transfer.constants import Constant
    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.local.shared.arena import Arguments, Lease
    from lifepool.backends.local.shared.files import Location
    from lifepool.backends.local.shared.store import Stored

#: Functions remembered on either side; past it the table starts anew. Far above what a service calls.
FUNCTIONS_KEPT = 1024

#: So many of them, the newest, are imported by a new worker before it is ready.
PRIMED = 64

#: Types pickled by reference: the same object always gives the same few bytes.
_BY_REFERENCE = (FunctionType, BuiltinFunctionType, Reference, type)


def _is_by_reference(fn: object) -> bool:
    """Return whether only a name is pickled. A method written in C, such as ``[].copy``, takes its object along."""
    if not issubclass(type(fn), _BY_REFERENCE):
        return False
    return isinstance(getattr(fn, "__self__", None), (ModuleType, NoneType))


#: By whether the arguments are in shared memory, and whether buffers are out of band.
_KINDS = {
    (False, False): int(Kind.TASK),
    (True, False): int(Kind.TASK_STORED),
    (False, True): int(Kind.TASK_OUT_OF_BAND),
    (True, True): int(Kind.TASK_VIEWED),
}
_TASK, _TASK_STORED, _TASK_OUT_OF_BAND = int(Kind.TASK), int(Kind.TASK_STORED), int(Kind.TASK_OUT_OF_BAND)


class Call:
    """A call ready for sending.

    Attributes:
        function: The pickled function.
        arguments: The pickled tuple of arguments, or where in shared memory it is.
        lease: Holds them there, or None. Who has sent the call keeps it until nobody can read them any more.
        kind: Of the frame that it is sent in.
        size: Bytes of both.
        shared: Whether the arguments go through shared memory.
        constants: What the worker must have, to rebuild it.
    """

    __slots__ = ("arguments", "constants", "function", "kind", "lease", "shared", "size")

    def __init__(
        self, function: bytes, arguments: bytes, lease: Lease | None = None, *, out_of_band: bool = False
    ) -> None:
        self.function: bytes = function
        self.arguments: bytes = arguments
        self.lease: Lease | None = lease
        self.shared: bool = lease is not None
        self.constants: tuple[Constant, ...] = ()
        self.kind: int = _KINDS[lease is not None, out_of_band]
        if lease is not None:
            lease.is_viewed = out_of_band
        self.size: int = len(function) + (len(arguments) if lease is None else lease.stored.size)


class CallEncoder:
    """Pickles calls on the server's side.

    Args:
        max_payload: Calls above this many bytes are refused.
        shared: Where big arguments go; None sends them like all others.
        has_main: Whether workers can import ``__main__``.
    """

    def __init__(self, max_payload: int, shared: Arguments | None = None, *, has_main: bool = True) -> None:
        self._max_payload = max_payload
        self._shared = shared
        self._has_main = has_main
        self._known: dict[object, bytes] = {}

    def known_functions(self) -> tuple[bytes, ...]:
        """Return the functions called so far, pickled: what a new worker will soon be asked for."""
        return tuple(self._known.values())[-PRIMED:]

    def encode(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        size: int | None = None,
        *,
        copy: bool = True,
    ) -> Call:
        """Pickle a call.

        Args:
            fn: The function.
            args: Its arguments.
            propagated: What goes along with them.
            size: About how many bytes the arguments have, if that is known.
            copy: False: the worker gets read-only views of buffers, rather than copies.

        Raises:
            TaskNotPicklable: Naming the part that can't be.
            PayloadTooLarge: If it is above the limit.
        """
        if not constants.in_use:
            return self._encode(fn, args, propagated, size, copy=copy)
        needed: dict[int, Constant] = {}
        with constants.collected(needed):
            call = self._encode(fn, args, propagated, size, copy=copy)
        for constant in needed.values():
            self._check(constant)
        call.constants = tuple(needed.values())
        return call

    def _check(self, constant: Constant) -> None:
        try:
            size = len(constant.pickled())
        except BaseException as error:
            raise _refusal(error, (constant.value, "constant")) from error
        if size > self._max_payload:
            raise PayloadTooLarge("arguments", size, self._max_payload)

    def _encode(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...],
        size: int | None,
        *,
        copy: bool,
    ) -> Call:
        function = self.function(fn)
        try:
            parts = args
            if copy and size is not None and size >= LARGE:
                parts = placeholders(args)
                size = likely_bytes(parts, size)
            limit = self._max_payload - len(function)
            try:
                pickled = self._pickled_arguments(parts, args, propagated, size, limit, copy=copy)
            except TooLarge:
                if parts is args:
                    raise
                # The limit counts what pickle makes, which may be less.
                pickled = self._pickled_arguments(args, args, propagated, size, limit, copy=copy)
        except TooLarge as error:
            raise PayloadTooLarge("arguments", len(function) + error.size, self._max_payload) from None
        except BaseException as error:
            raise _refusal(error, (args, "args"), (propagated, "context")) from error
        if isinstance(pickled, bytes):
            return Call(function, pickled, out_of_band=not copy)
        assert self._shared is not None  # noqa: S101 - or it would not be there
        lease = self._shared.lend(pickled)
        return Call(function, lease.location(), lease, out_of_band=not copy)

    def _pickled_arguments(
        self,
        parts: tuple[Any, ...],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...],
        size: int | None,
        limit: int,
        *,
        copy: bool,
    ) -> bytes | Stored:
        value = WithContext(parts, propagated) if propagated else parts
        if copy:
            return dump(value, args, self._shared, limit, size)
        return store_out_of_band(value, size or 0, self._shared, limit)

    def pickled(self, propagated: tuple[PropagatedContext, ...]) -> Any:
        """PropagatedContext as it is now, for a pickle that is made later or in another thread.

        Raises:
            TaskNotPicklable: If it can't be pickled.
        """
        try:
            return _Pickled(pickle.dumps(propagated, PROTOCOL))
        except BaseException as error:
            raise _refusal(error, (propagated, "context")) from error

    def function(self, fn: Callable[..., Any]) -> bytes:
        """Pickle a function.

        Raises:
            TaskNotPicklable: If it can't be pickled.
        """
        try:
            known = self._known.get(fn)
        except BaseException as error:  # not hashable
            if is_from_signal(error):
                raise
            known = None
        if known is not None:
            return known
        try:
            pickled = pickle.dumps(fn, PROTOCOL)
        except BaseException as error:
            hint = unreachable.OTHER_MAIN_HINT if unreachable.is_of_other_main(fn) else None
            raise _refusal(error, (fn, "the function"), hint=hint) from error
        if not self._has_main and is_of_main(fn):
            raise TaskNotPicklable("arguments", name_of(fn), unreachable.TYPED, hint=unreachable.TYPED_HINT)
        if _is_by_reference(fn):
            if len(self._known) >= FUNCTIONS_KEPT:
                self._known.clear()
            self._known[fn] = pickled
        return pickled


class _Pickled:
    """What is pickled already; unpickled, it is what it was made of."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __reduce__(self) -> tuple[object, ...]:
        return (pickle.loads, (self._data,))


def _refusal(error: BaseException, *parts: tuple[object, str], hint: str | None = None) -> BaseException:
    """Make the error for what could not be pickled: one of these parts, with their names.

    Whatever an object raises when it is pickled is that task's error. A Ctrl-C that struck just then is not.
    """
    if is_from_signal(error):
        return error
    (value, path), *others = parts
    path, reason = explain(value, path, error, *others)
    return TaskNotPicklable("arguments", path, reason, hint=hint)


class CallDecoder:
    """Unpickles calls on the worker's side.

    Args:
        shared: Where big arguments are.
        view: Gives the part that a frame names as a read-only view, for as long as it is in use.
        seek_main: Called when a call names what ``__main__`` does not have: imports it, if it was left for that, and
            returns a hint, or None if it is worth trying again.
    """

    def __init__(
        self,
        shared: Location | None = None,
        view: Callable[[int, memoryview], memoryview] | None = None,
        seek_main: Callable[[], str | None] | None = None,
    ) -> None:
        self._shared = shared
        self._view = view
        self._seek_main = seek_main
        self._known: dict[bytes, Callable[..., Any]] = {}

    def prime(self, functions: tuple[bytes, ...]) -> None:
        """Import functions before they are called. One that can't be is reported by the first task that calls it."""
        for pickled in functions:
            with contextlib.suppress(BaseException):
                self._known[pickled] = pickle.loads(pickled)

    def decode(
        self, payload: memoryview, function_length: int, *, kind: int = _TASK, task: int = 0
    ) -> tuple[Callable[..., Any], tuple[Any, ...] | WithContext]:
        """Return the function and its arguments, for ``lifepool._transfer.context.call``.

        Args:
            payload: What the frame holds.
            function_length: How much of it is the function.
            kind: Of the frame: it tells what the rest is.
            task: The task's number.

        Raises:
            TaskNotPicklable: If this process can't rebuild them.
        """
        pickled = bytes(payload[:function_length])
        try:
            fn = self._known.get(pickled)
            if fn is None:
                fn = pickle.loads(pickled)
                # A function that is a value (a partial, an instance) must be fresh each time: it may carry state.
                if _is_by_reference(fn):
                    if len(self._known) >= FUNCTIONS_KEPT:
                        self._known.clear()
                    self._known[pickled] = fn
            return fn, self._arguments(payload[function_length:], kind, task)
        except BaseException as error:
            hint: str | None = unreachable.REBUILT_HINT
            if self._seek_main is not None and misses_main(error):
                hint = self._seek_main()
                if hint is None:
                    return self.decode(payload, function_length, kind=kind, task=task)
            raise TaskNotPicklable(
                "arguments", "the call", f"the worker could not rebuild it: {reason_of(error)}", hint=hint
            ) from error

    def _arguments(self, rest: memoryview, kind: int, task: int) -> Any:
        if kind == _TASK:
            return pickle.loads(rest)
        if kind == _TASK_STORED:
            assert self._shared is not None  # noqa: S101 - the server has told us where it is
            with self._shared.part(rest) as arguments:
                return _loads(arguments)
        if kind == _TASK_OUT_OF_BAND:
            return load_out_of_band(memoryview(bytes(rest)))
        assert self._view is not None  # noqa: S101 - as above
        return load_out_of_band(self._view(task, rest))


def _loads(pickled: memoryview) -> Any:
    """Unpickle; the largest pickles go into memory that is asked for in a better way."""
    if len(pickled) <= FRESH_BYTES:
        return load_out_of_band(pickled)
    file: Any = PickleFile(pickled)  # its reads are no bytes, which saves a copy
    return pickle.Unpickler(file, buffers=buffers_of(pickled)).load()
