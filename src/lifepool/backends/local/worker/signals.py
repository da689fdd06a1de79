"""Keep signals under control in the template and in workers: what imported code has set must not end or deafen them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

from lifepool._host.forks import at_fork

if TYPE_CHECKING:
    from collections.abc import Callable

#: Sent to break off a task. Tasks may use any other signal.
INTERRUPT = signal.SIGUSR2

#: The server's business: it drains or reloads, and then lets its workers go.
_OF_THE_SERVER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")

_Handlers = dict[int, Any]


@cache
def to_main_thread() -> Callable[[int, int], object]:
    """Return what sends a signal to the main thread of another process: called with its pid and the signal.

    The main thread is where Python handles signals, and the wait of a task there is to end. A signal for the whole
    process may be taken by any thread, on Linux by one that just starts another: the task would wait on.
    """
    if sys.platform != "linux":
        return os.kill
    try:
        import ctypes

        tgkill: Callable[..., int] = ctypes.CDLL(None, use_errno=True).tgkill
    except (ImportError, OSError, AttributeError):  # such as musl's
        return os.kill
    return lambda pid, number: tgkill(pid, pid, number)


def ignore(_signum: int, _frame: object) -> None:
    """Ignore a signal. Not ``SIG_IGN``, which programs started by a task would inherit."""


def calm_signals() -> None:
    """Undo what imported code did to signals, as far as this process depends on them.

    Ctrl-C, SIGTERM and SIGHUP are ignored, a write to a closed pipe is an error and not the end, no timer of the import
    goes off later, and no signal that we need is blocked, also if the server had blocked it.
    """
    for number in _OF_THE_SERVER:
        signal.signal(number, ignore)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.set_wakeup_fd(-1)
    for timer in _TIMERS:
        if hasattr(signal, timer):
            signal.setitimer(getattr(signal, timer), 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {INTERRUPT, signal.SIGCHLD, *_OF_THE_SERVER})


def suspend_handlers() -> _Handlers:
    """Have this process ignore what imported code handles, and return those handlers, for its workers.

    They were written for a program that works, not for a template: one that exits or raises would end every worker.
    """
    suspended: _Handlers = {}
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        is_set = callable(handler) and handler is not ignore and handler is not signal.default_int_handler
        if is_set or (number == signal.SIGCHLD and handler == signal.SIG_IGN):  # else no child's end is reported
            suspended[number] = handler
            signal.signal(number, ignore)
    return suspended


def restore_handlers(handlers: _Handlers) -> None:
    """Set handlers as they were."""
    for number, handler in handlers.items():
        with contextlib.suppress(ValueError, OSError):
            signal.signal(number, handler)


def give_signals_back_in_forks(meanwhile: Callable[[], None]) -> None:
    """Let what belongs to the server end the processes again that this one forks: those are no workers.

    A signal may come right after the fork, such as the SIGTERM by which ``multiprocessing`` ends a process. It must not
    be lost to the handler that was inherited, so it waits until that is gone.

    Args:
        meanwhile: Called in the forked process before such a signal gets through.
    """
    blocked = threading.local()  # of the thread that forks; ``before`` is what it had blocked

    def before_fork() -> None:
        blocked.before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_SERVER)

    def in_parent() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked.before)

    def in_child() -> None:
        meanwhile()
        _give_back()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked.before)

    at_fork(before=before_fork, in_parent=in_parent, in_child=in_child)


def _give_back() -> None:
    for number in _OF_THE_SERVER:
        if signal.getsignal(number) is ignore:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
