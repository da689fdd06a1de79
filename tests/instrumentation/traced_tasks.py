"""What runs in the workers of the tracing tests: every span becomes a line of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from opentelemetry import baggage, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from lifepool.instrumentation.opentelemetry import flush_at_exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class FileExporter(SpanExporter):
    def __init__(self, path: str) -> None:
        self._path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(self._path).open("a") as file:
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def trace_to(path: str) -> None:
    """Trace to an address: an initializer. The processor waits a minute, so what arrives was flushed at the end."""
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(FileExporter(path), schedule_delay_millis=60_000))
    trace.set_tracer_provider(provider)
    flush_at_exit()


def work(number: int) -> tuple[int, object]:
    with trace.get_tracer("tests").start_as_current_span("inside"):
        return 2 * number, baggage.get_baggage("tenant")


def is_in_a_trace() -> tuple[bool, bool]:
    here = trace.get_current_span().get_span_context()
    return here.is_valid, here.trace_flags.sampled
