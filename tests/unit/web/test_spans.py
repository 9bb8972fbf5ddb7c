"""What a run's spans are, by the OpenTelemetry conventions, and that they form one tree."""

import pytest
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanKind

from actors.models.base import ModelError, ModelRequest
from actors.session import commands as c
from actors.session import events as e
from actors.tools.base import ToolContext, ToolError, ToolResult
from actors.tools.policy import ToolRule
from persistence.in_memory import InMemoryEventLog
from tests.unit.actors.test_model_calls import Scripted, answer, use
from tests.unit.actors.tools import Calling, Held
from tests.unit.actors.world import eventually
from tests.unit.web.traced import (
    ASKED,
    CALLER_ID,
    TRACE_ID,
    UNSAMPLED,
    USAGE,
    Trace,
    attributes,
    id_of,
    parent_of,
    state_of,
    trace_of,
)


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
