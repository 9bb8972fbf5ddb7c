from actors.session import commands as c
from actors.session import events as e
from actors.session.decide_run import OUTCOME_UNKNOWN, TOOL_ABORTED, TOOL_SKIPPED
from actors.session.messages import (
    AssistantMessage,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UserMessage,
)
from actors.session.rejections import KeyReused, QueueFull, SessionExists
from tests.unit.session.specification import Given

CREATED = e.SessionCreated("s1", 1)


def queued(name: str, at: int = 2) -> e.PromptQueued:
    return e.PromptQueued(name, f"text of {name}", "messages", at, principal="gateway")


def started(name: str, at: int) -> tuple[e.Event, ...]:
    return (
        e.RunStarted(name, at),
        e.TurnStarted(1, at),
        e.MessageCompleted(UserMessage((Text(f"text of {name}"),), at)),
    )


def queue(name: str, at: int = 2, queue_max: int = 8) -> c.QueuePrompt:
    return c.QueuePrompt(at, "s1", name, f"text of {name}", "messages", queue_max)


RUNNING = (CREATED, queued("p1"), *started("p1", 2))
STREAMING = (*RUNNING, e.MessageStarted("assistant", 3), e.TextDelta(0, "par"))
CALLING = (
    *RUNNING,
    e.MessageStarted("assistant", 3),
    e.MessageCompleted(AssistantMessage((ToolCall("t1", "bash", {}),), 3, stop_reason="tool_use")),
)
IN_TOOL = (*CALLING, e.ToolStarted("t1", "bash", {}, 4))


def test_a_first_prompt_creates_the_session_and_runs_at_once() -> None:
    Given().when(queue("p1")).then(e.SessionCreated("s1", 2), queued("p1"), *started("p1", 2))


def test_a_prompt_waits_while_another_runs() -> None:
    Given(*RUNNING).when(queue("p2", 5)).then(queued("p2", 5))


def test_a_prompt_is_refused_when_the_queue_is_full() -> None:
    Given(*RUNNING, queued("p2"), queued("p3")).when(queue("p4", queue_max=2)).then_rejected(
        QueueFull, r"^Queue full \(2 pending\)\.$"
    )


def test_an_idle_session_takes_a_prompt_even_without_a_queue() -> None:
    Given(CREATED).when(queue("p1", queue_max=0)).then(queued("p1"), *started("p1", 2))


def test_a_process_that_stops_queues_a_prompt_without_starting_it() -> None:
    Given(CREATED).when(queue("p1"), hold=True).then(queued("p1"))


def test_creating_an_existing_session_changes_nothing() -> None:
    Given(CREATED).when(c.CreateSession(5, "other")).then()


def test_the_first_deltas_begin_the_message() -> None:
    delta = e.TextDelta(0, "a")
    Given(*RUNNING).when(c.StartMessage(3, "p1", (delta,))).then(
        e.MessageStarted("assistant", 3), delta
    )


def test_an_answer_without_tool_calls_completes_the_run_and_starts_the_next() -> None:
    answer = AssistantMessage((Text("partial"),), 4, usage=Usage(3, 2))
    Given(*STREAMING, queued("p2")).when(
        c.CompleteMessage(4, "p1", (e.TextDelta(0, "tial"),), answer)
    ).then(
        e.TextDelta(0, "tial"),
        e.MessageCompleted(answer),
        e.TurnEnded(1, "stop", 4, Usage(3, 2)),
        e.RunCompleted("p1", 4),
        *started("p2", 4),
    )


def test_an_answer_that_came_without_deltas_is_announced_before_it_is_complete() -> None:
    answer = AssistantMessage((), 4)
    Given(*RUNNING).when(c.CompleteMessage(4, "p1", (), answer)).then(
        e.MessageStarted("assistant", 4),
        e.MessageCompleted(answer),
        e.TurnEnded(1, "stop", 4),
        e.RunCompleted("p1", 4),
    )


def test_an_answer_with_tool_calls_keeps_the_run_going() -> None:
    answer = AssistantMessage((ToolCall("t1", "bash", {}),), 4, stop_reason="tool_use")
    Given(*STREAMING).when(c.CompleteMessage(4, "p1", (), answer)).then(e.MessageCompleted(answer))


def test_a_tools_result_is_a_message_that_is_announced() -> None:
    content = (Text("no"),)
    Given(*IN_TOOL).when(c.CompleteTool(5, "p1", "t1", "bash", "error", content)).then(
        e.ToolCompleted("t1", "bash", "error", content, 5),
        e.MessageStarted("toolResult", 5, "t1"),
    )


def test_the_next_turn_ends_the_one_before() -> None:
    answer = AssistantMessage((), 3, stop_reason="tool_use", usage=Usage(1, 1))
    Given(*CALLING).when(c.NextTurn(6, "p1", answer)).then(
        e.TurnEnded(1, "tool_use", 6, Usage(1, 1)), e.TurnStarted(2, 6)
    )


def test_an_abort_keeps_the_partial_answer_and_goes_on_with_the_queue() -> None:
    Given(*STREAMING, queued("p2")).when(c.AbortRun(7)).then(
        e.MessageCompleted(AssistantMessage((Text("par"),), 7, stop_reason="aborted")),
        e.TurnEnded(1, "aborted", 7),
        e.RunAborted("p1", 7),
        e.SessionSettled(7),
        *started("p2", 7),
    )


def test_an_abort_of_the_queue_cancels_what_waits() -> None:
    Given(*RUNNING, queued("p2")).when(c.AbortRun(7, queue=True)).then(
        e.PromptCancelled("p2", "aborted", 7),
        e.TurnEnded(1, "aborted", 7),
        e.RunAborted("p1", 7),
        e.SessionSettled(7),
    )


def test_an_abort_closes_a_running_tool() -> None:
    Given(*IN_TOOL).when(c.AbortRun(7)).then(
        e.ToolCompleted("t1", "bash", "aborted", (Text(TOOL_ABORTED),), 7),
        e.MessageStarted("toolResult", 7, "t1"),
        e.TurnEnded(1, "aborted", 7),
        e.RunAborted("p1", 7),
        e.SessionSettled(7),
    )


def test_an_abort_of_an_idle_session_does_nothing() -> None:
    Given(CREATED).when(c.AbortRun(7, queue=True)).then()


def test_after_a_crash_the_tools_outcome_is_unknown_and_the_queue_goes_on() -> None:
    Given(*IN_TOOL, queued("p2")).when(c.InterruptRun(9, "died")).then(
        e.ToolCompleted("t1", "bash", "outcome_unknown", (Text(OUTCOME_UNKNOWN),), 9),
        e.MessageStarted("toolResult", 9, "t1"),
        e.TurnEnded(1, "interrupted", 9),
        e.RunInterrupted("p1", "died", 9),
        e.SessionSettled(9),
        *started("p2", 9),
    )


def test_a_stopping_process_interrupts_its_run_and_leaves_the_queue() -> None:
    Given(*RUNNING, queued("p2")).when(c.InterruptRun(9, "stop"), hold=True).then(
        e.TurnEnded(1, "interrupted", 9), e.RunInterrupted("p1", "stop", 9), e.SessionSettled(9)
    )


def test_a_new_owner_starts_a_prompt_that_was_left_waiting() -> None:
    Given(CREATED, queued("p1")).when(c.InterruptRun(9, "died")).then(*started("p1", 9))


def test_a_failure_keeps_what_had_arrived_but_no_half_tool_call() -> None:
    streamed = (
        *STREAMING,
        e.ThinkingDelta(1, "hm"),
        e.ToolInputDelta(2, "t1", "bash", '{"comm'),
    )
    Given(*streamed).when(c.FailRun(8, "p1", "boom", (e.TextDelta(3, "last"),))).then(
        e.TextDelta(3, "last"),
        e.MessageCompleted(
            AssistantMessage(
                (Text("par"), Thinking("hm"), Text("last")), 8, stop_reason="error", error="boom"
            )
        ),
        e.TurnEnded(1, "error", 8),
        e.RunFailed("p1", "boom", 8),
        e.SessionSettled(8),
    )


def test_reports_of_a_run_that_is_over_change_nothing() -> None:
    for report in (
        c.StartMessage(9, "old", (e.TextDelta(0, "x"),)),
        c.RecordDeltas(9, "old", (e.TextDelta(0, "x"),)),
        c.CompleteMessage(9, "old", (), AssistantMessage((), 9)),
        c.StartTool(9, "old", "t", "bash", {}),
        c.CompleteTool(9, "old", "t", "bash", "ok", ()),
        c.NextTurn(9, "old", AssistantMessage((), 9)),
        c.FailRun(9, "old", "late"),
    ):
        Given(*STREAMING).when(report).then()
        Given(CREATED).when(report).then()


def test_an_import_goes_into_an_empty_session_and_places_its_compactions() -> None:
    message = e.MessageCompleted(UserMessage((Text("hi"),), 1))
    compacted = e.ContextCompacted("so far", 1, 1)
    Given().when(c.ImportSession(4, "s1", "pi", "orig", (message, compacted))).then(
        e.SessionCreated("s1", 4),
        e.SessionImported("pi", "orig", 4),
        message,
        e.ContextCompacted("so far", 3, 1),
    )


def test_an_import_over_a_conversation_is_rejected() -> None:
    Given(*RUNNING).when(c.ImportSession(4, "s1", "pi", "orig", ())).then_rejected(
        SessionExists, "already has messages"
    )


def test_a_session_begins_with_what_a_client_has_unless_it_has_begun() -> None:
    messages = (UserMessage((Text("hi"),), 1), AssistantMessage((Text("ho"),), 2))
    begin = c.BeginFrom(4, "s1", "openai", messages)
    Given().when(begin).then(
        e.SessionCreated("s1", 4),
        e.SessionImported("openai", "", 4),
        *map(e.MessageCompleted, messages),
    )
    Given(*RUNNING).when(begin).then_rejected(SessionExists, "already has messages")


def keyed(name: str, text: str, key: str) -> c.QueuePrompt:
    return c.QueuePrompt(3, "s1", name, text, "messages", 8, idempotency_key=key)


def test_the_same_idempotency_key_is_the_same_prompt() -> None:
    first = Given(CREATED).when(keyed("p1", "text", "key"))
    again = Given(CREATED)
    again.state = first.and_after()
    again.when(keyed("p2", "text", "key")).then()
    again.when(keyed("p2", "other", "key")).then_rejected(KeyReused, "used for another prompt")
    again.when(keyed("p2", "text", "other")).then(
        e.PromptQueued("p2", "text", "messages", 3, idempotency_key="other", principal="gateway")
    )


def test_keys_are_remembered_over_a_reset_but_not_over_a_deletion() -> None:
    kept = e.PromptQueued("p1", "text", "messages", 2, idempotency_key="key", principal="gateway")
    reset = (CREATED, kept, e.SessionReset("s2", 3))
    Given(*reset).when(keyed("p2", "text", "key")).then()
    gone = (CREATED, kept, e.SessionDeleted(3))
    assert Given(*gone).when(keyed("p2", "text", "key")).and_after().run is not None


def test_a_reset_aborts_and_cancels_and_begins_anew() -> None:
    after = Given(*STREAMING, queued("p2")).when(c.ResetSession(7, "s2"))
    after.then(
        e.PromptCancelled("p2", "Session reset", 7),
        e.MessageCompleted(AssistantMessage((Text("par"),), 7, stop_reason="aborted")),
        e.TurnEnded(1, "aborted", 7),
        e.RunAborted("p1", 7),
        e.SessionSettled(7),
        e.SessionReset("s2", 7),
    )
    state = after.and_after()
    assert (state.session_id, state.message_count, state.preview) == ("s2", 0, None)
    assert state.first_seq == state.version
    assert state.created_at == 1


def test_a_deleted_key_starts_empty_when_it_is_used_again() -> None:
    deleted = Given(*RUNNING, queued("p2")).when(c.DeleteSession(7))
    deleted.then(
        e.PromptCancelled("p2", "Session deleted: k", 7),
        e.TurnEnded(1, "aborted", 7),
        e.RunAborted("p1", 7),
        e.SessionSettled(7),
        e.SessionDeleted(7),
    )
    assert not deleted.and_after().exists
    again = Given()
    again.state = deleted.and_after()
    again.when(queue("p3", 8)).then(e.SessionCreated("s1", 8), queued("p3", 8), *started("p3", 8))


def test_only_a_session_that_exists_can_be_changed() -> None:
    for command in (
        c.RenameSession(1, "n"),
        c.ResetSession(1, "s"),
        c.ReloadSession(1),
        c.DeleteSession(1),
        c.SelectModel(1, "p", "m"),
    ):
        Given().when(command).then()


CHOSEN = e.ModelSelected("p", "m", 2, "low")


def test_a_model_is_selected_with_the_thinking_level_there_is() -> None:
    Given(CREATED).when(c.SelectModel(3, "p", "m")).then(e.ModelSelected("p", "m", 3))
    Given(CREATED, CHOSEN).when(c.SelectModel(3, "q", "n")).then(
        e.ModelSelected("q", "n", 3, "low")
    )
    Given(CREATED, CHOSEN).when(c.SelectModel(3, "q", "n", "high")).then(
        e.ModelSelected("q", "n", 3, "high")
    )


def test_a_thinking_level_alone_keeps_the_model_that_was_chosen() -> None:
    alone = c.SelectModel(3, "default", "d", "high", keep=True)
    Given(CREATED).when(alone).then(e.ModelSelected("default", "d", 3, "high"))
    Given(CREATED, CHOSEN).when(alone).then(e.ModelSelected("p", "m", 3, "high"))


def steer(name: str, at: int = 5) -> c.Steer:
    return c.Steer(at, "s1", name, f"text of {name}", "steer", 8)


def test_steering_without_a_run_is_a_prompt() -> None:
    Given(CREATED).when(steer("p1")).then(
        e.PromptQueued("p1", "text of p1", "steer", 5, principal="gateway"), *started("p1", 5)
    )


STEERED = e.SteeringReceived("x1", "text of x1", 5)
TOLD = (
    e.SteeringDelivered("x1", 6),
    e.MessageCompleted(UserMessage((Text("text of x1"),), 6)),
)


def test_steering_waits_for_the_next_model_call() -> None:
    Given(*STREAMING).when(steer("x1")).then(STEERED)


def test_an_answer_without_tools_goes_on_with_what_was_said_to_the_run() -> None:
    answer = AssistantMessage((Text("par"),), 6)
    Given(*STREAMING, STEERED).when(c.CompleteMessage(6, "p1", (), answer)).then(
        e.MessageCompleted(answer), e.TurnEnded(1, "stop", 6), e.TurnStarted(2, 6), *TOLD
    )


def test_steering_skips_the_tools_that_have_not_begun() -> None:
    Given(*CALLING, STEERED).when(c.StartTool(6, "p1", "t1", "bash", {})).then(
        e.ToolCompleted("t1", "bash", "skipped", (Text(TOOL_SKIPPED),), 6),
        e.MessageStarted("toolResult", 6, "t1"),
    )


def test_the_turn_after_tools_is_told_what_was_said() -> None:
    answer = AssistantMessage((), 3, stop_reason="tool_use")
    Given(*CALLING, STEERED).when(c.NextTurn(6, "p1", answer)).then(
        e.TurnEnded(1, "tool_use", 6), e.TurnStarted(2, 6), *TOLD
    )


def test_steering_dies_with_its_run() -> None:
    after = Given(*STREAMING, STEERED).when(c.AbortRun(7)).and_after()
    assert after.steering == ()
