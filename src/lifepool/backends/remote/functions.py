"""Name functions so that a node can look at the name before it imports anything, and call them by it.

A function travels as its import path, ``"package.module:name"``. What lifepool wraps around it, and what a ``partial``
binds, is told by a small structure around the path; the bound values travel with the arguments::

    "shop.prices:total"    {"partial": "shop.prices:total"}    {"chunk": {"partial": "shop.prices:total"}}
    {"job": "shop.prices:total"}
"""

from __future__ import annotations

import logging
import pickle
import sys
import time
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any

from lifepool._config.checks import ImportedFunction
from lifepool._transfer import constants
from lifepool._transfer.context import WithContext, call_in_copy
from lifepool._transfer.context import call as call_in_context
from lifepool._transfer.exceptions import PROTOCOL, encode_error, is_of_runner
from lifepool._transfer.grouped import BatchFunction, Chunk
from lifepool._transfer.naming import name_of
from lifepool._transfer.reference import Reference, resolve
from lifepool._usercode.attributes import add_note
from lifepool._usercode.display import reason_of
from lifepool._usercode.interrupts import is_from_signal
from lifepool.backends.local.codec.diagnosis import SEARCH_IN_WORKER_S, explain
from lifepool.errors import PayloadTooLarge, TaskNotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable

#: An import path, or what is around it: one key, one value.
Spec = str | dict[str, Any]
#: What partials bind, the outermost first.
Bound = list[tuple[tuple[Any, ...], dict[str, Any]]]

_BY_PATH_HINT = "a cluster calls functions by their import path: define it at the top level of a module that nodes have"
_BY_NAME = (FunctionType, BuiltinFunctionType, type)
_PARTIAL, _CHUNK, _BATCH, _JOB = "partial", "chunk", "batch", "job"
#: What calls the function of a job; nodes import it by name, for jobs are built on pools and not the other way round.
_JOB_CALL = ("lifepool.jobs.calls", "JobCall")


# -- the web process -----------------------------------------------------------------------------------------------


class RemoteCall:
    """The payload of a call to a cluster.

    Args:
        fn: The function.
        args: Its arguments.
        propagated: Context that goes along.
        limit: Bytes that all of it may have.

    Attributes:
        spec: Names the function.
        pickled: The arguments, and what is bound to the function.

    Raises:
        TaskNotPicklable: If the function has no import path, or an argument can't be pickled.
        PayloadTooLarge: If it is above the limit.
    """

    __slots__ = ("pickled", "size", "spec")
    shared = False

    def __init__(self, fn: Any, args: tuple[Any, ...], propagated: tuple[Any, ...], limit: int) -> None:
        bound: Bound = []
        self.spec: Spec = _spec_of(fn, bound)
        args = tuple(map(constants.plain, args))
        try:
            self.pickled: bytes = pickle.dumps((bound, WithContext(args, propagated) if propagated else args), PROTOCOL)
        except BaseException as error:
            if is_from_signal(error):
                raise
            path, reason = explain(args, "args", error, (bound, "the function"), (propagated, "context"))
            raise TaskNotPicklable("arguments", path, reason) from error
        self.size: int = len(self.pickled)
        if self.size > limit:
            raise PayloadTooLarge("arguments", self.size, limit)


def _spec_of(fn: Any, bound: Bound) -> Spec:
    if isinstance(fn, partial):
        bound.append((tuple(map(constants.plain, fn.args)), {k: constants.plain(v) for k, v in fn.keywords.items()}))
        return {_PARTIAL: _spec_of(fn.func, bound)}
    if isinstance(fn, ImportedFunction):
        return fn.path
    if isinstance(fn, Chunk):
        return {_CHUNK: _spec_of(fn.function, bound)}
    if isinstance(fn, BatchFunction):
        return {_BATCH: _path_of(fn.__wrapped__)}
    if isinstance(fn, Reference):
        return _path_of(fn.__wrapped__)
    if (type(fn).__module__, type(fn).__name__) == _JOB_CALL:
        path, *rest = fn.parts()
        bound.append((tuple(rest), {}))
        return {_JOB: path}
    owner = getattr(fn, "__self__", None)
    if isinstance(fn, _BY_NAME) and isinstance(owner, (ModuleType, NoneType)):
        return _path_of(fn)
    if isinstance(fn, MethodType) and isinstance(owner, type):  # a class method
        return f"{_path_of(owner)}.{fn.__name__}"
    method = fn if owner is not None else type(fn).__call__
    bound.append(((fn if owner is None else owner,), {}))
    return {_PARTIAL: f"{_path_of(type(fn) if owner is None else type(owner))}.{method.__name__}"}


def _path_of(function: Any) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "<unknown>")
    if "<" in name:
        raise TaskNotPicklable("arguments", name_of(function), "it is local or a lambda", hint=_BY_PATH_HINT)
    if module == "__main__":
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        if spec is None:
            reason = "it is defined in the script that was started, which nodes do not have"
            raise TaskNotPicklable("arguments", name, reason, hint=_BY_PATH_HINT)
        module = spec.name
    return f"{module or 'builtins'}:{name}"


# -- the node ------------------------------------------------------------------------------------------------------


def path_in(spec: Spec) -> str:
    """Return the import path that a structure is around.

    Raises:
        ValueError: If it is no such structure.
    """
    while isinstance(spec, dict) and len(spec) == 1 and (key := next(iter(spec))) in (_PARTIAL, _CHUNK, _BATCH, _JOB):
        spec = spec[key]
    if not isinstance(spec, str) or spec.count(":") != 1:
        raise ValueError(f"{spec!r} names no function")
    return spec


#: What names an initializer, and its pickled arguments.
Setup = tuple[Spec, bytes]
#: A pickled value or an encoded error, and the seconds that the function ran.
Answer = tuple[bytes | None, bytes | None, float]


class NodeCall:
    """Make a call in a worker of the node's pool; to that pool it is called what the user's function is called.

    Args:
        spec: Names the function; the node has allowed it.
        limit: Bytes that the answer may have.
        setup: The call of the client's initializer, which each worker makes once before it makes others of that client;
            None if there is none.
        log_level: Below this level the client wants nothing of what the call logs; None: the node's own level.
    """

    __slots__ = ("__qualname__", "limit", "log_level", "setup", "spec")

    def __init__(self, spec: Spec, limit: int, setup: Setup | None = None, log_level: int | None = None) -> None:
        self.spec: Spec = spec
        self.limit: int = limit
        self.setup: Setup | None = setup
        self.log_level: int | None = log_level
        self.__qualname__ = path_in(spec).partition(":")[2]

    def __reduce__(self) -> tuple[object, ...]:
        return (NodeCall, (self.spec, self.limit, self.setup, self.log_level))

    def __call__(self, pickled: bytes) -> Answer:
        """Make it. What the user's code raises is in the answer."""
        run_s = 0.0
        _log_from(self.log_level)
        try:
            if self.setup is not None:
                _set_up(self.setup)
            fn, arguments = rebuilt(self.spec, pickled)
            started = time.perf_counter()
            value = call_in_copy(fn, arguments)
            run_s = time.perf_counter() - started
            return _packed(value, self.limit), None, run_s
        except BaseException as error:
            if is_of_runner(error):
                raise
            return None, encode_error(error, self.limit), run_s


class MovedCall:
    """Make a call that a cluster gave back, in a worker of the client's own pool: as if it had been sent there first.

    Args:
        spec: Names the function.
    """

    __slots__ = ("__qualname__", "spec")

    def __init__(self, spec: Spec) -> None:
        self.spec: Spec = spec
        self.__qualname__ = path_in(spec).partition(":")[2]

    def __reduce__(self) -> tuple[object, ...]:
        return (MovedCall, (self.spec,))

    def __call__(self, pickled: bytes) -> Any:
        """Make it."""
        return call_in_copy(*rebuilt(self.spec, pickled))


_root = logging.getLogger()
#: The level of the root logger as the node has set it, once a client has changed it.
_level_of_node: int | None = None


def _log_from(level: int | None) -> None:
    """Have this worker log from a level on; None: as its node has it. It costs something only if that changes."""
    global _level_of_node
    if level is None:
        level = _level_of_node
    elif _level_of_node is None:
        _level_of_node = _root.level
    if level is not None and level != _root.level:
        _root.setLevel(level)


#: The setups that this worker has made, by what they are.
_made: set[tuple[str, bytes]] = set()


def _set_up(setup: Setup) -> None:
    """Call the initializer of a client, if this worker has not done so; what it raises is the call's error."""
    spec, pickled = setup
    key = (repr(spec), pickled)
    if key in _made:
        return
    fn, arguments = rebuilt(spec, pickled)
    try:
        call_in_context(fn, arguments)
    except Exception as error:
        add_note(error, f"while the initializer {path_in(spec)} was being called on a node")
        raise
    _made.add(key)


def rebuilt(spec: Spec, pickled: bytes) -> tuple[Callable[..., Any], Any]:
    """Return the function that a structure names, and the arguments.

    Raises:
        TaskNotPicklable: If they can't be had here.
    """
    try:
        bound, arguments = pickle.loads(pickled)
        return _function(spec, iter(bound)), arguments
    except BaseException as error:
        if is_of_runner(error):
            raise
        reason = f"the node could not rebuild it: {reason_of(error)}"
        hint = "is the same code installed on the node, with the packages that it needs?"
        raise TaskNotPicklable("arguments", f"the call of {path_in(spec)}", reason, hint=hint) from error


def _function(spec: Spec, bound: Any) -> Callable[..., Any]:
    if isinstance(spec, str):
        module, _, name = spec.partition(":")
        return resolve(module, name)
    ((key, inner),) = spec.items()
    if key == _CHUNK:
        return Chunk(_function(inner, bound))
    if key == _BATCH:
        return BatchFunction(_function(inner, bound))
    args, keywords = next(bound)
    if key == _JOB:
        job_call: Any = resolve(*_JOB_CALL)
        rebuilt: Callable[..., Any] = job_call.of_parts(path_in(inner), *args)
        return rebuilt
    return partial(_function(inner, bound), *args, **keywords)


def _packed(value: object, limit: int) -> bytes:
    try:
        pickled = pickle.dumps(value, PROTOCOL)
    except BaseException as error:
        if is_of_runner(error):
            raise
        path, reason = explain(value, "result", error, search_s=SEARCH_IN_WORKER_S)
        raise TaskNotPicklable("result", path, reason) from error
    if len(pickled) > limit:
        raise PayloadTooLarge("result", len(pickled), limit)
    return pickled
