"""Signals in the template and in workers: what imported code has set must not end or deafen them."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any

#: Sent to break off a task. Tasks may use any other signal.
INTERRUPT = signal.SIGUSR2

#: The server's business: it drains or reloads, and then lets its workers go.
_OF_THE_SERVER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TIMERS = ("ITIMER_REAL", "ITIMER_VIRTUAL", "ITIMER_PROF")

_Handlers = dict[int, Any]

_forking = threading.local()  # ``mask``: the signals that this thread had blocked before it forks


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


def set_handlers_aside() -> _Handlers:
    """Have this process ignore what imported code handles, and return those handlers, for its workers.

    They were written for a program that works, not for a template: one that exits or raises would end every worker.
    """
    aside: _Handlers = {}
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        is_set = callable(handler) and handler is not ignore and handler is not signal.default_int_handler
        if is_set or (number == signal.SIGCHLD and handler == signal.SIG_IGN):  # else no child's end is told
            aside[number] = handler
            signal.signal(number, ignore)
    return aside


def restore_handlers(handlers: _Handlers) -> None:
    """Set handlers as they were."""
    for number, handler in handlers.items():
        with contextlib.suppress(ValueError, OSError):
            signal.signal(number, handler)


def hold_signals() -> None:
    """Block what belongs to the server while this process forks.

    A child may be sent one before its handlers are those of an ordinary process: it would be ignored, and whoever has
    terminated the child would wait for it for ever.
    """
    _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_THE_SERVER)


def release_signals() -> None:
    """Let them through again, those that came meanwhile too."""
    signal.pthread_sigmask(signal.SIG_SETMASK, _forking.mask)


def give_signals_back() -> None:
    """Let what belongs to the server end this process again; for one that is no worker any more."""
    for number in _OF_THE_SERVER:
        if signal.getsignal(number) is ignore:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
