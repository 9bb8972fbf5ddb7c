"""Runs with tools: what is recorded, in which order, and how each ending is told."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.replay import stream_of
from actors.session import commands as c
from actors.session import events as e
from actors.session.decide import NOBODY_ANSWERED
from actors.session.decide_run import TOOL_SKIPPED
from actors.session.messages import text_of
from actors.session.rejections import ApprovalNotFound
from actors.session.state import Approval
from actors.tools.base import Tool, ToolContext, ToolError, ToolResult, said
from actors.tools.policy import ToolRule
from persistence.in_memory import InMemoryEventLog
from tests.unit.actors.tools import Calling, Held
from tests.unit.actors.world import Watch, World, WorldSettings, eventually

ASK = ToolRule("act", "ask")
Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[World] = []

    def world(*tools: Tool, **options: Any) -> World:
        made.append(World(tools=tools, folder=tmp_path, **options))
        return made[-1]

    yield world
    for each in made:
        each.close()


def results(watch: Watch) -> list[tuple[str, str]]:
    """Return outcome and text of each tool's result so far."""
    return [
        (each.event.outcome, text_of(each.event.content))
        for each in watch.seen
        if isinstance(each.event, e.ToolCompleted)
    ]


def pending(world: World, key: str = "k") -> tuple[Approval, ...]:
    return world.registry.state(key).pending


def resolve(world: World, approval: Approval, *, approved: bool, reason: str = "") -> None:
    world.registry.ask("k", c.ResolveApproval(1, approval.approval_id, approved, reason))


def test_a_tool_is_in_the_log_before_it_acts(make: Make) -> None:
    seen: list[str] = []

    def look(_arguments: object, _context: ToolContext) -> ToolResult:
        head = world.log.head(stream_of("k"))
        assert head is not None
        seen.extend(each.type for each in world.log.read(head))
        return said("looked")

    world = make(Calling("act", look))
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("run.completed")
    assert seen[-1] == "tool.started"
    assert results(watch) == [("ok", "looked")]


def test_the_model_goes_on_with_what_the_tool_answered(make: Make) -> None:
    world = make(Calling("act"))
    watch = world.prompt("k", '!act {"n": 7}')
    completed = watch.until("run.completed")
    assert completed.state.preview == "The tool act answered: did 7"
    assert watch.names.count("turn.started") == 2


def test_calls_that_only_read_run_at_once_and_keep_their_order(make: Make) -> None:
    meeting = threading.Barrier(3)

    def meet(arguments: dict[str, Any], _context: ToolContext) -> ToolResult:
        meeting.wait(10)
        return said(str(arguments["n"]))

    world = make(Calling("look", meet, "read"))
    watch = world.prompt("k", '!look {"n": 1}\n!look {"n": 2}\n!look {"n": 3}')
    watch.until("run.completed")
    assert sorted(results(watch)) == [("ok", "1"), ("ok", "2"), ("ok", "3")]


def test_calls_that_change_something_run_one_after_the_other(make: Make) -> None:
    world = make(Calling("look", effect="read"), Calling("act"))
    watch = world.prompt("k", '!act {"n": 1}\n!look {"n": 2}\n!act {"n": 3}')
    watch.until("run.completed")
    assert [text for _outcome, text in results(watch)] == ["did 1", "did 2", "did 3"]
    tools = [name for name in watch.names if name in ("tool.started", "tool.completed")]
    assert tools == ["tool.started", "tool.completed"] * 3


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ('!act {"n": "one"}', "n: 'one' is not of type 'integer'"),
        ("!act {}", "'n' is a required property"),
        ("!act []", "must be a JSON object"),
        ("!nothing {}", "There is no tool named 'nothing'."),
    ],
)
def test_a_mistake_is_told_to_the_model(make: Make, asked: str, told: str) -> None:
    tool = Calling("act")
    watch = make(tool).prompt("k", asked)
    watch.until("run.completed")
    ((outcome, text),) = results(watch)
    assert outcome == "error"
    assert told in text
    assert tool.calls == []


def failing(_arguments: object, _context: ToolContext) -> ToolResult:
    raise ZeroDivisionError("a secret detail")


def refusing(_arguments: object, _context: ToolContext) -> ToolResult:
    raise ToolError("Not on a Sunday.")


def boasting(_arguments: object, _context: ToolContext) -> ToolResult:
    return said("x" * 3_000, {"unkeepable": object()})


@pytest.mark.parametrize(
    ("act", "outcome", "told"),
    [
        (failing, "error", "The tool act failed: ZeroDivisionError."),
        (refusing, "error", "Not on a Sunday."),
        (boasting, "ok", "1000 characters, is left out"),
    ],
)
def test_whatever_a_tool_does_the_run_goes_on(
    make: Make, act: Callable[..., ToolResult], outcome: str, told: str
) -> None:
    watch = make(Calling("act", act)).prompt("k", '!act {"n": 1}')
    watch.until("run.completed")
    ((found, text),) = results(watch)
    assert found == outcome
    assert told in text
    assert "secret" not in text


def test_a_tool_that_takes_too_long_is_left_to_itself(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.runs.tool_calls.OVERTIME_S", 0.0)
    held = Held()
    world = make(held, settings=WorldSettings(tool_timeout_s=0.05))
    watch = world.prompt("k", "!hold {}")
    watch.until("run.completed")
    assert results(watch) == [("error", "The tool took more than 0.05 s.")]
    assert held.cancelled.wait(10)


def test_an_abort_reaches_the_tool(make: Make) -> None:
    held = Held()
    world = make(held)
    watch = world.prompt("k", "!hold {}")
    assert held.begun.wait(10)
    world.registry.ask("k", c.AbortRun(1))
    watch.until("run.aborted")
    assert held.cancelled.wait(0.2)
    assert [outcome for outcome, _text in results(watch)] == ["aborted"]


def test_steering_skips_the_calls_that_have_not_begun(make: Make) -> None:
    held, later = Held(), Calling("act")
    world = make(held, later)
    watch = world.prompt("k", '!hold {}\n!act {"n": 1}')
    assert held.begun.wait(10)
    world.registry.ask("k", c.Steer(1, "s", "q", "something else", "steer", 8))
    held.release.set()
    watch.until("run.completed")
    assert results(watch) == [("ok", "held"), ("skipped", TOOL_SKIPPED)]
    assert later.calls == []
    delivered = watch.names.index("steering.delivered")
    assert watch.names.index("turn.started", 2) < delivered


def test_progress_is_shown_and_bounded(make: Make) -> None:
    def chat(_arguments: object, context: ToolContext) -> ToolResult:
        for _ in range(100):
            context.report("y" * 100)
        return said("done")

    world = make(Calling("act", chat))
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("run.completed")
    shown = [each.event.text for each in watch.seen if isinstance(each.event, e.ToolProgressed)]
    assert 0 < len("".join(shown)) <= world.settings.tool_output_chars_max
    assert len(shown) < 20


def test_a_call_that_a_rule_denies_does_not_run(make: Make) -> None:
    tool = Calling("act")
    watch = make(tool, rules=[ToolRule("act", "deny")]).prompt("k", '!act {"n": 1}')
    watch.until("run.completed")
    assert results(watch) == [("denied", "Rule 1 says deny to act.")]
    assert tool.calls == []


def test_a_run_waits_for_approval_and_goes_on_once_it_is_given(make: Make) -> None:
    tool = Calling("act")
    world = make(tool, rules=[ASK])
    watch = world.prompt("k", '!act {"n": 1}\n!act {"n": 2}')
    watch.until("approval.requested")
    first, second = pending(world)
    resolve(world, first, approved=True)
    assert tool.calls == []
    resolve(world, second, approved=False, reason="one is enough")
    watch.until("run.completed")
    assert tool.calls == [1]
    assert results(watch) == [
        ("ok", "did 1"),
        ("denied", "The call was not approved: one is enough."),
    ]


def test_an_answer_after_a_restart_lets_the_run_go_on(make: Make) -> None:
    log, tool = InMemoryEventLog(), Calling("act")
    before = make(tool, rules=[ASK], log=log, owner="before")
    before.prompt("k", '!act {"n": 1}').until("approval.requested")
    waiting = before.prompt("k", "next")
    before.close()
    after = make(tool, rules=[ASK], log=log, owner="after")
    after.registry.upkeep.carry_on()
    eventually(lambda: after.registry.state("k").version > 0 and after.registry.count == 1)
    (approval,) = pending(after)
    _, reader = after.registry.reader("k")
    reader.close()
    resolve(after, approval, approved=True)
    eventually(lambda: after.registry.state("k").idle)
    head = log.head(stream_of("k"))
    assert head is not None
    ends = [each.type for each in log.read(head) if each.type.startswith("run.")]
    assert ends == ["run.started", "run.completed"] * 2
    assert tool.calls == [1]
    waiting.close()


def test_an_answer_that_was_given_just_before_the_end_of_the_process_counts(make: Make) -> None:
    log, tool = InMemoryEventLog(), Calling("act")
    before = make(tool, rules=[ASK], log=log, owner="before")
    before.prompt("k", '!act {"n": 1}').until("approval.requested")
    (approval,) = pending(before)
    before.registry.upkeep.draining = True
    resolve(before, approval, approved=True)
    before.close()
    after = make(tool, rules=[ASK], log=log, owner="after")
    after.registry.upkeep.carry_on()
    eventually(lambda: after.registry.state("k").idle)
    assert tool.calls == [1]


def test_what_nobody_answers_is_denied(make: Make) -> None:
    tool = Calling("act")
    world = make(tool, rules=[ASK], settings=WorldSettings(approval_timeout_s=0.01))
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("approval.requested")

    def denied() -> bool:
        world.registry.upkeep.end_overdue()
        return not pending(world)

    eventually(denied)
    watch.until("run.completed")
    assert results(watch) == [("denied", f"The call was not approved: {NOBODY_ANSWERED}.")]


def test_waiting_does_not_count_as_the_run_s_time(make: Make) -> None:
    clock = [1_000_000]
    tool = Calling("act")
    world = make(tool, rules=[ASK], settings=WorldSettings(approval_timeout_s=9_999))
    world.registry._now_ms = lambda: clock[0]
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("approval.requested")
    clock[0] += 1_000 * 1_000
    world.registry.upkeep.end_overdue()
    (approval,) = pending(world)
    world.registry.ask("k", c.ResolveApproval(clock[0], approval.approval_id, approved=True))
    world.registry.upkeep.end_overdue()
    watch.until("run.completed")


def test_steering_ends_the_wait(make: Make) -> None:
    tool = Calling("act")
    world = make(tool, rules=[ASK])
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("approval.requested")
    world.registry.ask("k", c.Steer(1, "s", "q", "never mind", "steer", 8))
    watch.until("run.completed")
    assert results(watch) == [("skipped", TOOL_SKIPPED)]
    assert tool.calls == []


def test_an_abort_ends_the_wait_and_the_answer_comes_too_late(make: Make) -> None:
    world = make(Calling("act"), rules=[ASK])
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("approval.requested")
    (approval,) = pending(world)
    world.registry.ask("k", c.AbortRun(1))
    watch.until("run.aborted")
    with pytest.raises(ApprovalNotFound):
        resolve(world, approval, approved=True)


def test_a_run_that_takes_too_many_turns_fails(make: Make) -> None:
    world = make(Calling("act"), settings=WorldSettings(run_turns_max=1))
    watch = world.prompt("k", '!act {"n": 1}')
    watch.until("run.failed")
    assert watch.names.count("tool.completed") == 1
