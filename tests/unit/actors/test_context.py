from hypothesis import given
from hypothesis import strategies as st

from actors.runs.context import (
    ANSWER_SHARE,
    LEFT_OUT,
    NO_RESULT,
    build_context,
    estimated_tokens,
    is_told,
    shortened,
)
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


def result(call_id: str, text: str = "done") -> ToolResultMessage:
    return ToolResultMessage(call_id, "bash", (Text(text),), 3)


def test_after_a_summary_an_answer_may_come_first() -> None:
    messages = [answer(ToolCall("t1", "bash", {})), result("t1"), user("b")]
    assert context(*messages, summary="earlier")[1:] == messages
    assert context(*messages) == messages[2:]


def test_results_follow_their_answer_in_the_order_of_its_calls() -> None:
    calls = [ToolCall(each, "bash", {}) for each in ("t1", "t2", "t3")]
    told = context(user("a"), answer(*calls), result("t3"), result("t1"), result("t2"))
    assert told[2:] == [result("t1"), result("t2"), result("t3")]


def test_an_id_that_is_used_again_has_the_result_that_follows_it() -> None:
    call = ToolCall("t1", "bash", {})
    turns = [answer(call), result("t1", "first"), answer(call), result("t1", "second")]
    assert context(user("a"), *turns) == [user("a"), *turns]
    lost = context(user("a"), answer(call), answer(call), result("t1", "second"))
    assert lost[2].content == (Text(NO_RESULT),)
    assert lost[4] == result("t1", "second")


def test_an_answer_that_was_asked_for_again_is_not_told() -> None:
    broken = AssistantMessage((Text("x" * 4_000),), 2, stop_reason="retried")
    assert context(user("a"), broken, answer(Text("b"))) == [user("a"), answer(Text("b"))]


def test_what_does_not_fit_is_left_out_with_its_results() -> None:
    long = [answer(ToolCall("t1", "bash", {})), result("t1", "x" * 4_000)]
    assert context(user("a"), *long, user("b"), answer(Text("c"))) == [user("b"), answer(Text("c"))]


def test_results_that_alone_are_too_long_are_cut_and_keep_their_call() -> None:
    calls = answer(ToolCall("t1", "bash", {}), ToolCall("t2", "bash", {}))
    results = result("t1", "x" * 9_000 + "end"), result("t2", "y" * 9_000)
    told = context(user("a"), calls, *results)
    assert told[0].content == (Text(LEFT_OUT),)
    assert told[1] == calls
    assert [each.tool_call_id for each in told[2:]] == ["t1", "t2"]  # type: ignore[union-attr]
    assert sum(map(estimated_tokens, told)) <= 1_000 * (1 - ANSWER_SHARE) + 100
    assert "end" in str(told[2].content)


def test_a_text_is_cut_in_its_middle() -> None:
    assert shortened("abcdefghij", 10) == "abcdefghij"
    assert shortened("abcdefghij", 4) == "abc\n[… 6 characters are left out here …]\nj"
    assert shortened("abc", 0).strip() == "[… 3 characters are left out here …]"


MESSAGES = st.lists(
    st.one_of(
        st.builds(user, st.sampled_from(["hi", "x" * 400])),
        st.builds(answer, st.builds(Text, st.sampled_from(["yes", "y" * 800]))),
        st.lists(st.sampled_from("abc"), min_size=1).map(
            lambda ids: answer(*(ToolCall(each, "bash", {"command": "ls"}) for each in ids))
        ),
        st.just(AssistantMessage((Text("z" * 400),), 2, stop_reason="retried")),
        st.builds(result, st.sampled_from("abc"), st.sampled_from(["done", "r" * 4_000])),
    ),
    max_size=20,
)


@given(MESSAGES, st.integers(1, 3_000), st.sampled_from(["", "earlier"]))
def test_what_was_counted_before_leads_to_the_same_context(
    messages: list[Message], window: int, summary: str
) -> None:
    tokens = sum(map(estimated_tokens, filter(is_told, messages)))
    given = [
        build_context(reversed(messages), context_tokens=window, summary=summary, tokens=known)
        for known in (tokens, None)
    ]
    assert given[0] == given[1]
