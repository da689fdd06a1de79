"""Every error that lifepool raises, as one tree.

::

    PoolError
    ├── PoolClosed (also RuntimeError)        you closed it, or never started it         503
    ├── QueueFull                             not admitted; .retry_after                 503
    ├── TaskError                             the task could not give its answer         500
    │   ├── TaskTimeout (also TimeoutError)   .timeout                                   504
    │   ├── TaskNotPicklable (also TypeError) .side .path                                500
    │   ├── PayloadTooLarge                   .size .limit                               413
    │   ├── ClientDisconnected                the request's client went away             499
    │   └── WorkerLost                        .exitcode .signal .oom_suspected           500
    ├── WorkerStartError                      initializer, preload or ``__main__``       503
    ├── BackendError
    │   ├── BackendUnavailable                                                           503
    │   └── BackendUnsupported                .capability                                500
    └── InternalError                         a bug of lifepool; .story                  500

Each class carries ``status_hint``, the HTTP status a server could answer with (an idea of h11), and each instance
``hint``, one sentence that says what to do. Messages are built here from fields, so that call sites stay short. An
exception that the user's function raised is none of these: it is raised as itself, with the worker's traceback as
its cause.
"""

from __future__ import annotations

from typing import Literal

#: What was to be sent: a call's arguments, what it returned, or what it passed to ``report_progress``.
Side = Literal["arguments", "result", "progress"]


class PoolError(Exception):
    """Base of all errors that lifepool itself raises.

    Attributes:
        status_hint: The HTTP status code that fits this error.
        hint: One sentence that says what to do about it.
    """

    status_hint: int = 500
    hint: str = ""
    _logged: bool = False  # whether the log has it: it is to be there once

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        if hint is not None:
            self.hint = hint

    def __str__(self) -> str:
        message = str(self.args[0]) if self.args else type(self).__name__
        return f"{message} ({self.hint})" if self.hint else message

    def __reduce__(self) -> tuple[object, ...]:
        # Subclasses have their own signatures; rebuild from the message and the fields instead of calling them.
        return (_rebuild, (type(self), self.args, self.__dict__))


def _rebuild(cls: type[PoolError], args: tuple[object, ...], fields: dict[str, object]) -> PoolError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class PoolClosed(PoolError, RuntimeError):
    """The pool takes no tasks: it was never started, is draining, or is closed."""

    status_hint = 503

    def __init__(self, message: str = "the pool is closed", *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)


class QueueFull(PoolError):
    """The task was refused: when it was submitted, or while it waited, before it ran.

    The latter comes from ``await`` and happens only to the first tasks of a function: when they were admitted, it was
    not known how long they would wait.

    Attributes:
        retry_after: Seconds after which trying again makes sense, from the rate at which the queue drains.
    """

    status_hint = 503
    hint = "try again after retry_after seconds, add workers, or raise max_queue"

    def __init__(self, reason: str, *, retry_after: float) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class TaskError(PoolError):
    """The task could not give its answer."""


class TaskTimeout(TaskError, TimeoutError):
    """The task's timeout passed, time in the queue included. If it was running, it was interrupted.

    Attributes:
        timeout: The task's timeout in seconds.
        started: Whether a worker ran the task; else it was still in the queue, or a worker imported what it needs.
    """

    status_hint = 504

    def __init__(self, timeout: float, *, started: bool, importing: bool = False) -> None:
        if importing:
            where = "while its worker was importing what it needs"
            hint = "the worker goes on and will have it for the next task; name the module in preload to have it before"
        elif started:
            where = "while it was running"
            hint = "give it more time, make it smaller, or look for a loop that doesn't end"
        else:
            where, hint = "while it was waiting in the queue", "the pool is behind: add workers or send less"
        super().__init__(f"the task passed its timeout of {timeout:g} s {where}", hint=hint)
        self.timeout = timeout
        self.started = started
        self._importing = importing

    def _of(self, timeout: float) -> TaskTimeout:
        """Make the same error for a caller who set another timeout: of many tasks together, or of a call in a batch."""
        late = TaskTimeout(timeout, started=self.started, importing=self._importing)
        late._logged = self._logged
        return late


#: What to do about plain data that can't be sent, by what is in the reason.
_PICKLING_HINTS = {
    "RecursionError": "it is nested too deeply: send it flatter, or as text (JSON) that is parsed where it is used",
    "MemoryError": "there is no memory for it: send less at once, or raise the limit of memory",
}


class TaskNotPicklable(TaskError, TypeError):
    """The function, an argument, or the result can't be sent between processes.

    Attributes:
        side: ``"arguments"``, ``"result"``, or ``"progress"``, what was passed to ``report_progress``.
        path: The part that can't be pickled, such as ``args[0].session._lock``.
    """

    hint = "send plain data (text, numbers, bytes, dataclasses) and module-level functions"

    def __init__(self, side: Side, path: str, reason: str, *, hint: str | None = None) -> None:
        known = next((say for name, say in _PICKLING_HINTS.items() if name in reason), None)
        super().__init__(f"{path} can't be pickled: {reason}", hint=hint or known)
        self.side = side
        self.path = path


class PayloadTooLarge(TaskError):
    """The pickled arguments or result are larger than ``max_payload``.

    Attributes:
        size: Bytes it has.
        limit: Bytes allowed.
    """

    status_hint = 413
    hint = "send less, or raise max_payload"

    def __init__(self, side: Side, size: int, limit: int) -> None:
        super().__init__(f"the pickled {side} has {size:,} bytes, the limit is {limit:,}")
        self.side = side
        self.size = size
        self.limit = limit


class ClientDisconnected(TaskError):
    """The client for whom the task ran went away; the task was dropped or broken off.

    499 is not a registered status but the one that proxies log for this; nobody is there to read it.
    """

    status_hint = 499

    def __init__(self) -> None:
        super().__init__("the client disconnected before the task was done")


class WorkerLost(TaskError):
    """The worker process died while it ran this task. Tasks that had not started went to other workers.

    Attributes:
        exitcode: What the process exited with; None when a signal killed it or it is not known.
        signal: The number of the signal that killed it, or None.
        oom_suspected: Whether the kernel's out-of-memory killer probably did it.
        story: The task's last events, oldest first.
    """

    def __init__(
        self,
        *,
        exitcode: int | None = None,
        signal: int | None = None,
        oom_suspected: bool = False,
        reason: str = "",
        story: tuple[str, ...] = (),
    ) -> None:
        how = reason or how_it_ended(exitcode, signal)
        hint = (
            "it was probably killed for its memory: send smaller tasks or set max_worker_memory"
            if oom_suspected
            else "look for a crash in native code, os._exit or a kill; retries=1 runs it once more"
        )
        super().__init__(f"the worker died while it ran this task: {how}", hint=hint)
        self.exitcode = exitcode
        self.signal = signal
        self.oom_suspected = oom_suspected
        self.story = story


def how_it_ended(exitcode: int | None, signal: int | None) -> str:
    """Describe the end of a process in a few words."""
    if signal is not None:
        return f"killed by signal {signal}"
    return "it vanished" if exitcode is None else f"exited with code {exitcode}"


class WorkerStartError(PoolError):
    """A worker could not start: the initializer, a preload, the import of ``__main__``, or the fork of it failed.

    The message holds the worker's own traceback, or what the system had no more of.
    """

    status_hint = 503

    def __init__(self, cause: str, *, hint: str | None = None) -> None:
        super().__init__(f"a worker could not start: {cause.strip()}", hint=hint)
        self.cause = cause


class BackendError(PoolError):
    """The backend, not the task, is at fault."""


class BackendUnavailable(BackendError):
    """The backend takes no work now: an executor of yours that was shut down, for one.

    Attributes:
        may_have_started: Whether the task was on its way to a cluster when the connection broke, and may run there all
            the same.
    """

    status_hint = 503
    may_have_started: bool = False


class BackendUnsupported(BackendError):
    """The backend can't do what was asked for.

    Attributes:
        capability: The name of the missing capability.
    """

    def __init__(self, message: str, *, capability: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.capability = capability


class InternalError(PoolError):
    """A bug in lifepool, never the user's fault.

    Attributes:
        story: The last events of the task or worker, oldest first.
    """

    hint = "this is a bug in lifepool: please report it with the events below"

    def __init__(self, message: str, story: tuple[str, ...] = ()) -> None:
        super().__init__("\n  ".join((message, *story)))
        self.story = story
