"""Spans and metrics on their way to a collector, by OTLP over HTTP; needs the extra ``otel``."""

import logging
import math
import threading
import time
from functools import partial
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http import metric_exporter, trace_exporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from actors.runs.tracing import Tracer
from persistence.native import run_soon
from web.tracing.run_spans import ChosenIds, SpanTracer

QUEUE_MAX = 8_192
"""Spans that wait to be sent; more are left out."""
BATCH_MAX = 64
"""Spans that are sent at once: to encode them takes about 0.1 ms each, and holds greenlets up."""
EVERY_MS = 2_000
METRICS_EVERY_MS = 30_000
TIMEOUT_S = 5.0
COMPLAINT_EVERY_S = 60.0


class Seldom(logging.Filter):
    """Lets one line through, and the next one after a while: a collector may be gone for long."""

    def __init__(self, every_s: float = COMPLAINT_EVERY_S) -> None:
        super().__init__()
        self._every_s = every_s
        self._next_s = -math.inf

    def filter(self, _record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True


class Otlp:
    """Sends what a process's runs do. Starts threads: make it after the fork.

    Nobody ever waits for the collector: what can't be sent is left out.
    """

    def __init__(
        self, endpoint: str, service_name: str, instance: str, *, content: bool, metrics: bool
    ) -> None:
        for exporter in (trace_exporter, metric_exporter):
            logging.getLogger(exporter.__name__).addFilter(Seldom())
        base = endpoint.rstrip("/")
        resource = Resource.create(
            {
                "service.name": service_name,
                "service.version": version("sessiond"),
                "service.instance.id": instance,
            }
        )
        ids = ChosenIds()
        self._spans = TracerProvider(resource=resource, id_generator=ids, shutdown_on_exit=False)
        self._spans.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(f"{base}/v1/traces", timeout=TIMEOUT_S),
                max_queue_size=QUEUE_MAX,
                max_export_batch_size=BATCH_MAX,
                schedule_delay_millis=EVERY_MS,
            )
        )
        readers = [_metric_reader(base)] if metrics else []
        self._metrics = MeterProvider(readers, resource, shutdown_on_exit=False)
        self.tracer: Tracer = SpanTracer(
            self._spans, ids, self._metrics, service_name, content=content
        )

    def close(self, timeout_s: float) -> None:
        """Send what is left; blocks for so long at most."""
        closed = threading.Event()
        run_soon(partial(self._shut_down, closed))
        closed.wait(timeout_s)

    def _shut_down(self, closed: threading.Event) -> None:
        self._spans.shutdown()
        self._metrics.shutdown()
        closed.set()


def _metric_reader(base: str) -> PeriodicExportingMetricReader:
    return PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{base}/v1/metrics", timeout=TIMEOUT_S),
        export_interval_millis=METRICS_EVERY_MS,
        export_timeout_millis=TIMEOUT_S * 1_000,
    )
