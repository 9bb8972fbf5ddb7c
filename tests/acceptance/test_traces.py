"""What a real collector gets of a real gateway's runs, by OTLP over HTTP."""

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from actors.runs.tracing import NO_TRACER
from actors.session.messages import ToolCall
from actors.session.state import Run, SessionState
from tests.acceptance.conftest import OpenGateway, reach
from tests.acceptance.gateway import RunningGateway, stored_events, until
from tests.wire.servers import Ask, Finish, ModelServer, OpenAIWire, Refuse, Say
from web.settings import SettingsError, load_settings
from web.tracing.telemetry import check_telemetry, make_telemetry, service_name

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER_ID = "00f067aa0ba902b7"
CALLER = f"00-{TRACE_ID}-{CALLER_ID}-01"

VARIABLES = {
    "OTEL_SERVICE_NAME": "helper",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=less",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
}
"""OpenTelemetry's own."""


class Collector:
    """Keeps what is sent to it; use it as a context manager."""

    def __init__(self) -> None:
        self.bodies: dict[str, list[bytes]] = {"/v1/traces": [], "/v1/metrics": []}
        self.keys: set[str] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self.bodies, self.keys))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    @property
    def resources(self) -> list[dict[str, str]]:
        return [
            {each.key: each.value.string_value for each in group.resource.attributes}
            for request in self._traces()
            for group in request.resource_spans
        ]

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self._traces()
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    @property
    def metrics(self) -> set[str]:
        parsed = [ExportMetricsServiceRequest.FromString(b) for b in self.bodies["/v1/metrics"]]
        return {
            metric.name
            for request in parsed
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        }

    def of(self, trace_id: str, count: int) -> list[Span]:
        """Wait for so many spans of a trace, and return them in the order they began."""

        def found() -> list[Span]:
            spans = [each for each in self.spans if each.trace_id.hex() == trace_id]
            return spans if len(spans) >= count else []

        return sorted(
            until(found, "the spans are there"), key=lambda span: span.start_time_unix_nano
        )

    def _traces(self) -> list[ExportTraceServiceRequest]:
        return [ExportTraceServiceRequest.FromString(body) for body in self.bodies["/v1/traces"]]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()


def _handler(bodies: dict[str, list[bytes]], keys: set[str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            bodies[self.path].append(body)
            keys.add(self.headers.get("x-key", ""))
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    return Handler


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(OpenAIWire()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    open_gateway: OpenGateway, collector: Collector, server: ModelServer
) -> Iterator[RunningGateway]:
    with open_gateway(
        variables={**reach("openai", server), **VARIABLES},
        otel_endpoint=collector.url,
        tools="all",
        memory_writer_enabled=False,
    ) as running:
        yield running


def asked_of(span: Span) -> dict[str, Any]:
    return {
        each.key: getattr(each.value, str(each.value.WhichOneof("value")))
        for each in span.attributes
    }


def test_a_prompts_run_is_a_tree_in_its_callers_trace(
    gateway: RunningGateway, collector: Collector, server: ModelServer
) -> None:
    write = '{"path": "a.txt", "content": "tool-canary"}'
    server.reply(
        [Ask("t1", "write", [write]), Finish("tool_use")], [Say(["answer-canary"]), Finish()]
    )
    answer = gateway.post(
        "/sessions/traced/messages",
        {"text": "prompt-canary"},
        traceparent=CALLER,
        tracestate="rojo=1, congo=t61rcWkgMzE",
    )
    assert answer.body["response"] == "answer-canary"
    run, first, tool, second = collector.of(TRACE_ID, 4)
    model = server.requests[0].body["model"]
    assert [each.name for each in (run, first, tool, second)] == [
        "invoke_agent helper",
        f"chat {model}",
        "execute_tool write",
        f"chat {model}",
    ]
    assert run.parent_span_id.hex() == CALLER_ID
    assert {each.parent_span_id for each in (first, tool, second)} == {run.span_id}
    assert asked_of(first)["gen_ai.provider.name"] == "openai"
    assert asked_of(first)["gen_ai.response.id"] == "r1"
    assert asked_of(first)["server.address"] == "127.0.0.1"
    assert server.url.startswith(f"http://127.0.0.1:{asked_of(first)['server.port']}")
    assert asked_of(run)["gen_ai.conversation.id"] == "traced"
    assert server.requests[0].headers["traceparent"] == f"00-{TRACE_ID}-{first.span_id.hex()}-01"
    state = "rojo=1,congo=t61rcWkgMzE"
    assert server.requests[0].headers["tracestate"] == state
    assert {each.trace_state for each in (run, first, tool, second)} == {state}
    for resource in collector.resources:
        assert resource["service.name"] == "helper"
        assert resource["service.instance.id"]
        assert resource["deployment.environment.name"] == "test"
    assert collector.keys == {"secret"}
    assert not any(b"canary" in body for body in collector.bodies["/v1/traces"])


def test_the_events_that_a_request_led_to_name_its_trace(gateway: RunningGateway) -> None:
    headers = {"traceparent": CALLER, "tracestate": "not one"}
    gateway.request("PATCH", "/sessions/traced", b'{"name": "n"}', headers=headers)
    stored = stored_events(gateway.folder, "traced")
    named = {each.type for each in stored if CALLER.encode() in (each.payload or b"")}
    assert {"session.created", "prompt.queued", "session.renamed"} <= named
    assert "run.completed" not in named  # nobody asked for it directly
    stated = {each.type for each in stored if b'"tracestate":"rojo=1,' in (each.payload or b"")}
    assert "prompt.queued" in stated
    assert "session.renamed" not in stated


def test_a_problem_names_its_trace(gateway: RunningGateway) -> None:
    problem = gateway.get("/sessions/nobody", traceparent=CALLER)
    assert problem.body["trace_id"] == TRACE_ID
    assert f"trace={TRACE_ID}" in str(gateway.get("/logs").body)
    began = gateway.get("/sessions/nobody", traceparent="00-nonsense").body["trace_id"]
    assert len(bytes.fromhex(began)) == 16
    assert began != TRACE_ID


def test_a_run_that_fails_is_an_error_that_quotes_nobody(
    gateway: RunningGateway, collector: Collector, server: ModelServer
) -> None:
    server.reply(Refuse(400, "error-canary"))
    failing = f"00-{'b' * 32}-{CALLER_ID}-01"
    gateway.post("/sessions/failing/messages", {"text": "x"}, traceparent=failing)
    run, chat = collector.of("b" * 32, 2)
    assert [asked_of(each)["error.type"] for each in (run, chat)] == ["failed", "400"]
    assert [each.status.code for each in (run, chat)] == [Status.STATUS_CODE_ERROR] * 2
    assert not any(b"canary" in body for body in collector.bodies["/v1/traces"])


def test_what_is_not_sent_yet_is_sent_when_the_gateway_stops(
    gateway: RunningGateway, collector: Collector, server: ModelServer
) -> None:
    trace_id = "a" * 32
    server.reply([Say(["bye"]), Finish()])
    gateway.post(
        "/sessions/last/messages", {"text": "x"}, traceparent=f"00-{trace_id}-{CALLER_ID}-01"
    )
    gateway.terminate()
    assert len([each for each in collector.spans if each.trace_id.hex() == trace_id]) == 2
    assert collector.metrics == {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.invoke_agent.duration",
        "gen_ai.execute_tool.duration",
    }
    assert not any(b"canary" in body for body in collector.bodies["/v1/metrics"])


def test_a_collector_that_is_gone_holds_nothing_up(open_gateway: OpenGateway) -> None:
    with open_gateway(otel_endpoint="http://127.0.0.1:9", demo_delay_ms=0) as gateway:
        for number in range(3):
            answer = gateway.post(f"/sessions/s{number}/messages", {"text": "hello"})
            assert answer.body["ok"]
        until(lambda: "/v1/traces" in gateway.log, "it is said")
        gateway.terminate()
        assert gateway.log.count("/v1/traces") == 1


def test_without_a_collector_no_part_of_the_sdk_is_loaded() -> None:
    program = (
        "import sys; from web.settings import Settings;"
        "from web.tracing.telemetry import make_telemetry;"
        "import web.app; make_telemetry(Settings(), 'me');"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_opentelemetrys_own_variables_switch_it_off_and_name_it() -> None:
    settings = load_settings(otel_endpoint="http://localhost:4318")
    off = make_telemetry(settings, "me", {"OTEL_SDK_DISABLED": "True"})
    assert off.tracer is NO_TRACER
    assert service_name(settings, {}) == "sessiond"
    assert service_name(settings, {"OTEL_SERVICE_NAME": "theirs"}) == "theirs"
    named = load_settings(otel_endpoint="http://localhost:4318", otel_service_name="ours")
    assert service_name(named, {"OTEL_SERVICE_NAME": "theirs"}) == "ours"


@pytest.mark.parametrize("exporter", ["otlp", "none"])
def test_a_collector_can_be_sent_spans_only(exporter: str) -> None:
    with Collector() as collector:
        settings = load_settings(otel_endpoint=collector.url)
        telemetry = make_telemetry(settings, "me", {"OTEL_METRICS_EXPORTER": exporter})
        run = Run("p", "test", "tester", 0, 1, 1)
        with telemetry.tracer.run(SessionState("k"), run).tool(ToolCall("c", "act", {})):
            pass
        telemetry.close(30)
        assert [each.name for each in collector.spans] == ["execute_tool act"]
        assert bool(collector.metrics) is (exporter == "otlp")


def test_a_collector_without_the_extra_is_refused_and_said_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = load_settings(otel_endpoint="http://localhost:4318")
    check_telemetry(settings)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)  # as if it were not installed
    with pytest.raises(SettingsError, match=r"install sessiond\[otel\]"):
        check_telemetry(settings)
