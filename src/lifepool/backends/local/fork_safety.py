"""What a child that the server forks must not keep.

Workers live as long as somebody holds the other end of their pipes. A program may fork its server (``os.fork``, or
``multiprocessing`` with "fork"), and the child gets a copy of every descriptor: with the server killed, the template
would wait for the child, which knows nothing of it. So the child lets go, before anything else runs in it.

Descriptors that are just being made in another thread are not known yet: a fork waits until they are.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import Protocol

from lifepool._host.forks import at_fork

logger: logging.Logger = logging.getLogger("lifepool")

#: Held while descriptors are made that a child must not keep, and during a fork.
making: threading.RLock = threading.RLock()

#: Seconds a fork waits at most for descriptors that are being made; that takes some milliseconds.
_PATIENCE_S = 1.0


class Holder(Protocol):
    """Has descriptors that a forked child must not keep."""

    def let_go_in_child(self) -> None:
        """Close them, without a word to the event loop or to other processes: those belong to the parent."""


_holders: weakref.WeakSet[Holder] = weakref.WeakSet()
_forking = threading.local()  # ``holds``: whether this thread has waited with success


def register(holder: Holder) -> None:
    """Have it let go in every child that this process forks from now on."""
    _holders.add(holder)


def _before_fork() -> None:
    _forking.holds = making.acquire(timeout=_PATIENCE_S)


def _in_parent() -> None:
    if _forking.holds:
        making.release()


def _in_child() -> None:
    global making
    making = threading.RLock()
    holders = list(_holders)
    _holders.clear()
    for holder in holders:
        try:
            holder.let_go_in_child()
        except Exception:
            logger.exception("a forked child could not let go of something of the pool's")


at_fork(before=_before_fork, in_parent=_in_parent, in_child=_in_child)
