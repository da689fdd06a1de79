"""The local backend: this host's processes, driven by the event loop."""

from __future__ import annotations

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from lifepool._core.events import WorkerExited
from lifepool._host.cpus import may_poll
from lifepool._host.oom import OomWatch
from lifepool._inside import state
from lifepool.backends.base import Capabilities, Listener
from lifepool.backends.local import fork_safety as forked
from lifepool.backends.local.codec.calls import Call
from lifepool.backends.local.codec.initializer import Initializer
from lifepool.backends.local.connection import WorkerConnection
from lifepool.backends.local.copy_threads import CopyThreads
from lifepool.backends.local.logs.receiver import LogReceiver
from lifepool.backends.local.outbox import Outbox
from lifepool.backends.local.shared.arena_upkeep import Upkeep, trim
from lifepool.backends.local.template.client import Template
from lifepool.backends.local.template.parking import likeness, place
from lifepool.backends.local.template.process import UNKNOWN_EXIT, WorkerProcess
from lifepool.backends.local.worker.startup import WorkerSpec
from lifepool.backends.start_failures import why_not_started

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from lifepool._transfer.context import PropagatedContext
    from lifepool.backends.local.shared.arena import Lease

#: Seconds the template has to end when asked to, before it is killed. It takes some milliseconds.
STOP_GRACE_S = 1.0
#: Seconds a worker that closed its connection has to exit before it is killed.
CLOSED_GRACE_S = 0.5
#: Seconds the template has to fork a worker, or to tell that one died; past it, it hangs. Both take milliseconds.
TEMPLATE_GRACE_S = 5.0

logger: logging.Logger = logging.getLogger("lifepool")


class LocalBackend:
    """Worker processes forked from a clean template, one socket each on the event loop.

    Args:
        initializer: Called once in each worker before its first task.
        initargs: Its arguments.
        preload: Modules imported in the template.
        modules: Those that tasks are known to need; imported there too, but no start fails without them.
        max_payload: Limit of pickled calls and results in bytes.
        max_worker_memory: Bytes a worker may occupy; reported after each task, and limited hard above it.
        name: Used in the names of processes.

    Attributes:
        parks_template: Whether the next backend like this one may have its template; set it before ``open``.
    """

    capabilities: Capabilities = Capabilities(
        kill=True,
        interrupt=True,
        retract=True,
        progress=True,
        crash_isolation=True,
        views=True,
        logs=True,
        own_processes=True,
    )

    def __init__(
        self,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        preload: tuple[str, ...] = (),
        modules: tuple[str, ...] = (),
        max_payload: int,
        max_worker_memory: int | None = None,
        name: str = "pool",
    ) -> None:
        self.parks_template = False
        self._initializer = initializer
        self._initargs = initargs
        self._to_initialize: Initializer | None = None
        self._preload = preload
        self._modules = modules
        self._max_payload = max_payload
        self._max_worker_memory = max_worker_memory
        self._name = name
        self._outbox: Outbox
        self._never_to_free: list[Lease] = []
        self._connections: dict[int, WorkerConnection] = {}
        self._oom = OomWatch()
        self._logs: LogReceiver | None = None

    # -- life -----------------------------------------------------------------------------------------------------

    async def open(self, listener: Listener) -> None:
        """Get ready; the template itself starts with the first worker.

        Raises:
            TaskNotPicklable: If the initializer can't be sent to workers.
        """
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._may_poll = may_poll()
        template = Template(self._preload, self._modules, name=self._name)
        has_main = template.main is not None
        if self._initializer is not None:
            self._to_initialize = Initializer(self._initializer, self._initargs, self._max_payload, has_main=has_main)
        self._template = self._parked_like(template) or template
        # Asking for a fork blocks: milliseconds, or as long as the first preload takes. That is kept from the loop.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix=f"lifepool-{self._name}-start")
        # Should the program end without closing the pool: end the template, and so the workers, before multiprocessing
        # waits for its children (finalizers with a priority run before that).
        self._last_resort = util.Finalize(self, self._template.kill, exitpriority=100)
        self._upkeep = Upkeep(self._loop, lambda: trim(self._outbox.shared, self._connections.values()))
        self._oom.follow(self._loop)
        self._threads = CopyThreads(self._loop, self._name)
        self._outbox = Outbox(self._loop, self._threads, self._max_payload, has_main=has_main)
        forked.register(self)

    def _parked_like(self, template: Template) -> Template | None:
        """Take a template like this one that is there already."""
        self._likeness: Hashable = None
        if self.parks_template:
            self._likeness = likeness(self._preload, self._modules, template.main, self._name)
        return place.take(self._likeness)

    async def close(self) -> None:
        """End every worker that is left and the template; or park that."""
        if not hasattr(self, "_starter"):
            return
        end = self._template.stop
        if self._likeness is not None and not self._connections:
            end = partial(place.put, self._template, self._likeness)
        for connection in list(self._connections.values()):
            self.kill_worker(connection.number)
        starter, template = self._starter, self._template
        try:
            stopping = self._loop.run_in_executor(starter, end)
        except RuntimeError:  # no thread can be started
            template.kill()
            template.stop()
        else:
            while not (await asyncio.wait([stopping], timeout=STOP_GRACE_S))[0]:
                template.kill()  # it hangs in a preload, perhaps only since the last look
        starter.shutdown(wait=True)
        self._last_resort.cancel()
        self._upkeep.stop()
        self._release()
        self._close_logs()
        del self._starter

    def let_go_in_child(self) -> None:
        """Let go in a forked copy of the server: workers and shared memory belong to the parent."""
        self._connections.clear()
        self._last_resort.cancel()
        if hasattr(self, "_starter"):
            del self._starter
            self._listener.forked()

    def abandon(self) -> None:
        """End every worker without the event loop, which was closed under us."""
        if not hasattr(self, "_starter"):
            return
        self._template.kill()
        self._template.stop()
        self._starter.shutdown(wait=False)
        self._last_resort.cancel()
        self._release()
        self._close_logs()
        del self._starter

    def _release(self) -> None:
        self._oom.stop()
        self._threads.close()  # first: its threads use what is closed next
        for connection in list(self._connections.values()):
            self._forget(connection)
        self._outbox.close()

    def forward_logs(self, on_record: Callable[[dict[str, Any]], None], per_second: float, level: int | None) -> None:
        """Have workers that start from now on send what they log; call it after ``open``."""
        if self._logs is None:
            try:
                self._logs = LogReceiver(self._loop, on_record, per_second, level)
            except OSError as error:
                logger.warning("the logs of workers that start now are not forwarded: %r", error)

    def _close_logs(self) -> None:
        if self._logs is not None:
            self._logs.close()
            self._logs = None

    # -- workers --------------------------------------------------------------------------------------------------

    def start_worker(self, worker: int) -> None:
        """Fork a worker from the template. What fails on the way is a failed start of this worker."""
        connection = self._connections[worker] = WorkerConnection(
            worker, self._listener, self._upkeep.note_use, self._failed
        )
        try:
            launch = self._begin_launch(connection)
        except Exception as error:
            self._not_started(connection, error)
        else:
            launch.add_done_callback(connection.guard(partial(self._on_launched, connection)))

    def _begin_launch(self, connection: WorkerConnection) -> asyncio.Future[WorkerProcess]:
        connection.open(self._loop, self._threads, self._max_payload, partial(self._on_end, connection))
        spec = self._spec(connection.number)
        logs_fd = self._logs.writing_fd if spec.logs is not None and self._logs is not None else -1
        name = f"lifepool-{self._name}-{connection.number}"
        arguments = (self._template, spec, self._outbox.shared, logs_fd, name)
        return self._loop.run_in_executor(self._starter, connection.launch, *arguments)

    def _spec(self, worker: int) -> WorkerSpec:
        return WorkerSpec(
            number=worker,
            initializer=self._to_initialize,
            preload=self._preload,
            main=self._template.main,
            modules=self._modules,
            surroundings=self._template.surroundings(),
            functions=self._outbox.encoder.known_functions(),
            max_payload=self._max_payload,
            memory_limit=self._max_worker_memory and 2 * self._max_worker_memory,
            measure_memory=self._max_worker_memory is not None,
            depth=state.depth + 1,
            may_poll=self._may_poll,
            logs=None if self._logs is None else self._logs.settings(),
        )

    def _on_launched(self, connection: WorkerConnection, done: asyncio.Future[WorkerProcess]) -> None:
        if connection.number not in self._connections:  # closed meanwhile; the template took it along
            return
        error = ChildProcessError("its start was broken off") if done.cancelled() else done.exception()
        if error is not None:
            self._not_started(connection, error)
            return
        process = connection.process = done.result()
        assert connection.channel is not None  # noqa: S101 - made by start_worker
        connection.channel.open()
        self._loop.add_reader(process.sentinel, connection.guard(self._on_exit), connection)
        connection.is_watched = True
        if connection.doomed:
            self.kill_worker(connection.number)

    def _not_started(self, connection: WorkerConnection, error: BaseException) -> None:
        """Tell that there is no process, and will be none."""
        if not connection.doomed:
            connection.start_error, connection.start_hint = why_not_started(error)
        connection.doomed = True  # an executor that could not start a thread keeps the order, and may yet carry it out
        self._gone(connection)

    def stop_worker(self, worker: int) -> None:
        """Let it exit by itself."""
        connection = self._connections.get(worker)
        if connection is not None and connection.channel is not None:
            connection.channel.let_go()

    def kill_worker(self, worker: int) -> None:
        """Kill the worker (SIGKILL): at once, or after its launch. If no launch ever ended, kill the template."""
        connection = self._connections.get(worker)
        if connection is None:
            return
        if connection.process is not None:
            connection.process.kill()
        elif not connection.doomed:
            connection.doomed = True
            if all(other.process is None for other in self._connections.values()):
                self._template.kill()
            else:
                self._loop.call_later(TEMPLATE_GRACE_S, connection.guard(self._give_up_template), connection.number)

    def _give_up_template(self, worker: int) -> None:
        """Kill the template if this worker's end was not reported: it hangs, and nobody would be replaced any more."""
        connection = self._connections.get(worker)
        if connection is not None and not connection.has_exited:
            self._template.kill()

    def _on_end(self, connection: WorkerConnection, reason: str) -> None:
        """Wait for the end of a worker that closed its connection, or make it close it."""
        connection.reason = connection.reason or reason
        if reason:
            self.kill_worker(connection.number)
        else:
            self._loop.call_later(CLOSED_GRACE_S, connection.guard(self.kill_worker), connection.number)
        give_up = connection.guard(self._give_up_template)
        self._loop.call_later(CLOSED_GRACE_S + TEMPLATE_GRACE_S, give_up, connection.number)

    def _on_exit(self, connection: WorkerConnection) -> None:
        assert connection.process is not None and connection.channel is not None  # noqa: S101, PT018 - launched, or nobody calls
        self._loop.remove_reader(connection.process.sentinel)
        connection.has_exited = True
        if connection.has_failed or connection.inbox is None:
            self._gone(connection)
            return
        # What it answered before it died is answered.
        connection.channel.drain_in()
        connection.inbox.when_empty(lambda: self._gone(connection))

    def _failed(self, connection: WorkerConnection, error: Exception) -> None:
        """End a worker that something of ours failed about; its tasks get their outcomes."""
        connection.complain(error)
        if connection.end_is_reported:
            return
        is_first, connection.has_failed = not connection.has_failed, True
        if is_first and not connection.has_exited:
            try:
                if connection.channel is not None:
                    connection.channel.stop()
                if connection.process is None:
                    self.kill_worker(connection.number)
                else:
                    connection.process.kill()
            except Exception as another:
                connection.complain(another)
        if connection.has_exited or (connection.process is not None and not connection.is_watched):
            self._gone(connection)
        elif is_first:
            self._loop.call_later(CLOSED_GRACE_S + TEMPLATE_GRACE_S, self._gone, connection)

    def _gone(self, connection: WorkerConnection) -> None:
        """Report a worker's end, once, whatever else fails."""
        if connection.end_is_reported:
            return
        connection.end_is_reported = True
        end = WorkerExited(connection.number)
        try:
            end.unstarted = self.retract(connection.number)
            if connection.process is not None and connection.process.exitcode == UNKNOWN_EXIT:
                connection.process.kill()  # what it has left behind; the template, which sees to that else, is gone
        except Exception as error:
            connection.complain(error)
        try:
            end = connection.end(end.unstarted)
            end.oom_suspected = end.signal == signal.SIGKILL and not connection.reason and self._oom.happened()
        except Exception as error:
            connection.complain(error)
        if end.exitcode is None and end.signal is None:  # it may live on: it must not read what others write
            self._never_to_free += connection.leases.all()
        self._forget(connection)
        end.reason = connection.reason
        self._listener.exited(end)

    def _forget(self, connection: WorkerConnection) -> None:
        self._connections.pop(connection.number, None)
        try:
            connection.close(self._loop)
        except Exception as error:
            connection.complain(error)

    # -- tasks ----------------------------------------------------------------------------------------------------

    def prepare(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        propagated: tuple[PropagatedContext, ...] = (),
        *,
        lent: bool = False,
        copy: bool = True,
    ) -> Call | asyncio.Future[Call]:
        """Pickle a call, or begin to.

        Raises:
            TaskNotPicklable: If it can't be.
            PayloadTooLarge: If it is above the limit.
        """
        call = self._outbox.prepare(fn, args, propagated, lent=lent, copy=copy)
        if type(call) is not Call or call.lease is not None:
            self._upkeep.note_use()
        return call

    def send(self, worker: int, task: int, payload: Call) -> None:
        """Write the task to the worker."""
        connection = self._connections.get(worker)
        if connection is not None:
            connection.send(task, payload)

    def retract(self, worker: int) -> tuple[int, ...]:
        """Take back the tickets of what it has not started."""
        connection = self._connections.get(worker)
        return () if connection is None else connection.retract()

    def interrupt(self, worker: int, task: int) -> None:
        """Signal the worker to break off this task."""
        connection = self._connections.get(worker)
        if connection is not None:
            connection.interrupt(task)

    def pid(self, worker: int) -> int | None:
        """Return the worker's process."""
        connection = self._connections.get(worker)
        return None if connection is None or connection.process is None else connection.process.pid
