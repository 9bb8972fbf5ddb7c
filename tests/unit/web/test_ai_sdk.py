from actors.session import events as e
from actors.session.messages import AssistantMessage, Block, Text, Thinking, ToolCall, UserMessage
from web.ai_sdk import GATEWAY_TOOL, NOT_RUN, Chunk, UiMessageStream

BEGIN: tuple[e.Event, ...] = (
    e.RunStarted("p1", 1),
    e.TurnStarted(1, 1),
    e.MessageCompleted(UserMessage((Text("hi"),), 1)),
    e.MessageStarted("assistant", 2),
)
START: list[Chunk] = [{"type": "start", "messageId": "p1"}, {"type": "start-step"}]


def answered(*blocks: Block, stop_reason: str = "stop") -> e.MessageCompleted:
    return e.MessageCompleted(AssistantMessage(blocks, 3, stop_reason=stop_reason))


def chunks(*events: e.Event) -> list[Chunk]:
    stream = UiMessageStream("p1")
    return [chunk for event in events for chunk in stream.chunks(event)]


def end(stop_reason: str = "stop") -> tuple[e.Event, ...]:
    return (e.TurnEnded(1, stop_reason, 4), e.RunCompleted("p1", 4))


FINISH: list[Chunk] = [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}]


def test_text_is_opened_streamed_and_closed() -> None:
    assert chunks(
        *BEGIN, e.TextDelta(0, "a "), e.TextDelta(0, "b"), answered(Text("a b")), *end()
    ) == [
        *START,
        {"type": "text-start", "id": "text_0"},
        {"type": "text-delta", "id": "text_0", "delta": "a "},
        {"type": "text-delta", "id": "text_0", "delta": "b"},
        {"type": "text-end", "id": "text_0"},
        *FINISH,
    ]


def test_thinking_is_closed_before_text_begins() -> None:
    assert chunks(
        *BEGIN, e.ThinkingDelta(0, "hm"), e.TextDelta(1, "a"), answered(Thinking("hm"), Text("a"))
    )[2:] == [
        {"type": "reasoning-start", "id": "reasoning_0"},
        {"type": "reasoning-delta", "id": "reasoning_0", "delta": "hm"},
        {"type": "reasoning-end", "id": "reasoning_0"},
        {"type": "text-start", "id": "text_1"},
        {"type": "text-delta", "id": "text_1", "delta": "a"},
        {"type": "text-end", "id": "text_1"},
    ]


def test_text_that_was_not_streamed_comes_with_the_whole_message() -> None:
    assert chunks(*BEGIN, e.TextDelta(0, "a"), answered(Text("abc"), Text("d")))[2:] == [
        {"type": "text-start", "id": "text_0"},
        {"type": "text-delta", "id": "text_0", "delta": "a"},
        {"type": "text-delta", "id": "text_0", "delta": "bc"},
        {"type": "text-end", "id": "text_0"},
        {"type": "text-start", "id": "text_1"},
        {"type": "text-delta", "id": "text_1", "delta": "d"},
        {"type": "text-end", "id": "text_1"},
    ]


def test_text_without_words_opens_and_closes() -> None:
    assert chunks(*BEGIN, answered(Text("")))[2:] == [
        {"type": "text-start", "id": "text_0"},
        {"type": "text-end", "id": "text_0"},
    ]


def test_a_failed_tool_is_an_output_error_of_a_known_call() -> None:
    call = ToolCall("t1", "bash", {"command": "pwd"})
    names = {"toolCallId": "t1", "toolName": "bash", **GATEWAY_TOOL}
    assert chunks(
        *BEGIN,
        e.ToolInputDelta(0, "t1", "bash", '{"command":'),
        answered(call, stop_reason="tool_use"),
        e.ToolStarted("t1", "bash", {}, 4),
        e.ToolCompleted("t1", "bash", "error", (Text("no"),), 5),
        e.MessageStarted("toolResult", 5, "t1"),
        e.TurnEnded(1, "tool_use", 5),
        e.TurnStarted(2, 5),
    )[2:] == [
        {"type": "tool-input-start", **names},
        {"type": "tool-input-delta", "toolCallId": "t1", "inputTextDelta": '{"command":'},
        {"type": "tool-input-available", **names, "input": {"command": "pwd"}},
        {"type": "tool-output-error", "toolCallId": "t1", "errorText": "no", **GATEWAY_TOOL},
        {"type": "finish-step"},
        {"type": "start-step"},
    ]


def test_a_tools_output_is_its_whole_result() -> None:
    output = chunks(
        *BEGIN,
        answered(ToolCall("t1", "bash", {})),
        e.ToolCompleted("t1", "bash", "ok", (Text("x"),), 5, {"exit": 0}),
    )[-1]
    assert output["type"] == "tool-output-available"
    assert output["output"] == {"content": (Text("x"),), "details": {"exit": 0}}


def test_an_abort_closes_what_is_open() -> None:
    assert chunks(
        *BEGIN,
        e.TextDelta(0, "a"),
        e.ToolInputDelta(1, "t1", "bash", "{"),
        answered(Text("a"), stop_reason="aborted"),
        e.TurnEnded(1, "aborted", 4),
        e.RunAborted("p1", 4),
        e.SessionSettled(4),
    )[-4:] == [
        {"type": "tool-input-delta", "toolCallId": "t1", "inputTextDelta": "{"},
        {
            "type": "tool-input-error",
            "toolCallId": "t1",
            "toolName": "bash",
            "input": "{",
            "errorText": NOT_RUN,
            **GATEWAY_TOOL,
        },
        {"type": "finish-step"},
        {"type": "abort"},
    ]


def test_a_failure_is_an_error_and_the_last_chunk() -> None:
    failed = (e.TurnEnded(1, "error", 4), e.RunFailed("p1", "boom", 4), e.SessionSettled(4))
    assert chunks(*BEGIN[:3], *failed) == [
        *START,
        {"type": "finish-step"},
        {"type": "error", "errorText": "boom"},
    ]


def test_reasons_to_finish_are_spelled_as_the_client_wants_them() -> None:
    for ours, theirs in [
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_use", "stop"),
    ]:
        finish = chunks(*BEGIN, answered(stop_reason=ours), *end())[-1]
        assert finish == {"type": "finish", "finishReason": theirs}


def test_what_belongs_to_other_prompts_is_not_shown() -> None:
    other = (
        e.RunStarted("p0", 1),
        e.TurnStarted(1, 1),
        e.TextDelta(0, "x"),
        e.RunCompleted("p0", 1),
    )
    assert chunks(*other, *BEGIN[:1]) == START[:1]


def test_a_prompt_that_is_cancelled_while_it_waits_is_an_abort() -> None:
    assert chunks(e.PromptCancelled("p1", "aborted", 1)) == [{"type": "abort"}]
