"""Traces with OpenTelemetry: a span a task, and the trace goes on in the worker.

``pool.add_hook(OpenTelemetryHook())``: a task that is submitted within a span gets the span ``lifepool.task NAME``,
with a child ``wait`` and a child ``run``. Spans that the function makes in the worker are children of it; baggage comes
along. A worker needs a tracer provider of its own: set it in the pool's ``initializer``, and have it ``flush_at_exit``.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Status, StatusCode
except ImportError as _error:  # pragma: no cover - needs an environment without it
    raise ImportError(
        "lifepool.instrumentation.opentelemetry needs opentelemetry-api: pip install 'lifepool[otel]'"
    ) from _error

from lifepool._inside import state
from lifepool._usercode.display import text_of
from lifepool.hooks import Hook, TaskRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from opentelemetry.util.types import AttributeValue

    from lifepool.errors import PoolError
    from lifepool.hooks import WatchedPool

    class CanFlush(Protocol):
        """A tracer provider of the SDK, or anything else that buffers."""

        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            """Send what is buffered; whether that was done in time."""


#: In ``TaskRecord.notes``: the task's span, and what to add to monotonic nanoseconds to have those of the epoch.
_NOTE = "lifepool.opentelemetry"
#: Outcomes after which the caller has no answer though it waited for one.
_ERRORS = frozenset({"failed", "timed_out", "lost"})


class TraceContext:
    """A trace context and baggage, sent along to the worker.

    Args:
        headers: As the global propagator has written them.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: dict[str, str]) -> None:
        self._headers = headers

    def __reduce__(self) -> tuple[object, ...]:
        return (TraceContext, (self._headers,))

    def restore(self) -> None:
        """Make it the current context. It is never detached: the call's context variables end with the call."""
        context.attach(propagate.extract(self._headers))


class OpenTelemetryHook(Hook):
    """Trace a pool's tasks. One hook watches one pool.

    A task that is submitted outside of any span has none either and costs nothing. If the sampler does not want it, the
    context still goes along, so that the worker knows that too.

    Args:
        tracer_provider: Makes the spans; None: the global one, also if it is set later.
        always: Trace tasks that are submitted outside of any span as well; each starts a trace.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None, *, always: bool = False) -> None:
        self._tracer = trace.get_tracer("lifepool", tracer_provider=tracer_provider)
        self._always = always
        self._pool = "pool"
        self._spans = 0  # that are under way; most tasks of most servers have none

    def pool_started(self, pool: WatchedPool) -> None:
        """Learn the pool's name."""
        self._pool = pool.config.name

    def pool_closed(self, pool: WatchedPool) -> None:
        """End the spans of tasks that are still under way, if the hook is removed: it hears no more of them."""
        for task in pool.task_records(sys.maxsize) if self._spans else ():
            if _NOTE in task.notes:
                span, _ = task.notes.pop(_NOTE)
                span.set_attribute("lifepool.task.id", task.id)
                span.end()
        self._spans = 0

    def propagate_context(self, task: TaskRecord) -> TraceContext | None:
        """Start the task's span and take its context along."""
        if not context.get_current() and not self._always:
            return None
        epoch = _epoch_ns()
        span = self._start(task, epoch)
        if span is None:
            here = None
        else:
            here = trace.set_span_in_context(span)
            if span.is_recording():
                task.notes[_NOTE] = span, epoch
                self._spans += 1
        headers: dict[str, str] = {}
        propagate.inject(headers, here)
        return TraceContext(headers) if headers else None

    def task_sent(self, task: TaskRecord) -> None:
        """Add an event to the task's span each time that it is sent to a worker."""
        if self._spans and _NOTE in task.notes and task.sent is not None:
            span, epoch = task.notes[_NOTE]
            where = {"lifepool.worker": task.worker or 0, "lifepool.task.attempt": task.attempts}
            span.add_event("sent", where, timestamp=epoch + _ns(task.sent))

    def tasks_settled(self, tasks: Sequence[TaskRecord]) -> None:
        """End the spans of tasks, at the instants at which they were settled."""
        for task in tasks if self._spans else ():
            if _NOTE in task.notes:
                self._end(task)

    def _end(self, task: TaskRecord) -> None:
        span, epoch = task.notes.pop(_NOTE)
        self._spans -= 1
        span.set_attributes(_outcome_of(task))
        if task.outcome in _ERRORS:
            _blame(span, task.error)
        self._parts(task, span, epoch)
        span.end(epoch + _ns(task.finished or task.submitted))

    def task_refused(self, task: TaskRecord, error: PoolError) -> None:
        """End the task's span; a task that was refused at admission gets one now."""
        if _NOTE in task.notes:
            span, _ = task.notes.pop(_NOTE)
            self._spans -= 1
        elif context.get_current() or self._always:
            span = self._start(task, _epoch_ns())
        else:
            return
        if span is not None and span.is_recording():
            span.set_attribute("lifepool.task.outcome", "refused")
            _blame(span, error)
            span.end()

    def _start(self, task: TaskRecord, epoch: int) -> trace.Span | None:
        """Start a span for the task; return None if it is in no trace."""
        if not self._always and not trace.get_current_span().get_span_context().is_valid:
            return None  # there may be baggage all the same
        attributes: dict[str, AttributeValue] = {"lifepool.pool": self._pool, "lifepool.task.name": task.name}
        if task.timeout is not None:
            attributes["lifepool.task.timeout"] = task.timeout
        start = epoch + _ns(task.submitted)
        return self._tracer.start_span(f"lifepool.task {task.name}", attributes=attributes, start_time=start)

    def _parts(self, task: TaskRecord, span: trace.Span, epoch: int) -> None:
        within = trace.set_span_in_context(span, context.Context())
        start, ran, end = _instants(task)
        for name, begin, until in (("wait", task.submitted, start), ("run", start, end)):
            if name == "wait" or ran:
                part = self._tracer.start_span(name, within, start_time=epoch + _ns(begin))
                part.end(epoch + _ns(until))


def flush_at_exit(provider: CanFlush | None = None, *, timeout: float = 2.0) -> None:
    """Have a worker send what its tracer provider has buffered before it ends. Call it in the pool's initializer.

    A ``BatchSpanProcessor`` relies on Python's exit handlers, which do not run in a worker in all versions. A worker
    that is killed flushes nothing. Outside of a worker this does nothing.

    Args:
        provider: Whom to flush; None: the global one.
        timeout: Seconds that it may take.
    """
    if state.is_worker:
        flush = getattr(provider or trace.get_tracer_provider(), "force_flush", None)
        if flush is not None:
            state.exit_calls.append(lambda: flush(int(timeout * 1e3)))


def _instants(task: TaskRecord) -> tuple[float, bool, float]:
    """Return when the last attempt began to run, whether it did, and when it ended; monotonic."""
    finished = task.finished or task.submitted
    if task.outcome in ("completed", "failed") and task.run_s is not None and task.wait_s is not None:
        start = task.submitted + task.wait_s
        return start, True, min(start + task.run_s, finished)
    if task.sent is None:  # it never left the queue
        return finished, False, finished
    return task.sent, True, finished  # as far as is known: there was no answer


def _outcome_of(task: TaskRecord) -> dict[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        "lifepool.task.id": task.id,
        "lifepool.task.outcome": task.outcome or "",
        "lifepool.task.attempts": task.attempts,
        "lifepool.task.bytes_sent": task.bytes_sent,
        "lifepool.task.bytes_received": task.bytes_received,
    }
    if task.worker is not None:
        found["lifepool.worker"] = task.worker
    return found


def _blame(span: trace.Span, error: BaseException | None) -> None:
    if error is None:
        span.set_status(Status(StatusCode.ERROR))
    else:
        with contextlib.suppress(Exception):  # its str() raises
            span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {text_of(error)}"))


def _epoch_ns() -> int:
    """Return epoch minus monotonic time. Called for each task, so that a changed clock leaves old tasks alone."""
    return time.time_ns() - time.monotonic_ns()


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
