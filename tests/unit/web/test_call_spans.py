"""What spans and measurements of model and tool calls say, and what they don't."""

import json

import pytest
from msgspec.structs import replace
from opentelemetry.trace import SpanKind

from actors.models.base import Finished, ModelError, Response
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    ToolCall,
    UserMessage,
)
from actors.tools.base import ToolContext, ToolError, ToolResult, said
from tests.unit.actors.test_model_calls import Scripted, answer, use
from tests.unit.actors.tools import Calling
from tests.unit.web.traced import (
    ASKED,
    TRACE_ID,
    USAGE,
    Trace,
    attributes,
    id_of,
)
from web.tracing.call_spans import about_server
from web.tracing.content import input_messages


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
