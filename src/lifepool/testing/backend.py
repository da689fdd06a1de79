"""Run tasks in the test's process, and end them as its script says."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from lifepool._transfer.grouped import BatchFunction, Chunk, run_batch
from lifepool._transfer.naming import name_of
from lifepool.backends.base import PlainCall
from lifepool.backends.inline import InlineBackend
from lifepool.hooks import Hook
from lifepool.testing.script import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._engine.engine import Engine
    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.base import Capabilities, Listener
    from lifepool.errors import PoolError
    from lifepool.hooks import TaskRecord
    from lifepool.testing.script import Answer, Call, Script


class ScriptedCall(PlainCall):
    """The payload of a scripted task.

    Attributes:
        calls: What was noted of it: one call, or one for each item.
    """

    __slots__ = ("calls",)
    calls: list[Call]


class ScriptedBackend(InlineBackend, Hook):
    """Workers without processes: each runs one call at a time, on the event loop, or does what the script says.

    It is a hook of its pool as well: that is how it learns of a call's options.

    Args:
        script: What the test said.
        initializer: Called once, when the first worker starts.
        initargs: Its arguments.
    """

    capabilities: Capabilities = replace(
        InlineBackend.capabilities, kill=True, interrupt=True, crash_isolation=True, max_workers=None
    )

    def __init__(
        self, script: Script, *, initializer: Callable[..., object] | None = None, initargs: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(initializer=initializer, initargs=initargs)
        self._script = script
        self._latest: list[Call] = []  # those of the call that is being made
        self._running: dict[int, tuple[int, Answer]] = {}  # worker -> task that waits for the script, and for what

    # -- life -----------------------------------------------------------------------------------------------------

    async def open(self, listener: Listener) -> None:
        """Remember the listener and its event loop, and follow the clock."""
        await super().open(listener)
        self._engine = cast("Engine", listener)
        self._script.clock.attach(self._loop, self._time_has_changed)

    def _time_has_changed(self) -> None:
        self._engine.time_has_changed()

    def start_worker(self, worker: int) -> None:
        """Run the initializer if this is the first worker: all of them are this process."""
        super().start_worker(worker)
        self._initializer = None

    def kill_worker(self, worker: int) -> None:
        """End the worker, and with it the call that it has."""
        self._forget(worker)
        super().kill_worker(worker)

    def abandon(self) -> None:
        """Let go of the clock."""
        self._script.clock.detach(self._time_has_changed)

    async def close(self) -> None:
        """Let go of the clock, and of calls that still wait."""
        self.abandon()
        for worker in tuple(self._running):
            self._forget(worker)

    def _forget(self, worker: int) -> None:
        _, answer = self._running.pop(worker, (0, None))
        if answer is not None and answer.pause is not None:
            answer.pause.give_up()

    # -- calls ----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> ScriptedCall:
        """Note the call, and refuse it if the script says so.

        Raises:
            QueueFull: If the script says so.
        """
        self._latest = self._script.note(fn, args)
        if (answer := self._script.answer_for(plain(fn), refusals=True)) is not None:
            self._engine.count_refused(1)
            assert answer.refusal is not None  # noqa: S101 - it was asked for one that has it
            raise answer.refusal
        call = ScriptedCall(fn, args, propagated)
        call.calls = self._latest
        return call

    def task_submitted(self, task: TaskRecord) -> None:
        """Note the options of the call that is being made."""
        for call in self._latest:
            call.timeout, call.priority, call.fair_key = task.timeout, task.priority, task.fair_key

    def task_refused(self, task: TaskRecord, error: PoolError) -> None:
        """Note the options of the call that was refused."""
        self.task_submitted(task)

    def send(self, worker: int, task: int, payload: PlainCall) -> None:
        """Run it now, or do what the script says."""
        answer = self._script.answer_for(plain(payload.fn), refusals=False)
        if answer is None:
            super().send(worker, task, payload)
        elif answer.replacement is not None:
            super().send(worker, task, _replaced(payload, answer.replacement))
        elif answer.exit is not None:
            self._listener.exited(replace(answer.exit, worker=worker))
        elif answer.pause is not None:
            self._running[worker] = task, answer
            if not answer.pause.hold(self._loop, lambda: self._go_on(worker, task, payload)):
                self._go_on(worker, task, payload)
        else:
            self._running[worker] = task, answer
            self._loop.call_soon(self._let_timeout_pass, worker, task, cast("ScriptedCall", payload))

    def interrupt(self, worker: int, task: int) -> None:
        """End a call that waits for the script: its timeout has passed, or it was cancelled."""
        if self._still_waits(worker, task):
            self._forget(worker)
            self._listener.returned(worker, task, None, InterruptedError("interrupted"), run_s=0.0)

    def _still_waits(self, worker: int, task: int) -> bool:
        return worker in self._running and self._running[worker][0] == task

    def _go_on(self, worker: int, task: int, payload: PlainCall) -> None:
        if self._still_waits(worker, task):
            del self._running[worker]
            super().send(worker, task, payload)

    def _let_timeout_pass(self, worker: int, task: int, payload: ScriptedCall) -> None:
        """Move the clock to where the task's timeout has passed; the engine does the rest."""
        if not self._still_waits(worker, task):
            return  # it was cancelled just now
        timeout = payload.calls[0].timeout if payload.calls else None
        if timeout is not None and timeout != float("inf"):
            self._script.clock.advance(timeout)
        if self._still_waits(worker, task):
            del self._running[worker]
            advice = "give the call one: pool.run(..., timeout=2.0), or Pool(timeout=2.0)"
            error = AssertionError(f"{name_of(payload.fn)} can't time out: it has no timeout. {advice}")
            self._listener.returned(worker, task, None, error, run_s=0.0)


def _replaced(payload: PlainCall, replacement: Callable[..., Any]) -> PlainCall:
    """Return the same call of another function; of many calls in one task, each of them."""
    fn = payload.fn
    other = PlainCall(replacement, ())
    if isinstance(fn, Chunk):
        other.fn = Chunk(replacement)
    elif isinstance(fn, BatchFunction):
        other.fn = functools.partial(run_batch, replacement)
    other.args = payload.args
    return other
