"""Make locks of ``multiprocessing`` that were made for forked processes ones that a new process can be given.

On Linux before Python 3.14, ``multiprocessing.Lock()`` makes a lock for copies of this process: it has no name by which
another process could find it. So the standard executor, whose processes are such copies there, can be given one as an
argument of its initializer (``tqdm.contrib.concurrent.process_map`` does that), and clean workers can't.

What is done about it
    The object stays, and gets another semaphore inside: one with a name, as those have that are made for new processes.
    Nobody may go on with the old one. So a lock that is held is left as it is, and so are all if this process has
    forked others that may have them: the pool refuses them when it starts, and says what to do instead.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

#: Objects that are looked at. Locks are not deep inside of large data.
MOST_OBJECTS = 10_000

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type, ModuleType, FunctionType, BuiltinFunctionType)


def make_sendable(arguments: object) -> None:
    """Give each lock in these arguments of an initializer a name, if it was made for forked processes."""
    if "multiprocessing.synchronize" not in sys.modules or _has_forked():
        return
    _Search().visit(arguments)


def _has_forked() -> bool:
    """Return whether this process has started copies of itself that may have a lock."""
    forked: Any = getattr(multiprocessing.context, "ForkProcess", ())
    return any(isinstance(child, forked) for child in multiprocessing.active_children())


class _Search:
    """Look for locks in an object and what it holds."""

    def __init__(self) -> None:
        self._seen: dict[int, object] = {}

    def visit(self, value: Any, *, is_part: bool = False) -> None:
        """Give the locks in it a name.

        Args:
            value: Anything.
            is_part: Whether it belongs to an object of ``multiprocessing``, which has no threads that wait for it.
        """
        if isinstance(value, _PLAIN) or id(value) in self._seen or len(self._seen) >= MOST_OBJECTS:
            return
        self._seen[id(value)] = value
        if isinstance(value, dict):
            self._visit_all(value.values())
        elif isinstance(value, (tuple, list, set, frozenset)):
            self._visit_all(value)
        elif isinstance(value, MethodType):
            self.visit(value.__self__)
        elif type(value).__module__.startswith("multiprocessing."):
            self._visit_part(value, is_part=is_part)
        else:
            self._visit_all(getattr(value, "__dict__", {}).values())

    def _visit_all(self, values: Any, *, are_parts: bool = False) -> None:
        for value in list(values):
            self.visit(value, is_part=are_parts)

    def _visit_part(self, value: Any, *, is_part: bool) -> None:
        from multiprocessing import queues, sharedctypes, synchronize

        if isinstance(value, synchronize.SemLock):
            if not _may_be_waited_for(value, is_part=is_part):
                _give_name(value)
            return
        if isinstance(value, queues.Queue) and vars(value)["_thread"] is not None:
            return  # it is in use: a thread here has its lock
        if isinstance(value, synchronize.Condition) and not vars(value)["_sleeping_count"]._semlock._is_zero():
            return  # somebody waits for it
        self._visit_all(getattr(value, "__dict__", {}).values(), are_parts=True)
        # These two keep methods of their lock.
        if isinstance(value, synchronize.Condition):
            vars(synchronize.Condition)["_make_methods"](value)
        elif isinstance(value, sharedctypes.SynchronizedBase):
            lock: Any = value.get_lock()
            value.acquire, value.release = lock.acquire, lock.release


def _may_be_waited_for(lock: Any, *, is_part: bool) -> bool:
    """Return whether somebody may hold it and another one wait for it, now."""
    from multiprocessing import synchronize

    if not lock._semlock._is_zero():
        return False
    return isinstance(lock, (synchronize.Lock, synchronize.RLock)) or (not is_part and threading.active_count() > 1)


def _give_name(lock: Any) -> None:
    from multiprocessing import synchronize

    if not getattr(lock, "_is_fork_ctx", False):
        return
    old = lock._semlock
    try:
        value = old._get_value()
    except NotImplementedError:  # macOS; its default is a context that makes them with names
        return
    context: Any = multiprocessing.get_context("spawn")
    synchronize.SemLock.__init__(lock, old.kind, value, old.maxvalue, ctx=context)
