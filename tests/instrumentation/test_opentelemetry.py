"""One trace from the request into the worker, on real processes and the real SDK."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from lifepool import Pool, QueueFull, TaskNotPicklable, TaskTimeout, WorkerLost
from lifepool.hooks import TaskRecord
from lifepool.instrumentation.opentelemetry import OpenTelemetryHook, flush_at_exit
from tests import tasks
from tests.engine.gates import Gate
from tests.instrumentation import traced_tasks

if TYPE_CHECKING:
    from pathlib import Path


class Tracing:
    """A provider that keeps its spans, and a hook that uses it."""

    def __init__(self, *, always: bool = False) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("tests")
        self.hook = OpenTelemetryHook(self.provider, always=always)

    def named(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


def lasted(span: ReadableSpan) -> tuple[int, int]:
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.start_time <= span.end_time
    return span.start_time, span.end_time


async def test_the_spans_of_request_task_and_worker_are_one_trace(tmp_path: Path) -> None:
    tracing, file = Tracing(), tmp_path / "spans"
    pool = Pool(max_workers=1, name="web", initializer=traced_tasks.trace_to, initargs=(str(file),))
    pool.add_hook(tracing.hook)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    async with pool:
        with tracing.tracer.start_as_current_span("request"):
            assert await pool.run(traced_tasks.work, 4) == (8, "acme")
    context.detach(token)
    request, task, wait, run = map(tracing.named, ("request", "lifepool.task work", "wait", "run"))
    (inside,) = map(json.loads, file.read_text().splitlines())
    assert task.parent == request.context
    assert wait.parent == run.parent == task.context
    assert inside["name"] == "inside"
    assert inside["context"]["trace_id"] == f"0x{request.context.trace_id:032x}"
    assert inside["parent_id"] == f"0x{task.context.span_id:016x}"
    assert lasted(task)[0] == lasted(wait)[0]
    assert lasted(wait)[1] == lasted(run)[0]
    assert lasted(run)[1] <= lasted(task)[1]
    assert task.status.status_code is trace.StatusCode.UNSET
    assert (
        dict(task.attributes or {}).items()
        >= {
            "lifepool.pool": "web",
            "lifepool.task.id": 1,
            "lifepool.task.name": "work",
            "lifepool.task.outcome": "completed",
            "lifepool.task.attempts": 1,
            "lifepool.worker": 1,
        }.items()
    )


async def test_what_went_wrong_is_in_the_tasks_span(tmp_path: Path) -> None:
    tracing = Tracing(always=True)
    pool = Pool(max_workers=1)
    pool.add_hook(tracing.hook)
    with Gate() as gate:
        async with pool:
            with pytest.raises(ValueError, match="broken"):
                await pool.run(tasks.fail, "broken")
            with pytest.raises(TaskTimeout):
                await pool.run(tasks.hold, gate.address, timeout=0.3)
            with pytest.raises(WorkerLost):
                await pool.run(tasks.exit_hard, 3)
            with pytest.raises(TaskNotPicklable):
                await pool.run(tasks.echo, lambda: 1)
            await pool.run(tasks.die_unless_tried_before, str(tmp_path / "mark"), retries=1)
    # They end in batches, at the instants at which they were settled: what was refused has gone out before.
    found = [span for span in tracing.spans if span.name.startswith("lifepool.task")]
    found.sort(key=lambda span: span.start_time or 0)
    assert [(dict(span.attributes or {})["lifepool.task.outcome"], span.status.is_ok) for span in found] == [
        ("failed", False),
        ("timed_out", False),
        ("lost", False),
        ("refused", False),
        ("completed", True),
    ]
    assert found[0].status.description == "ValueError: broken"
    (raised,) = [event for event in found[0].events if event.name == "exception"]
    assert "in the worker" in str(raised.attributes) or "Traceback" in str(raised.attributes)
    attempts = [dict(event.attributes or {})["lifepool.task.attempt"] for event in found[4].events]
    assert attempts == [1, 2]


async def test_a_task_refused_at_admission_and_one_dropped_from_the_queue_have_spans() -> None:
    tracing = Tracing(always=True)
    pool = Pool(max_workers=1, max_queue=1)
    pool.add_hook(tracing.hook)
    with Gate() as gate:
        async with pool:
            running = pool.submit(tasks.hold, gate.address)
            visitor = await gate.arrival()
            queued = pool.submit(tasks.double, 2)
            with pytest.raises(QueueFull):
                pool.submit(tasks.echo, 3)
            queued.cancel()
            visitor.let_through()
            await running
    dropped, refused = tracing.named("lifepool.task double"), tracing.named("lifepool.task echo")
    assert dropped.status.is_ok
    assert not refused.status.is_ok
    of_dropped = [span.name for span in tracing.spans if span.parent == dropped.context]
    assert of_dropped == ["wait"]


async def test_a_trace_that_is_not_sampled_goes_along_without_spans() -> None:
    tracing = Tracing()
    pool = Pool(max_workers=1)
    pool.add_hook(tracing.hook)
    async with pool:
        with TracerProvider(sampler=ALWAYS_OFF).get_tracer("tests").start_as_current_span("request"):
            assert await pool.run(traced_tasks.is_in_a_trace) == (True, False)
    assert tracing.spans == ()


async def test_without_a_span_or_a_provider_nothing_goes_along() -> None:
    hook = OpenTelemetryHook()
    assert hook.propagate_context(TaskRecord("double", 0.0)) is None
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    assert hook.propagate_context(TaskRecord("double", 0.0)) is not None, "baggage alone comes along"
    context.detach(token)
    pool = Pool(max_workers=1)
    pool.add_hook(hook)
    async with pool:
        assert await pool.run(traced_tasks.is_in_a_trace) == (False, False)


async def test_inline_tasks_are_traced_as_well() -> None:
    tracing = Tracing()
    pool = Pool(max_workers=1, backend="inline")
    pool.add_hook(tracing.hook)
    flush_at_exit()  # outside of a worker, as in an initializer of this backend: nothing
    async with pool:
        with tracing.tracer.start_as_current_span("request"):
            assert await pool.run(traced_tasks.is_in_a_trace) == (True, True)
    assert tracing.named("lifepool.task is_in_a_trace").parent == tracing.named("request").context


async def test_a_hook_that_is_removed_ends_the_spans_of_what_is_under_way(gate: Gate) -> None:
    tracing = Tracing(always=True)
    async with Pool(max_workers=1) as pool:
        pool.add_hook(tracing.hook)
        running = pool.submit(tasks.hold, gate.address, "answer")
        visitor = await gate.arrival()
        pool.remove_hook(tracing.hook)
        span = tracing.named("lifepool.task hold")
        assert (span.attributes or {})["lifepool.task.id"] == running.id
        visitor.let_through()
        assert await running == "answer"
    assert len(tracing.spans) == 1, "and nothing more"
