"""Start and end a pool: one small state machine, in which one start or end is under way at a time, whoever asks.

Theory of operation
    A start and an end are tasks of their own; whoever asks for one waits for it. So a caller that is cancelled can't
    leave one half done, two callers get the same one, and hooks are called once. From outside only this happens::

        CREATED -> STARTING -> RUNNING -> ENDING -> CLOSED -> STARTING ...

    A start that fails, that is given up, or whose last caller is cancelled goes to ENDING as well: there is one way to
    end a pool. A start that is asked for while the pool ends waits for the end.

    The end goes through all of its steps, however often it is cancelled: a cancellation makes it hurry, no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from lifepool._core.states import PoolState, moved
from lifepool._engine.drain_log import DrainLog, warn_of_lost_tasks
from lifepool._engine.failed_commands import CLOSE_HINT, forked_copy_error
from lifepool.backends.start_failures import is_scarce, why_not_started
from lifepool.errors import PoolClosed, WorkerStartError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from lifepool._engine.engine import Engine

logger = logging.getLogger("lifepool")

#: Seconds for killed workers to be reaped at the very end. A kill takes milliseconds; this bounds what can't be killed
#: (a process in uninterruptible sleep).
REAP_S = 5.0
#: Seconds for a backend to release what it has. Ours take a second at most; this bounds the backends of others.
RELEASE_S = 60.0
#: Seconds between two lines of the log that say what the end waits for.
REPORT_S = 5.0


#: What a pool says to other threads and event loops than its own.
ELSEWHERE = (
    "this pool belongs to another event loop: from a thread use pool.from_thread.run(fn, ...) for a task, "
    "and pool.from_thread.call(pool.drain) and the like for what else it can do"
)


class Phase(enum.Enum):
    """Where a pool is between its start and its end."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"
    CLOSED = "closed"


PHASES: dict[Phase, frozenset[Phase]] = {
    Phase.CREATED: frozenset({Phase.STARTING}),
    Phase.STARTING: frozenset({Phase.RUNNING, Phase.ENDING}),
    Phase.RUNNING: frozenset({Phase.ENDING}),
    Phase.ENDING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset({Phase.STARTING}),
}


class Owner(NamedTuple):
    """The pool, as its life cycle needs it.

    Attributes:
        label: Its name, for the log.
        make_engine: Makes an engine on the running event loop.
        has_started: Called when the pool is up, with how long that took.
        is_ending: Called when the pool is to end; what waits outside of the engine goes in now.
        has_ended: Called when everything is released.
    """

    label: str
    make_engine: Callable[[], Engine]
    has_started: Callable[[float], None]
    is_ending: Callable[[], None]
    has_ended: Callable[[], None]


class _Start:
    """A start that is under way.

    Attributes:
        task: It.
        waiting: How many wait for it.
        was_given: Whether one of them has gone on: then the pool is no longer the others' to take back.
    """

    __slots__ = ("task", "waiting", "was_given")

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task
        self.waiting = 0
        self.was_given = False


class Lifecycle:
    """Start and end the engines of a pool, one after the other.

    Args:
        owner: The pool.

    Attributes:
        engine: The one there is, or the last one there was.
        phase: Where the pool is.
    """

    def __init__(self, owner: Owner) -> None:
        self.engine: Engine | None = None
        self.phase: Phase = Phase.CREATED
        self._owner = owner
        self._loop: asyncio.AbstractEventLoop | None = None  # of the present life, or of the last one
        self._start: _Start | None = None  # while the pool starts
        self._end: asyncio.Task[None] | None = None  # while it ends
        self._drain_log: DrainLog | None = None  # likewise
        self._unclosed: weakref.finalize[Any, Lifecycle] | None = None  # logs tasks that are lost then
        self._pid = os.getpid()  # the process that it lives in

    @property
    def state(self) -> PoolState:
        """Return the phase in the public words."""
        if not self.is_alive:
            return PoolState.CREATED if self.phase is Phase.CREATED else PoolState.CLOSED
        state = PoolState.CREATED if self.engine is None else self.engine.state
        if self.phase is Phase.STARTING and state not in (PoolState.STARTING, PoolState.RUNNING):
            return PoolState.STARTING  # its engine, or what is below that, is not there yet
        if self.phase is Phase.ENDING and not state.is_ending:
            return PoolState.DRAINING  # it begins to; or it is broken, and its state changes no more
        return state

    @property
    def is_alive(self) -> bool:
        """Whether it has been started, and not everything is released yet."""
        return self.phase is not Phase.CREATED and self.phase is not Phase.CLOSED

    def is_elsewhere(self) -> bool:
        """Return whether the pool lives on an event loop that runs in another thread than the caller's."""
        loop = self._loop
        if not self.is_alive or loop is None or not loop.is_running():
            return False
        try:
            return asyncio.get_running_loop() is not loop
        except RuntimeError:
            return True

    def refusal(self) -> Exception:
        """Return the error for a caller who is not where the pool lives."""
        if self._is_forked():
            return forked_copy_error()
        if self._loop is not None and self._loop.is_closed():
            return PoolClosed("the pool's event loop was closed", hint=CLOSE_HINT)
        return RuntimeError(ELSEWHERE)

    @property
    def is_copy(self) -> bool:
        """Whether it lives in another process, of which this one is a forked copy."""
        return self.is_alive and self._is_forked()

    # -- start ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start, or wait for the start that is under way; a pool that runs is left as it is.

        Raises:
            RuntimeError: If it lives on another event loop.
            PoolClosed: If it was ended meanwhile.
            Exception: What the start failed with.

        Cancellation:
            Ends what was started, unless others wait for it too.
        """
        if self._is_forked():  # begin a life of its own here
            self.phase, self._start, self._end, self._loop = Phase.CREATED, None, None, None
        self._must_be_here()
        await self._end_is_over()
        if self.phase is Phase.RUNNING:
            return
        if self._start is None:
            self._move(Phase.STARTING)
            self._loop, self.engine, self._pid = asyncio.get_running_loop(), None, os.getpid()
            self._start = start = _Start(_task(self._bring_up()))
            start.task.add_done_callback(self._never_began)
        await self._wait_for(self._start)

    async def _wait_for(self, start: _Start) -> None:
        start.waiting += 1
        try:
            await asyncio.wait([start.task])
        except asyncio.CancelledError:
            if start.waiting == 1 and not start.was_given:
                await self.end(0)
            raise
        finally:
            start.waiting -= 1
        await self._end_is_over()  # it has failed: nothing of it is left when the caller hears of that
        if start.task.cancelled():
            raise _closed_meanwhile()
        start.task.result()
        start.was_given = True

    async def _bring_up(self) -> None:
        """Go through the start itself."""
        began = time.perf_counter()
        try:
            self.engine = engine = self._owner.make_engine()
            await engine.open()
            await asyncio.shield(engine.started)
            if self.phase is Phase.STARTING:
                self._start = None
                self._move(Phase.RUNNING)
                self._unclosed = weakref.finalize(
                    self, warn_of_lost_tasks, self._owner.label, engine.handles, self._pid
                )
                self._owner.has_started(time.perf_counter() - began)
                return
        except BaseException as error:
            self._start = None
            if self.phase is not Phase.ENDING:
                await self._through(self._begin_end(0))
                if is_scarce(error):  # before there was a worker to start: this process could not load what it needs
                    cause, hint = why_not_started(error, "getting ready for it failed")
                    raise WorkerStartError(cause, hint=hint) from error
                if not isinstance(error, asyncio.CancelledError):
                    raise
        raise _closed_meanwhile()  # and whoever ends it waits for this

    def _never_began(self, task: asyncio.Task[None]) -> None:
        """Fail a start that is cancelled before its first step (by the end of the event loop) like any other."""
        if task.cancelled() and self._start is not None and self._start.task is task:
            self._start = None
            self._begin_end(0)

    def give_up_start(self) -> None:
        """End the start that is under way: nobody needs it any more."""
        if self.phase is Phase.STARTING:
            self._begin_end(0)

    # -- end ------------------------------------------------------------------------------------------------------

    async def end(self, timeout: float) -> None:
        """Finish what is there within ``timeout`` seconds, then end; if that is under way, the new time limit holds.

        Raises:
            RuntimeError: If it lives on another event loop.

        Cancellation:
            Ends at once: what is not finished is cancelled. Returns when everything is released.
        """
        if self._is_forked():
            return  # it is the parent's to end
        self._must_be_here()
        end = self._begin_end(timeout)
        if end is None:
            return
        try:
            await asyncio.wait([end])
        except asyncio.CancelledError:
            self.hurry()
            raise
        finally:
            await self._through(end)

    def hurry(self) -> None:
        """Cancel what is not finished, if the pool ends."""
        if self.phase is Phase.ENDING and self.engine is not None:
            self.engine.request_close()

    def _begin_end(self, timeout: float) -> asyncio.Task[None] | None:
        """See that the pool ends; None if there is nothing to end."""
        if self.phase is Phase.ENDING:
            if self.engine is not None and self._start is None:
                self.engine.request_drain(timeout)  # whoever asks last, decides
        elif self.is_alive:
            self._move(Phase.ENDING)
            self._make_end(timeout)
        return self._end

    def _make_end(self, timeout: float) -> None:
        self._end = _task(self._wind_up(timeout))
        self._end.add_done_callback(self._begin_end_again)

    def _begin_end_again(self, task: asyncio.Task[None]) -> None:
        """Begin an end anew that was cancelled before its first step (by the end of the event loop)."""
        if task.cancelled() and self._end is task:
            self._make_end(0)

    async def _through(self, end: asyncio.Task[None] | None) -> None:
        """Wait for this end, whoever cancels: it is short from now on."""
        while end is not None:
            await _finished([end])
            self._begin_end_again(end)
            end = self._end if end.cancelled() else None

    async def _end_is_over(self) -> None:
        """Wait for the end that is under way, if there is one; can be cancelled."""
        while (end := self._end) is not None:
            self._begin_end_again(end)
            if self._end is end:
                await asyncio.wait([end])

    async def _wind_up(self, timeout: float) -> None:
        """Go through the end itself: every step is done, whatever becomes of the one before."""
        interrupt: BaseException | None = None
        for step in (
            self._send_the_rest,
            self._stop_starting,
            partial(self._drain, timeout),
            self._reap,
            self._release,
            self._log_end,
        ):
            try:
                await step()
            except (KeyboardInterrupt, SystemExit) as error:  # it came just here: a reason to hurry, not to leave
                interrupt = error
                self.hurry()
            except BaseException:  # nobody waits for the outcome, and the pool must not be stuck here
                logger.exception("pool %r: a step of its end went wrong", self._owner.label)
        self._has_ended()
        if interrupt is not None:
            raise interrupt

    async def _send_the_rest(self) -> None:
        self._owner.is_ending()

    async def _stop_starting(self) -> None:
        if self._start is not None:
            self._start.task.cancel()
            await _finished([self._start.task], REAP_S)
            self._start = None

    async def _reap(self) -> None:
        """Give every task its outcome, some in each turn of the loop, and wait until the workers are gone."""
        engine = self.engine
        if engine is None:
            return
        engine.request_close()
        left = len(engine.handles) + 1
        while not engine.closed.done() and len(engine.handles) < left:
            left = len(engine.handles)
            await _finished([engine.closed], REAP_S)

    async def _drain(self, timeout: float) -> None:
        """Wait until everything is done, the time is over, or this is cancelled."""
        engine = self.engine
        if engine is None:
            return
        log = self._drain_log = DrainLog(self._owner.label, engine, timeout)
        engine.request_drain(timeout)
        try:
            # Once it is closed it waits for outcomes and workers only: `_reap`, which has a bound.
            while not engine.closed.done() and engine.state is not PoolState.CLOSED:
                log.waits()
                await asyncio.wait([engine.closed], timeout=REPORT_S)
        except asyncio.CancelledError:
            return
        finally:
            engine.request_close()

    async def _release(self) -> None:
        """Have the backend release everything. It may be closed twice: also when the event loop cancels all tasks."""
        engine = self.engine
        if engine is None:
            return
        loop = engine.loop
        until = loop.time() + RELEASE_S
        closing = _task(engine.release())
        while (left := until - loop.time()) > 0:
            await _finished([closing], left)
            if not closing.cancelled():
                break
            closing = _task(engine.release())
        if not closing.done():
            closing.cancel()
            logger.error("pool %r: its backend did not close within %g s", self._owner.label, RELEASE_S)
        elif not closing.cancelled() and (error := closing.exception()) is not None:
            logger.error("pool %r: its backend could not be closed", self._owner.label, exc_info=error)

    async def _log_end(self) -> None:
        log, self._drain_log = self._drain_log, None
        if log is not None:
            log.ended()

    def _has_ended(self) -> None:
        self._start = self._end = None
        self._move(Phase.CLOSED)
        if self._unclosed is not None:
            self._unclosed.detach()
        try:
            self._owner.has_ended()
        except BaseException:
            logger.exception("pool %r: cleaning up after its end went wrong", self._owner.label)

    # -- inside ---------------------------------------------------------------------------------------------------

    def _move(self, phase: Phase) -> None:
        self.phase = moved(PHASES, self.phase, phase, "the pool's life")

    def _is_forked(self) -> bool:
        """Return whether this process is a forked copy of the one that the pool lives in."""
        return self._pid != os.getpid()

    def _must_be_here(self) -> None:
        """Refuse another event loop than the one the pool lives on; if that was closed, that life has ended."""
        loop = self._loop
        if not self.is_alive or loop is None or asyncio.get_running_loop() is loop:
            return
        if not loop.is_closed():
            raise self.refusal()
        if self._unclosed is not None:
            self._unclosed()
        if self.engine is not None:
            try:
                self.engine.abandon()
            except Exception:
                logger.exception("pool %r: its backend could not be released", self._owner.label)
        if self.phase is not Phase.ENDING:
            self._move(Phase.ENDING)
        self._has_ended()


def _task(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Make a task that begins in the next turn of the loop, also if the loop's own factory would begin it at once."""
    task = asyncio.Task(coroutine, loop=asyncio.get_running_loop())
    task.add_done_callback(lambda task: task.cancelled() or task.exception())  # also if nobody waits any more
    return task


async def _finished(futures: Sequence[asyncio.Future[None]], timeout: float | None = None) -> None:
    """Wait until all are done, or for so long. What is waited for here must be finished: this can't be cancelled."""
    loop = asyncio.get_running_loop()
    until = None if timeout is None else loop.time() + timeout
    while open_ones := [future for future in futures if not future.done()]:
        left = None if until is None else until - loop.time()
        if left is not None and left <= 0:
            return
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(open_ones, timeout=left)


def _closed_meanwhile() -> PoolClosed:
    return PoolClosed("the pool was closed while it started")
