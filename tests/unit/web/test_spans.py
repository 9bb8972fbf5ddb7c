"""What a run's spans are, by the OpenTelemetry conventions, and that they form one tree."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from actors.models.base import Finished, ModelError, ModelRequest, Response
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    ToolCall,
    Usage,
    UserMessage,
)
from actors.tools.base import ToolContext, ToolError, ToolResult, said
from actors.tools.policy import ToolRule
from persistence.in_memory import InMemoryEventLog
from tests.unit.actors.test_model_calls import Scripted, answer, use
from tests.unit.actors.tools import Calling, Held
from tests.unit.actors.world import World, eventually
from web.call_spans import about_server
from web.span_content import input_messages
from web.spans import ChosenIds, SpanTracer

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


@pytest.fixture
def trace(tmp_path: Path) -> Iterator[Trace]:
    made: list[Traced] = []

    def traced(sampler: Sampler | None = None, *, content: bool = False) -> Traced:
        made.append(Traced(tmp_path, sampler, content=content))
        return made[-1]

    yield traced
    for each in made:
        each.close()


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


def test_a_run_with_a_tool_is_one_tree_below_the_caller(trace: Trace) -> None:
    traced = trace()
    watch = traced.world(Calling("act")).prompt("k", '!act {"n": 7}', request=ASKED)
    ended = watch.until("run.completed")
    run = traced.run()
    assert [span.name for span in traced.spans] == [
        "chat echo",
        "execute_tool act",
        "chat echo",
        "invoke_agent agent",
    ]
    assert {trace_of(span) for span in traced.spans} == {TRACE_ID}
    assert parent_of(run) == int(CALLER_ID, 16)
    assert [parent_of(span) for span in traced.spans[:-1]] == [id_of(run)] * 3
    started = watch.until("run.started").event
    assert run.start_time == started.at * 1_000_000  # type: ignore[attr-defined]
    assert run.end_time == ended.event.at * 1_000_000  # type: ignore[attr-defined]


def test_a_runs_span_says_what_the_conventions_ask_for(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    use(world, Scripted([answer("hi", usage=USAGE)]))
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    run = traced.run()
    assert run.kind is SpanKind.INTERNAL
    assert run.status.is_unset
    told = attributes(run)
    assert told["gen_ai.operation.name"] == "invoke_agent"
    assert told["gen_ai.agent.name"] == "agent"
    assert told["gen_ai.provider.name"] == "demo"
    assert told["gen_ai.request.model"] == "echo"
    assert told["gen_ai.conversation.id"] == "k"
    assert told["sessiond.session.id"] == "id of k"
    assert told["sessiond.run.outcome"] == "completed"
    assert told["gen_ai.usage.input_tokens"] == 15
    assert told["gen_ai.usage.output_tokens"] == 5


def test_a_model_calls_span_says_what_the_conventions_ask_for(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    model = use(world, Scripted([e.TextDelta(0, "h"), answer("hi", usage=USAGE)]))
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    (chat,) = traced.named("chat scripted")
    assert chat.kind is SpanKind.CLIENT
    told = dict(attributes(chat))
    assert told.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.request.stream": True,
        "gen_ai.conversation.id": "k",
        "gen_ai.response.model": "scripted",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 15,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.cache_creation.input_tokens": 2,
        "sessiond.model.attempt": 1,
    }
    assert model.requests[0].traceparent == f"00-{TRACE_ID}-{id_of(chat):016x}-01"
    assert model.requests[0].tracestate == "vendor=1"


def test_a_model_calls_span_says_what_its_provider_said_and_where_it_is(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    said_back = Response("resp-1", "scripted-2026", 3)
    model = use(world, Scripted([replace(answer("hi", usage=USAGE), response=said_back)]))
    model.address = "https://user:canary@models.example/v1?key=canary"
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    (chat,) = traced.named("chat scripted")
    told = attributes(chat)
    assert told["gen_ai.response.id"] == "resp-1"
    assert told["gen_ai.response.model"] == "scripted-2026"
    assert told["gen_ai.usage.reasoning.output_tokens"] == 3
    assert (told["server.address"], told["server.port"]) == ("models.example", 443)
    assert "canary" not in chat.to_json()
    (duration,) = traced.measured("gen_ai.client.operation.duration")
    assert duration.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "scripted",
        "gen_ai.response.model": "scripted-2026",
        "server.address": "models.example",
        "server.port": 443,
    }


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("", {}),
        ("http://localhost:11434/v1", {"server.address": "localhost", "server.port": 11434}),
        ("http://[::1]/v1", {"server.address": "::1", "server.port": 80}),
        ("https://models.example", {"server.address": "models.example", "server.port": 443}),
    ],
)
def test_a_server_is_its_host_and_its_port(address: str, server: dict[str, object]) -> None:
    assert about_server(address) == server


def test_runs_tools_and_first_chunks_are_measured_in_the_buckets_of_the_conventions(
    trace: Trace,
) -> None:
    traced = trace()

    def refuse(_arguments: object, _context: ToolContext) -> ToolResult:
        raise ToolError("Not on a Sunday.")

    world = traced.world(Calling("act", refuse))
    world.prompt("k", '!act {"n": 7}', request=ASKED).until("run.completed")
    run = traced.run()
    (ended,) = traced.measured("gen_ai.invoke_agent.duration")
    assert ended.attributes == {"gen_ai.agent.name": "agent"}
    assert ended.sum == pytest.approx((run.end_time - run.start_time) / 1e9)  # type: ignore[operator]
    assert (ended.explicit_bounds[0], ended.explicit_bounds[-1]) == pytest.approx((0.1, 409.6))
    (tool,) = traced.measured("gen_ai.execute_tool.duration")
    assert tool.attributes == {
        "gen_ai.tool.name": "act",
        "gen_ai.tool.type": "function",
        "gen_ai.agent.name": "agent",
        "error.type": "tool_error",
    }
    (first,) = traced.measured("gen_ai.client.operation.time_to_first_chunk")
    assert first.count == 2
    for each in (tool, first):
        bounds = each.explicit_bounds
        assert (bounds[0], bounds[-1], len(bounds)) == pytest.approx((0.01, 81.92, 14))


def test_each_attempt_of_a_model_call_is_a_span_and_a_failed_one_says_how(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    cut = ModelError("the secret cut off", status=529, retryable=True)
    use(world, Scripted([e.TextDelta(0, "par"), cut], [answer("whole", usage=USAGE)]))
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    traced.run()
    first, second = traced.named("chat scripted")
    assert attributes(first)["error.type"] == "529"
    assert not first.status.is_ok
    assert first.status.description is None
    assert [attributes(each)["sessiond.model.attempt"] for each in (first, second)] == [1, 2]
    assert second.status.is_unset
    durations = traced.measured("gen_ai.client.operation.duration")
    assert sorted(point.attributes.get("error.type", "") for point in durations) == ["", "529"]
    tokens = traced.measured("gen_ai.client.token.usage")
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in tokens} == {
        "input": 15,
        "output": 5,
    }


def test_a_run_that_fails_says_so_without_quoting_anything(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    use(world, Scripted([ModelError("the secret reason")]))
    world.prompt("k", "hello", request=ASKED).until("run.failed")
    run = traced.run()
    assert attributes(run)["error.type"] == "failed"
    assert attributes(run)["sessiond.run.outcome"] == "failed"
    assert not any("secret" in span.to_json() for span in traced.spans)


def test_a_tool_that_fails_is_an_error_and_its_trace_goes_on_elsewhere(trace: Trace) -> None:
    traced = trace()
    seen: list[str] = []

    def refuse(_arguments: object, context: ToolContext) -> ToolResult:
        seen.extend([context.traceparent, context.tracestate])
        raise ToolError("Not on a Sunday.")

    world = traced.world(Calling("act", refuse))
    world.prompt("k", '!act {"n": 7}', request=ASKED).until("run.completed")
    (tool,) = traced.named("execute_tool act")
    told = attributes(tool)
    assert told["error.type"] == "tool_error"
    assert told["gen_ai.tool.name"] == "act"
    assert told["gen_ai.operation.name"] == "execute_tool"
    assert told["gen_ai.tool.type"] == "function"
    assert told["gen_ai.conversation.id"] == "k"
    assert told["gen_ai.tool.call.id"]
    assert seen == [f"00-{TRACE_ID}-{id_of(tool):016x}-01", "vendor=1"]


def test_nothing_that_anybody_said_is_in_a_span_unless_it_is_wanted(trace: Trace) -> None:
    traced = trace()
    world = traced.world(Calling("act", lambda _arguments, _context: said("tool-canary")))
    world.settings.system_prompt = "system-canary"
    watch = world.prompt("k", '!act {"n": 7, "x": "prompt-canary"}', request=ASKED)
    watch.until("run.completed")
    traced.run()
    assert "canary" not in "".join(span.to_json() for span in traced.spans)


def test_content_that_is_wanted_has_the_shape_of_the_conventions(trace: Trace) -> None:
    traced = trace(content=True)
    world = traced.world(Calling("act"))
    world.settings.system_prompt = "Be brief."
    call = ToolCall("c1", "act", {"n": 7})
    asking = Finished(AssistantMessage((call,), 0, "scripted", "scripted", "tool_use"))
    use(world, Scripted([asking], [answer("done")]))
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    first, second = traced.named("chat scripted")
    tool_call = {"type": "tool_call", "id": "c1", "name": "act", "arguments": {"n": 7}}
    assert json.loads(attributes(first)["gen_ai.output.messages"]) == [
        {"role": "assistant", "parts": [tool_call], "finish_reason": "tool_call"}
    ]
    result = [{"type": "text", "content": "did 7"}]
    assert json.loads(attributes(second)["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "hello"}]},
        {"role": "assistant", "parts": [tool_call]},
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "c1", "response": result}],
        },
    ]
    (system,) = json.loads(attributes(first)["gen_ai.system_instructions"])
    assert system["content"].startswith("Be brief.")
    (tool,) = traced.named("execute_tool act")
    assert json.loads(attributes(tool)["gen_ai.tool.call.arguments"]) == {"n": 7}
    assert json.loads(attributes(tool)["gen_ai.tool.call.result"]) == result


def test_a_run_that_waits_for_approval_in_one_process_and_ends_in_another_is_one_tree(
    trace: Trace,
) -> None:
    traced, log = trace(), InMemoryEventLog()
    rules = [ToolRule("act", "ask")]
    first = traced.world(Calling("act"), log=log, rules=rules, owner="one")
    first.prompt("k", '!act {"n": 7}', request=ASKED).until("approval.requested")
    first.registry.upkeep.drain(0)
    second = traced.world(Calling("act"), log=log, rules=rules, owner="two")
    (approval,) = second.registry.state("k").pending
    approved = e.Request("r2", trace="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    at = 9_000_000_000_000
    second.registry.ask("k", c.ResolveApproval(at, approval.approval_id, True, request=approved))
    run = traced.run()
    (waited,) = traced.named("wait_for_approval act")
    assert waited.start_time == approval.requested_at * 1_000_000
    assert waited.end_time == 9_000_000_000_000 * 1_000_000
    assert attributes(waited)["sessiond.approval.approved"] is True
    (link,) = waited.links  # to whoever approved, in a trace of their own
    assert link.context.trace_id == int("a" * 32, 16)
    assert link.context.span_id == int("b" * 16, 16)
    assert {trace_of(span) for span in traced.spans} == {TRACE_ID}
    assert {state_of(span) for span in traced.spans} == {"vendor=1"}
    assert [parent_of(span) for span in traced.spans if span is not run] == [id_of(run)] * 4


def test_the_trace_of_a_queued_prompt_is_its_own(trace: Trace) -> None:
    traced = trace()
    held = Held()
    world = traced.world(held)
    world.prompt("k", "!hold {}", request=ASKED)
    assert held.begun.wait(10)
    later = e.Request("r2", trace="00-" + "a" * 32 + "-" + "b" * 16 + "-01", tracestate="other=2")
    watch = world.prompt("k", "later", request=later)
    held.release.set()
    watch.until("run.completed")
    eventually(lambda: len(traced.named("invoke_agent agent")) == 2)
    first, second = traced.named("invoke_agent agent")
    assert (trace_of(first), trace_of(second)) == (TRACE_ID, "a" * 32)
    assert parent_of(second) == int("b" * 16, 16)
    assert [state_of(each) for each in (first, second)] == ["vendor=1", "other=2"]


@pytest.mark.parametrize("request_", [e.Request("r1", trace=TRACE_ID), None])
def test_a_trace_that_begins_here_has_the_run_as_its_root(
    trace: Trace, request_: e.Request | None
) -> None:
    traced = trace()
    traced.world().prompt("k", "hello", request=request_).until("run.completed")
    run = traced.run()
    assert parent_of(run) is None
    assert len({trace_of(span) for span in traced.spans}) == 1
    assert request_ is None or trace_of(run) == TRACE_ID


@pytest.mark.parametrize(
    ("request_", "sampler"),
    [(UNSAMPLED, None), (e.Request("r1", trace="f" * 32), ParentBased(TraceIdRatioBased(0.5)))],
)
def test_a_trace_that_is_not_sampled_leaves_no_span_but_goes_on_as_such(
    trace: Trace, request_: e.Request, sampler: Sampler | None
) -> None:
    traced = trace(sampler)
    world = traced.world()
    model = use(world, Scripted([answer("hi")]))
    world.prompt("k", "hello", request=request_).until("run.completed")
    world.close()
    assert traced.spans == []
    assert model.requests[0].traceparent.endswith("-00")
    assert model.requests[0].tracestate == request_.tracestate


def test_what_is_aborted_ends_its_spans(trace: Trace) -> None:
    traced = trace()
    held = Held()
    world = traced.world(held)
    world.prompt("k", "!hold {}", request=ASKED)
    assert held.begun.wait(10)
    world.registry.ask("k", c.AbortRun(1))
    run = traced.run()
    eventually(lambda: bool(traced.named("execute_tool hold")))
    (tool,) = traced.named("execute_tool hold")
    assert attributes(tool)["error.type"] == "cancelled"
    assert attributes(run)["sessiond.run.outcome"] == "aborted"
    assert run.status.is_unset


def test_a_summary_on_the_way_is_a_model_call_of_the_run(trace: Trace) -> None:
    traced = trace()
    world = traced.world()
    model = use(world, Scripted(summary=answer("short"), context_tokens=300))
    model.calls = [[answer("word " * 60)] for _ in range(6)]
    for number in range(6):
        world.prompt("k", f"question {number} " + "long " * 40, request=ASKED).until(
            "run.completed"
        )
    summaries = [each for each in model.requests if each.system != model.requests[0].system]
    assert summaries
    eventually(lambda: len(traced.named("chat scripted")) == len(model.requests))
    assert all(isinstance(each, ModelRequest) and each.traceparent for each in model.requests)


def test_an_answer_with_text_that_is_too_long_is_told_without_it(trace: Trace) -> None:
    traced = trace(content=True)
    world = traced.world()
    long = Finished(AssistantMessage((Text("x" * 80_000),), 0, "scripted", "scripted"))
    use(world, Scripted([long]))
    world.prompt("k", "hello", request=ASKED).until("run.completed")
    (chat,) = traced.named("chat scripted")
    (told,) = json.loads(attributes(chat)["gen_ai.output.messages"])
    assert told == {"role": "assistant", "parts": [], "finish_reason": "stop"}


def test_a_picture_is_named_and_not_sent() -> None:
    picture = UserMessage((Image("image/png", "picture-canary"), Text("what is it?")), 0)
    (told,) = json.loads(input_messages([picture]))
    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""}
    assert told["parts"] == [blob, {"type": "text", "content": "what is it?"}]
