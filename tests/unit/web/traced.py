"""A world whose spans and measurements are kept, for tests of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from actors.session import events as e
from actors.session.messages import (
    Usage,
)
from tests.unit.actors.world import World, eventually
from web.tracing.run_spans import ChosenIds, SpanTracer

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_ID = "00f067aa0ba902b7"
ASKED = e.Request("r1", trace=f"00-{TRACE_ID}-{CALLER_ID}-01", tracestate="vendor=1")
UNSAMPLED = e.Request("r1", trace=f"00-{TRACE_ID}-{CALLER_ID}-00", tracestate="vendor=1")
USAGE = Usage(10, 5, 3, 2, 0.5)


class Traced:
    """A world whose spans and measurements are kept here."""

    def __init__(self, folder: Path, sampler: Sampler | None, *, content: bool) -> None:
        self.folder = folder
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        ids = ChosenIds()
        self._spans = TracerProvider(sampler, id_generator=ids, shutdown_on_exit=False)
        self._spans.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._metrics = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = SpanTracer(self._spans, ids, self._metrics, "agent", content=content)
        self._worlds: list[World] = []

    def world(self, *tools: Any, **options: Any) -> World:
        made = World(tools=tools, folder=self.folder, tracer=self.tracer, **options)
        self._worlds.append(made)
        return made

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.spans if span.name == name]

    def run(self) -> ReadableSpan:
        """Wait for the run's own span, the last one, and return it."""
        eventually(lambda: bool(self.named("invoke_agent agent")))
        (span,) = self.named("invoke_agent agent")
        return span

    def measured(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    def close(self) -> None:
        for world in self._worlds:
            world.close()
        self._spans.shutdown()
        self._metrics.shutdown()


Trace = Callable[..., Traced]


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    assert span.attributes is not None
    return span.attributes


def id_of(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def state_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return span.context.trace_state.to_header()


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id
