"""Turn calls into tasks: admit a call, make its payload, hand the task to the scheduler."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from lifepool._core import events as on
from lifepool._engine.handle import TaskHandle, TaskOwner
from lifepool._transfer.grouped import Chunk
from lifepool.backends.base import require_views
from lifepool.errors import PoolError
from lifepool.hooks import TaskRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from lifepool._engine.failure_log import FailureLog
    from lifepool._engine.hook_calls import Observation
    from lifepool._engine.options import TaskOptions
    from lifepool._transfer.context import Carrier, PropagatedContext
    from lifepool.backends.base import Backend, Capabilities, Payload


class Runner(TaskOwner, Protocol):
    """Whoever runs tasks, as their submission needs it: the engine.

    Attributes:
        observation: Calls the hooks; None while there are none.
        failures: Logs calls that can't be sent.
        handles: The handles of tasks without an outcome, by their numbers.
        clock: Monotonic seconds.
    """

    observation: Observation | None
    failures: FailureLog
    handles: dict[int, TaskHandle[Any]]
    clock: Callable[[], float]

    def admit(self, timeout: float | None, fair_key: str | None, name: str | None) -> None:
        """Raise what a task would be refused with now."""

    def feed(self, event: on.Event) -> None:
        """Have the scheduler decide about an event."""


class Place:
    """Where a task is to run: who admits it, and who makes its payload.

    Args:
        admit: Raises what a task would be refused with now.
        backend: Makes the payload.
        remote: Whether it is the cluster of a pool with two backends.
        can: What may be asked for; None: what the backend can do.
    """

    __slots__ = ("admit", "can", "prepare", "remote")

    def __init__(
        self,
        admit: Callable[[float | None, str | None, str | None], None],
        backend: Backend,
        *,
        remote: bool = False,
        can: Capabilities | None = None,
    ) -> None:
        self.admit: Callable[[float | None, str | None, str | None], None] = admit
        self.prepare: Callable[..., Payload | asyncio.Future[Any]] = backend.prepare
        self.can: Capabilities = can or backend.capabilities
        self.remote: bool = remote


class Submissions:
    """Make a task of each call, and numbers the tasks.

    Args:
        runner: Runs the tasks.
        backend: Makes their payloads.
        carrier: Packs the context variables that go along with tasks.

    Attributes:
        preparing: Payloads that are still being made, by the numbers of their tasks.
    """

    def __init__(self, runner: Runner, backend: Backend, carrier: Carrier | None) -> None:
        self.preparing: dict[int, asyncio.Future[Payload]] = {}
        self._runner = runner
        self._home = Place(runner.admit, backend)
        self._carrier = carrier
        self._last_task = 0

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        names: tuple[str, str],
        *,
        lent: bool = False,
    ) -> TaskHandle[Any]:
        """Queue a call. If its payload takes long to make, the task is in preparation until it is there.

        Args:
            fn: The function.
            args: Its arguments.
            options: How it is to be treated.
            names: What the task is called, and under which name its run time is learned.
            lent: Whether the arguments stay as they are until the task is done.

        Raises:
            PoolClosed: If the pool takes no tasks.
            QueueFull: If there is no room, or no hope of being in time.
            TaskNotPicklable: If the call can't be sent.
            PayloadTooLarge: If it is too large.
        """
        watch = self._runner.observation
        record = None
        if watch is not None and watch.of_tasks:
            record = TaskRecord(names[0], self._runner.clock(), options.timeout, options.priority, options.fair_key)
        try:
            return self._submit(fn, args, options, names, record, self._home, lent=lent)
        except PoolError as error:
            if record is not None and watch is not None:
                watch.refused(record, error)
            self._runner.failures.call_failed(names[0], error)
            raise

    def _submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        options: TaskOptions,
        names: tuple[str, str],
        record: TaskRecord | None,
        place: Place,
        *,
        lent: bool,
    ) -> TaskHandle[Any]:
        runner, timeout, (name, learned_as) = self._runner, options.timeout, names
        place.admit(None if options.is_admitted else timeout, options.fair_key, learned_as)
        if not options.copy:
            require_views(place.can)
        watch = runner.observation
        propagated: tuple[PropagatedContext, ...] = (
            () if record is None or watch is None else watch.propagated_with(record, args)
        )
        if self._carrier is not None and (values := self._carrier.pack()) is not None:
            propagated = (values, *propagated)
        if not propagated or watch is None or record is None:
            prepared = place.prepare(fn, args, propagated, lent=lent, copy=options.copy)
        else:
            prepared = _prepare_watched(place, fn, args, propagated, watch, lent=lent, copy=options.copy)
        self._last_task = number = self._last_task + 1
        if record is not None and watch is not None:
            record.id = number
            if watch.on_submitted:
                watch.notify(watch.on_submitted, record)
        payload = None if isinstance(prepared, asyncio.Future) else prepared
        handle: TaskHandle[Any] = TaskHandle(runner, number, name, payload, options.retry_on, abandon=options.abandon)
        handle._record = record
        runner.handles[number] = handle
        retries, priority, fair_key = options.retries, options.priority, options.fair_key
        preparing, firm = payload is None, type(fn) is Chunk  # a map waits before its chunks are admitted, not after
        runner.feed(
            on.TaskSubmitted(number, learned_as, priority, timeout, retries, fair_key, preparing, firm, place.remote)
        )
        if isinstance(prepared, asyncio.Future):
            self.wait_for(number, prepared)
        return handle

    def wait_for(self, task: int, prepared: asyncio.Future[Any]) -> None:
        """Report when a payload in preparation is ready."""
        self.preparing[task] = prepared
        prepared.add_done_callback(lambda prepared: self._prepared(task, prepared))

    def _prepared(self, task: int, payload: asyncio.Future[Payload]) -> None:
        """Report that a payload in preparation is ready or can't be made. Nobody wants a cancelled one."""
        handle = self._runner.handles.get(task)
        if payload.cancelled() or handle is None:
            return
        del self.preparing[task]
        handle._error = payload.exception()
        handle._payload = None if handle._error else payload.result()
        self._runner.feed(on.TaskPrepared(task, handle._error is None))


def _prepare_watched(
    place: Place,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    propagated: tuple[PropagatedContext, ...],
    watch: Observation,
    *,
    lent: bool,
    copy: bool,
) -> Payload | asyncio.Future[Payload]:
    """Prepare a call with propagated context: if that can't be pickled, it is a hook's mistake, not the call's."""
    try:
        prepared = place.prepare(fn, args, propagated, lent=lent, copy=copy)
        if not isinstance(prepared, asyncio.Future):
            return prepared
    except Exception:
        good = watch.without_unpicklable(propagated)
        if len(good) == len(propagated):
            raise
    else:  # it is pickled in a thread: look before that finds out
        good = watch.without_unpicklable(propagated)
        if len(good) == len(propagated):
            return prepared
        prepared.cancel()
    return place.prepare(fn, args, good, lent=lent, copy=copy)
