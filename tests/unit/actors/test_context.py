from actors.runs.context import NO_RESULT, build_context, estimated_tokens
from actors.session.messages import (
    AssistantMessage,
    Message,
    Text,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)


def user(text: str) -> UserMessage:
    return UserMessage((Text(text),), 1)


def answer(*blocks: Text | ToolCall) -> AssistantMessage:
    return AssistantMessage(blocks, 2)


def context(*messages: Message, tokens: int = 1_000, summary: str = "") -> list[Message]:
    return build_context(reversed(messages), context_tokens=tokens, summary=summary)


def test_messages_come_oldest_first() -> None:
    messages = [user("a"), answer(Text("b")), user("c")]
    assert context(*messages) == messages


def test_only_the_newest_messages_that_fit_are_told_and_a_user_comes_first() -> None:
    size = estimated_tokens(user("x" * 400))
    messages = [user("x" * 400), answer(Text("y" * 400)), user("z" * 400)]
    assert context(*messages, tokens=size * 3) == messages[2:]


def test_the_last_message_is_told_even_when_it_alone_is_too_long() -> None:
    assert context(user("a"), user("x" * 10_000), tokens=10) == [user("x" * 10_000)]


def test_the_log_is_read_no_further_than_the_window_reaches() -> None:
    read: list[int] = []

    def newest_first():  # type: ignore[no-untyped-def]
        for number in range(1_000):
            read.append(number)
            yield user("x" * 400)

    build_context(newest_first(), context_tokens=1_000)
    assert len(read) < 10


def test_every_tool_call_has_its_result_next_to_it() -> None:
    call, lost = ToolCall("t1", "bash", {}), ToolCall("t2", "bash", {})
    result = ToolResultMessage("t1", "bash", (Text("done"),), 3)
    told = context(user("a"), answer(call, lost), user("b"), result)
    assert told == [
        user("a"),
        answer(call, lost),
        result,
        ToolResultMessage("t2", "bash", (Text(NO_RESULT),), 2, is_error=True),
        user("b"),
    ]


def test_results_without_their_call_and_empty_answers_are_left_out() -> None:
    result = ToolResultMessage("t1", "bash", (Text("done"),), 3)
    assert context(user("a"), answer(), result, user("b")) == [user("a"), user("b")]


def test_a_summary_stands_for_what_came_before() -> None:
    told = context(user("a"), summary="earlier")
    assert told[0].content == (Text("Summary of the conversation so far:\nearlier"),)
    assert told[1:] == [user("a")]
