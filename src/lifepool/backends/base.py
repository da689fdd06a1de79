"""Define what a backend is: workers with slots, commands in, answers out. It decides nothing.

The engine calls the ``Backend``; the backend calls the ``Listener`` it was opened with. All calls happen on the event
loop's thread. A backend answers every ``start_worker`` with ``ready`` or ``exited``, every ``send`` with ``returned``
or, when the worker is gone, with ``exited``; it may do so at once, from within the call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lifepool._transfer import constants
from lifepool._transfer.context import WithContext
from lifepool._transfer.naming import ManyCalls
from lifepool.errors import BackendUnsupported

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from lifepool._core.events import (
        KeptViews,
        ReachChanged,
        TaskLost,
        TaskRefused,
        TasksTaken,
        WorkerExited,
        WorkerLoaded,
        WorkerLoading,
        WorkerResized,
    )
    from lifepool._transfer.context import PropagatedContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond running tasks; what it can't is refused or replaced, never ignored.

    Attributes:
        kill: A running task can be ended for sure, by ending its worker.
        interrupt: A running task can be sent an exception.
        retract: A task that was sent can be taken back as long as it has not started.
        progress: A running task can report how far it is.
        crash_isolation: A crash of one task leaves the others and the server alone.
        views: Arguments can be read-only views instead of copies (``copy=False``).
        logs: What tasks log reaches the server, for hooks that want it.
        own_processes: Workers are processes of this host that serve this pool alone: they start as few at a time as its
            CPUs need, and the event loop may stay awake for an answer that is likely to come at once.
        remote: The workers are those of a cluster: it ends single tasks by itself, and they are not ours to replace.
        slots: Tasks one worker runs at the same time; of a cluster, at most: its real size is reported as it changes.
        max_workers: Workers there can be at most; None means as many as are asked for.
    """

    kill: bool
    interrupt: bool
    retract: bool
    progress: bool
    crash_isolation: bool
    views: bool = False
    logs: bool = False
    own_processes: bool = False
    remote: bool = False
    slots: int = 1
    max_workers: int | None = None


def require_kill(capabilities: Capabilities) -> None:
    """Refuse to replace workers if the backend can't end them.

    Raises:
        BackendUnsupported: If it can't.
    """
    if not capabilities.kill or capabilities.remote:
        raise BackendUnsupported(
            "this backend can't replace its workers",
            capability="kill",
            hint='use backend="local", or close the pool and start it again',
        )


def require_views(capabilities: Capabilities) -> None:
    """Refuse ``copy=False`` if the backend has no views.

    Raises:
        BackendUnsupported: If it has none.
    """
    if not capabilities.views:
        raise BackendUnsupported(
            "copy=False: this backend has no views of arguments",
            capability="views",
            hint="leave it out, or use the backend 'local'",
        )


def require_logs(capabilities: Capabilities) -> None:
    """Refuse a hook that wants the logs of workers if the backend can't forward them.

    Raises:
        BackendUnsupported: If it can't.
    """
    if not capabilities.logs:
        raise BackendUnsupported(
            "this backend does not forward the logs of its workers",
            capability="logs",
            hint="use backend='local', or remove the hook that wants them",
        )


class Payload(Protocol):
    """A function and its arguments, made ready for sending; opaque to everybody but its backend."""

    @property
    def size(self) -> int:
        """Return the number of bytes that will be sent."""

    @property
    def shared(self) -> bool:
        """Whether they go through shared memory."""


class PlainCall:
    """The payload of a backend that sends nothing itself: the function and its arguments, as they are."""

    __slots__ = ("args", "fn", "size")
    shared = False

    def __init__(
        self, fn: Callable[..., Any], args: tuple[Any, ...], propagated: tuple[PropagatedContext, ...] = ()
    ) -> None:
        if constants.in_use:  # nothing is sent, so nothing can be sent once
            args = tuple(map(constants.plain, args))
            fn = _plain(fn)
        self.fn: Callable[..., Any] = fn
        self.args: WithContext | tuple[Any, ...] = WithContext(args, propagated) if propagated else args
        self.size: int = 0


def _plain(fn: Any) -> Any:
    return type(fn)(constants.plain(fn.function)) if isinstance(fn, ManyCalls) else constants.plain(fn)


class Listener(Protocol):
    """What a backend reports to: the engine."""

    def ready(self, worker: int, cpu_share: float | None = None) -> None:
        """Take note that the worker can take tasks.

        Args:
            worker: Its number.
            cpu_share: The share of its start in which it used a CPU, if that is known.
        """

    def returned(
        self,
        worker: int,
        task: int,
        value: object,
        error: BaseException | None,
        *,
        run_s: float,
        size: int = 0,
        shared: bool = False,
        memory: int | None = None,
        kept: KeptViews | None = None,
    ) -> None:
        """Take the worker's answer: ``value``, or ``error`` if that is not None.

        Args:
            worker: The worker's number.
            task: The task's number.
            value: What the function returned.
            error: What it raised.
            run_s: Seconds that the function ran.
            size: Bytes of the pickled answer.
            shared: Whether it came through shared memory.
            memory: The worker's resident bytes after the task, if measured.
            kept: What the worker still has views of, if anything.
        """

    def progressed(self, worker: int, task: int, value: object) -> None:
        """Take what the running task reported about its progress."""

    def exited(self, event: WorkerExited) -> None:
        """Take note that the worker is gone."""

    def feed(
        self, event: WorkerLoading | WorkerLoaded | TaskLost | TasksTaken | TaskRefused | ReachChanged | WorkerResized
    ) -> None:
        """Take note of what else happened to a worker: it imports, or it is a cluster and something changed there.

        Of a cluster beside this machine also that it can be reached or not, and what it gave back unstarted.
        """

    def time_left(self, task: int) -> float | None:
        """Return the seconds until the task's deadline, or None if it has none."""

    def forked(self) -> None:
        """Take note that this process is a forked copy of the one that the backend was opened in."""


class Backend(Protocol):
    """Workers with slots. See the module's docstring for who calls what."""

    capabilities: Capabilities

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> Payload | asyncio.Future[Any]:
        """Make a call ready for sending, or begin to if that takes long.

        Args:
            fn: The function.
            args: Its arguments.
            propagated: Context that is restored in the worker before the function is called.
            lent: Whether the arguments stay as they are until the task is done, so that they can be pickled later.
            copy: False: the function is to get read-only views of the arguments' buffers. Only asked for if the
                capabilities say ``views``.

        Returns:
            The payload, or a future of it. If the future is cancelled, nobody wants it any more.

        Raises:
            TaskNotPicklable: If it can't be sent.
            PayloadTooLarge: If it is above the limit.
        """

    async def open(self, listener: Listener) -> None:
        """Get ready to start workers, on the running event loop."""

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Have workers that start from now on send what they log; called after ``open``, if the capabilities say so.

        Args:
            on_record: Called with each log record.
            per_second: Records that each worker may send in a second.
            level: Below this level nothing is sent; None: the level of the server's root logger.
        """

    def start_worker(self, worker: int) -> None:
        """Start a worker under this number."""

    def stop_worker(self, worker: int) -> None:
        """Let the worker exit; it has no tasks."""

    def kill_worker(self, worker: int) -> None:
        """End the worker at once; nothing happens if it is gone."""

    def send(self, worker: int, task: int, payload: Any) -> None:
        """Give the worker a task."""

    def retract(self, worker: int) -> tuple[int, ...]:
        """Take back all tasks that the worker has not started, oldest first."""

    def interrupt(self, worker: int, task: int) -> None:
        """Send the running task an exception."""

    def pid(self, worker: int) -> int | None:
        """Return the worker's process, if it has one of its own and is up."""

    def abandon(self) -> None:
        """End every worker without the event loop, which was closed before ``close`` was called."""

    async def close(self) -> None:
        """Release everything; end every worker that is left. May be called in any state, and twice."""
