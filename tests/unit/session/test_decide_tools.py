"""Approvals, retries, progress and compaction, as decisions."""

from typing import Any

from actors.session import commands as c
from actors.session import events as e
from actors.session.decide import NOBODY_ANSWERED
from actors.session.decide_run import RUN_ENDED, TOOL_SKIPPED
from actors.session.evolve import fold
from actors.session.messages import AssistantMessage, Image, Text, Thinking, ToolCall, UserMessage
from actors.session.rejections import ApprovalAnswered, ApprovalNotFound, ContextChanged, KeyReused
from actors.session.state import SessionState
from tests.unit.session.specification import Given
from tests.unit.session.test_decide import CALLING, CREATED, IN_TOOL, RUNNING, STREAMING, queued

BOTH = AssistantMessage(
    (ToolCall("t1", "bash", {"command": "a"}), ToolCall("t2", "bash", {"command": "b"})),
    3,
    stop_reason="tool_use",
)
CALLING_BOTH = (*RUNNING, e.MessageStarted("assistant", 3), e.MessageCompleted(BOTH))


def request(number: int) -> c.ToolRequest:
    return c.ToolRequest(f"a{number}", f"t{number}", "bash", {"command": "x"}, "rule 1")


def requested(number: int, at: int = 5, expires_at: int = 99) -> e.ApprovalRequested:
    return e.ApprovalRequested(
        f"a{number}", f"t{number}", "bash", {"command": "x"}, "rule 1", at, expires_at
    )


def resolved(number: int, at: int, reason: str = "", *, approved: bool) -> e.ApprovalResolved:
    return e.ApprovalResolved(f"a{number}", f"t{number}", approved, reason, at)


def answer(number: int, at: int = 8, *, approved: bool = True) -> c.ResolveApproval:
    return c.ResolveApproval(at, f"a{number}", approved)


WAITING = (*CALLING_BOTH, requested(1), requested(2))


def test_all_calls_of_a_turn_are_asked_about_at_once() -> None:
    command = c.RequestApprovals(5, "p1", (request(1), request(2)), 99)
    Given(*CALLING_BOTH).when(command).then(requested(1), requested(2))


def test_a_run_waits_until_every_approval_is_answered() -> None:
    state = fold(SessionState("k"), WAITING)
    assert [each.approval_id for each in state.pending] == ["a1", "a2"]
    state = fold(state, [resolved(1, 8, approved=True)])
    assert [each.approval_id for each in state.pending] == ["a2"]
    assert state.resumable


def test_the_time_that_a_run_waits_is_counted_once() -> None:
    answers = (resolved(1, 8, approved=True), resolved(2, 25, approved=False))
    state = fold(SessionState("k"), (*WAITING, *answers))
    assert state.run is not None
    assert state.run.waited_ms == 20


def test_an_approved_call_starts() -> None:
    Given(*WAITING, resolved(1, 8, approved=True)).when(
        c.StartTool(9, "p1", "t1", "bash", {"command": "x"})
    ).then(e.ToolStarted("t1", "bash", {"command": "x"}, 9))


def test_a_denied_call_does_not_start_and_the_model_is_told_why() -> None:
    Given(*WAITING, resolved(1, 8, "too risky", approved=False)).when(
        c.StartTool(9, "p1", "t1", "bash", {"command": "x"})
    ).then(
        e.ToolCompleted(
            "t1", "bash", "denied", (Text("The call was not approved: too risky."),), 9
        ),
        e.MessageStarted("toolResult", 9, "t1"),
    )


def test_a_call_that_nobody_has_answered_does_not_start() -> None:
    assert not any(
        isinstance(event, e.ToolStarted)
        for event in Given(*WAITING).when(c.StartTool(9, "p1", "t1", "bash", {})).events
    )


def test_the_same_answer_again_changes_nothing() -> None:
    Given(*WAITING, resolved(1, 8, approved=True)).when(answer(1)).then()


def test_another_answer_is_refused() -> None:
    Given(*WAITING, resolved(1, 8, approved=True)).when(answer(1, approved=False)).then_rejected(
        ApprovalAnswered, "was approved before"
    )


def test_an_answer_to_what_nobody_asked_is_refused() -> None:
    Given(*WAITING).when(answer(7)).then_rejected(ApprovalNotFound, "'a7'")


def test_what_nobody_answers_in_time_is_denied() -> None:
    late = (*CALLING_BOTH, requested(1, expires_at=10), requested(2, expires_at=50))
    Given(*late).when(c.ExpireApprovals(10)).then(resolved(1, 10, NOBODY_ANSWERED, approved=False))


def test_steering_denies_what_waits_and_comes_first() -> None:
    Given(*WAITING).when(c.Steer(7, "s1", "q1", "wait!", "steer", 8)).then(
        e.SteeringReceived("q1", "wait!", 7),
        resolved(1, 7, TOOL_SKIPPED, approved=False),
        resolved(2, 7, TOOL_SKIPPED, approved=False),
    )


def test_nothing_is_asked_once_somebody_has_steered() -> None:
    command = c.RequestApprovals(5, "p1", (request(1),), 99)
    Given(*CALLING_BOTH, e.SteeringReceived("q1", "wait!", 4)).when(command).then(
        e.ToolCompleted("t1", "bash", "skipped", (Text(TOOL_SKIPPED),), 5),
        e.MessageStarted("toolResult", 5, "t1"),
    )


def test_an_abort_denies_what_waits() -> None:
    Given(*WAITING).when(c.AbortRun(9)).then(
        resolved(1, 9, RUN_ENDED, approved=False),
        resolved(2, 9, RUN_ENDED, approved=False),
        e.TurnEnded(1, "aborted", 9),
        e.RunAborted("p1", 9),
        e.SessionSettled(9),
    )


def test_a_run_with_a_tool_in_progress_can_not_be_resumed() -> None:
    assert not fold(SessionState("k"), IN_TOOL).resumable
    started = e.ToolStarted("t1", "bash", {}, 9)
    history = (*WAITING, resolved(1, 8, approved=True), resolved(2, 8, approved=True), started)
    assert not fold(SessionState("k"), history).resumable


def test_progress_is_kept_while_the_tool_runs_only() -> None:
    command = c.ProgressTool(6, "p1", "t1", "bash", "line")
    Given(*IN_TOOL).when(command).then(e.ToolProgressed("t1", "bash", "line", 6))
    Given(*CALLING).when(command).then()


def test_a_call_that_is_made_again_keeps_what_had_arrived() -> None:
    command = c.RetryTurn(6, "p1", 2, "cut off", 1_000, (e.TextDelta(0, "tial"),))
    Given(*STREAMING).when(command).then(
        e.TextDelta(0, "tial"),
        e.MessageCompleted(
            AssistantMessage((Text("partial"),), 6, stop_reason="retried", error="cut off")
        ),
        e.TurnRetried(1, 2, "cut off", 1_000, 6),
    )


def test_a_call_that_never_began_to_answer_leaves_no_message() -> None:
    Given(*RUNNING).when(c.RetryTurn(6, "p1", 2, "429", 10)).then(e.TurnRetried(1, 2, "429", 10, 6))


def test_a_retry_that_comes_after_the_run_changes_nothing() -> None:
    Given(CREATED).when(c.RetryTurn(6, "p1", 2, "429", 10)).then()


COMPACTION = c.Compaction("what was said", 7, "asked", 1_000)


def test_a_summary_takes_the_place_of_older_messages() -> None:
    Given(CREATED).when(c.CompactContext(9, COMPACTION, context_seq=1)).then(
        e.ContextCompacted("what was said", 7, 9, "asked", 1_000)
    )


def test_a_summary_of_a_context_that_has_changed_is_refused() -> None:
    compacted = e.ContextCompacted("earlier", 5, 8)
    Given(CREATED, compacted).when(c.CompactContext(9, COMPACTION, 1)).then_rejected(
        ContextChanged, "has changed"
    )


def test_a_prompt_s_pictures_reach_the_model_s_message() -> None:
    picture = Image("image/png", "QUJD")
    command = c.QueuePrompt(2, "s1", "p1", "look", "chat", 8, images=(picture,))
    events = Given(CREATED).when(command).events
    assert events[0] == e.PromptQueued(
        "p1", "look", "chat", 2, principal="gateway", images=(picture,)
    )
    assert events[-1] == e.MessageCompleted(UserMessage((picture, Text("look")), 2))


def test_the_same_text_with_another_picture_is_another_prompt() -> None:
    def ask(name: str, data: str) -> Any:
        image = (Image("image/png", data),)
        return c.QueuePrompt(2, "s1", name, "x", "chat", 8, idempotency_key="k", images=image)

    first = Given(CREATED).when(ask("p1", "QUJD")).events
    assert Given(CREATED, *first).when(ask("p2", "QUJD")).events == ()
    Given(CREATED, *first).when(ask("p3", "REVG")).then_rejected(KeyReused, "used for another")


def test_thinking_that_broke_off_is_kept_too() -> None:
    history = (*RUNNING, queued("p2"), e.MessageStarted("assistant", 3), e.ThinkingDelta(0, "hm"))
    events = Given(*history).when(c.RetryTurn(6, "p1", 2, "cut", 5)).events
    assert isinstance(events[0], e.MessageCompleted)
    assert events[0].message.content == (Thinking("hm"),)
