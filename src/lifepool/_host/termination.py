"""Hear of SIGTERM and Ctrl-C when they come, not when the server has finished its connections.

A server ends the lifespan after the last connection is closed. A load balancer must know earlier that this instance is
going away, so readiness has to change at the signal itself. While the lifespan still begins, a server only notes the
signal and goes on starting: a pool whose workers take long to come up must hear of it to give up at once. And while the
pool drains, the server does not listen to a second signal.

Theory of operation
    Each watch puts a handler on top of the one that is there and passes on what it hears: the one below is the
    server's, and its way to a graceful shutdown. What was heard is the process's, so all watches share it: each signal
    is counted once, and all of them are notified before the first is passed on.

    With a delay, SIGTERM is *deferred*: readiness is red, the server does not know yet and goes on serving, and after
    the delay the signal is passed on. A signal that insists passes it on at once.

    Which second signal insists? Ctrl-C always does. A SIGTERM within a second of the first signal (five, in a process
    of ``uvicorn --workers``) does not: service managers signal all processes of a service, and a supervisor that got
    the signal, too, passes it on as SIGTERM.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

logger = logging.getLogger("lifepool")

_Previous = Callable[[int, FrameType | None], Any] | int | None

_SIGNALS = (signal.SIGTERM, signal.SIGINT)

#: Modules of the handlers that event loops install for ``loop.add_signal_handler``, as hypercorn uses it.
_EVENT_LOOPS = ("asyncio.", "uvloop.")

#: Seconds after the first signal in which a SIGTERM is taken for the same request, come by another way. uvicorn's
#: supervisor passes signals on every half second.
ECHO_S = 1.0
#: The same in a process that has a supervisor: on a busy machine that may take its time.
SUPERVISED_ECHO_S = 5.0


class TerminationWatch:
    """Notice SIGTERM and SIGINT and passes them on to whoever handled them before.

    Outside of the main thread signals can't be heard, and nothing is done.

    Attributes:
        terminating: Whether the process was asked to stop.
        insisted: Whether it was asked twice.
        delay: Seconds for which SIGTERM is deferred.
        is_ending: Whether what the process was asked to do is under way.
    """

    def __init__(self) -> None:
        self.terminating = False
        self.insisted = False
        self.delay = 0.0
        self._notify: Callable[[bool], object] = bool
        self.is_ending: Callable[[], bool] = bool
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handlers: list[_Handler] = []

    def install(
        self,
        notify: Callable[[bool], object],
        *,
        is_ending: Callable[[], bool] = bool,
        delay: float = 0.0,
        under_a_server: bool = False,
    ) -> None:
        """Start to listen. A server that installs its own handlers later than this must chain ours to be heard.

        Args:
            notify: Called on the running event loop after each signal, with whether it insists.
            is_ending: Whether the pool ends. A signal that nobody else handles, and that would end the process at once,
                waits for that.
            delay: Seconds for which SIGTERM is deferred before it is passed on.
            under_a_server: Listen only if somebody handles SIGTERM. Else there is nobody to end the program in good
                order, and nothing to hear.
        """
        self.terminating = self.insisted = False
        if self._handlers or threading.current_thread() is not threading.main_thread():
            return
        if under_a_server and not callable(signal.getsignal(signal.SIGTERM)):
            return
        if delay and getattr(signal.getsignal(signal.SIGTERM), "__module__", "").startswith(_EVENT_LOOPS):
            logger.warning(
                "shutdown_delay=%g has no effect: this server hears of SIGTERM from its event loop, where nobody can "
                "hold it. Delay the signal instead: in Kubernetes with a preStop hook", delay,
            )  # fmt: skip
        self._notify, self.is_ending, self.delay = notify, is_ending, delay
        self._loop = asyncio.get_running_loop()
        _process.join(self)
        self._handlers = [_Handler(self, number) for number in _SIGNALS]

    def uninstall(self) -> None:
        """Stop to listen; the handlers from before are put back unless somebody has put others on top."""
        if not self._handlers or threading.current_thread() is not threading.main_thread():
            return
        handlers, self._handlers = self._handlers, []
        _process.leave(self)
        for handler in handlers:
            handler.retire()
        for handler in handlers:
            if handler.is_due:
                signal.raise_signal(handler.number)

    def hear(self, *, insists: bool) -> None:
        """Note that the process was asked to stop. Called in a signal handler."""
        self.terminating = True
        self.insisted = self.insisted or insists
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._notify, insists)


class _Handler:
    """What is called at a signal, and who was called before. It outlives its watch if others were put on top of it."""

    __slots__ = ("is_due", "number", "previous", "watch")

    def __init__(self, watch: TerminationWatch, number: int) -> None:
        self.watch: TerminationWatch | None = watch
        self.number = number
        self.is_due = False  # it is to be passed on when the pool has ended
        self.previous: _Previous = signal.getsignal(number)
        signal.signal(number, self)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.watch is None or _process.is_passing_on:
            self.pass_on(frame)
        else:
            _process.heard(self, frame)

    def pass_on(self, frame: FrameType | None) -> None:
        """Call who was there before."""
        if callable(self.previous):
            self.previous(self.number, frame)
        elif self.previous == signal.SIG_DFL:
            if self.watch is not None and self.watch.is_ending():
                self.is_due = True  # a supervisor (hypercorn's) sends it to those that are not done yet: they drain
                return
            # Nobody was prepared: end as the signal would have ended us.
            signal.signal(self.number, signal.SIG_DFL)
            signal.raise_signal(self.number)

    def retire(self) -> None:
        """Stop watching and only pass signals on; uninstall the handler if nobody is on top."""
        self.watch = None
        on_top: object = signal.getsignal(self.number)
        if on_top is self:
            with contextlib.suppress(TypeError):  # the one before was not installed by Python
                signal.signal(self.number, self.previous)


class _Process:
    """What this process was asked to do, whichever watch noticed it."""

    def __init__(self) -> None:
        self.is_passing_on = False
        self._watches: list[TerminationWatch] = []
        self._first_at: float | None = None
        self._deferred: tuple[_Handler, asyncio.AbstractEventLoop] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def join(self, watch: TerminationWatch) -> None:
        """Have one more listen; the first one begins with nothing heard."""
        if not self._watches:
            self._first_at = None
        self._watches.append(watch)

    def leave(self, watch: TerminationWatch) -> None:
        """Have one less listen; what it still holds is passed on now."""
        self._watches.remove(watch)
        if self._deferred is not None and self._deferred[0].watch is watch:
            self._pass_on_deferred()

    def heard(self, handler: _Handler, frame: FrameType | None) -> None:
        """Take a signal that came to this handler, the one on top. Runs in the signal handler."""
        is_first = self._first_at is None
        if self._first_at is None:
            self._first_at = time.monotonic()
        elapsed = time.monotonic() - self._first_at
        insists = not is_first and (handler.number == signal.SIGINT or elapsed > _echo_s())
        for watch in list(self._watches):
            watch.hear(insists=insists and self._deferred is None)
        if self._deferred is not None:
            if insists:
                self._pass_on_deferred()
        elif not (is_first and handler.number == signal.SIGTERM and self._hold(handler)):
            self._pass_on(handler, frame)

    def _hold(self, handler: _Handler) -> bool:
        """Keep the signal for as long as the watches want; False if it is to be passed on at once."""
        delay = max(watch.delay for watch in self._watches)
        loop = None if handler.watch is None else handler.watch._loop
        if not delay or loop is None or not loop.is_running():
            return False
        self._deferred = (handler, loop)
        loop.call_soon_threadsafe(self._start_timer, delay)
        return True

    def _start_timer(self, delay: float) -> None:
        if self._deferred is not None:
            self._timer = self._deferred[1].call_later(delay, self._pass_on_deferred)

    def _pass_on_deferred(self) -> None:
        deferred, self._deferred = self._deferred, None
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if deferred is not None:
            self._pass_on(deferred[0], None)

    def _pass_on(self, handler: _Handler, frame: FrameType | None) -> None:
        self.is_passing_on = True
        try:
            handler.pass_on(frame)
        finally:
            self.is_passing_on = False


def _echo_s() -> float:
    multiprocessing: Any = sys.modules.get("multiprocessing.process")  # who was started by it has loaded it
    has_supervisor = multiprocessing is not None and multiprocessing.parent_process() is not None
    return SUPERVISED_ECHO_S if has_supervisor else ECHO_S


_process = _Process()
