"""What clients of OpenAI's API send and are told, without a gateway."""

from typing import Any

import pytest
from msgspec import UNSET

from actors.asking import decode_command, encode_command
from actors.session import commands as c
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Message,
    Text,
    Thinking,
    ToolCall,
    Usage,
    UserMessage,
)
from actors.session.state import Approval
from web.errors import Problem
from web.openai_api.answer import Answer, Piece
from web.openai_api.completions import CompletionWriter
from web.openai_api.conversation import MESSAGES_MAX, conversation_of, goes_on
from web.openai_api.errors import Refused
from web.openai_api.responses import Described, ResponseStream, key_in, response_of

AT = 1_000


def asked(text: str) -> UserMessage:
    return UserMessage((Text(text),), AT)


def said(text: str, **fields: Any) -> AssistantMessage:
    return AssistantMessage((Text(text),), AT, **fields)


def answer_to(*events: e.Event) -> tuple[Answer, list[Piece]]:
    """Fold the events of a run; return the answer and its pieces as they were streamed."""
    answer = Answer("p")
    run = (e.RunStarted("p", AT), *events)
    return answer, [piece for event in run for piece in answer.pieces(event)]


def completed(message: AssistantMessage) -> e.MessageCompleted:
    return e.MessageCompleted(message)


def test_messages_are_instructions_what_came_before_and_the_prompt() -> None:
    sent: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": [{"type": "text", "text": "And kind."}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t"}]},
        {"role": "tool", "content": "42", "tool_call_id": "t"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "c"}]},
        {"role": "user", "content": "d"},
    ]
    found = conversation_of(sent, AT, "First of all.")
    assert found.instructions == "First of all.\n\nBe brief.\n\nAnd kind."
    assert found.earlier == (asked("a\nb"), said("c"))
    assert found.prompt.text == "d"
    assert found.beginning(AT)[1:] == found.earlier
    assert conversation_of(sent[-1:], AT).beginning(AT) == ()
    reminded = conversation_of([*sent, {"role": "system", "content": "Mind the format."}], AT)
    assert reminded.prompt.text == "d"
    assert reminded.instructions.endswith("Mind the format.")


@pytest.mark.parametrize(
    ("before", "text", "task"),
    [
        (0, "### Task:\nGenerate a concise title", True),
        (0, "Provide a concise, 5-word-or-less title for the conversation, using", True),
        (0, "What is a ### Task: for?", False),
        (2, "### Task:\nRespond to the user query", False),
    ],
)
def test_a_task_is_told_by_how_it_begins_and_stands_alone(
    before: int, text: str, *, task: bool
) -> None:
    earlier = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hi"}][:before]
    assert conversation_of([*earlier, {"role": "user", "content": text}], AT).is_task is task


def test_what_is_stored_nowhere_can_not_be_referred_to() -> None:
    with pytest.raises(Refused, match="store: false"):
        conversation_of([{"type": "item_reference", "id": "m"}, {"role": "user"}], AT)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (None, 400),
        (" ", 400),
        (7, 400),
        ([{"type": "input_audio"}], 400),
        ([7], 400),
        ("a\x00", 422),
        ([{"type": "image_url", "image_url": {"url": "https://example.com/"}}], 422),
    ],
)
def test_a_message_that_can_not_be_a_prompt_is_refused(content: object, status: int) -> None:
    with pytest.raises(Problem) as refused:
        conversation_of([{"role": "user", "content": content}], AT)
    assert refused.value.status == status


def test_a_conversation_is_bounded() -> None:
    with pytest.raises(Refused, match="at most"):
        conversation_of([{"role": "user", "content": "a"}] * (MESSAGES_MAX + 1), AT)


@pytest.mark.parametrize(
    ("session", "client", "same"),
    [
        ([asked("a"), said("b")], [asked("a"), said("b")], True),
        ([asked("a"), said("b")], [asked("a"), said(" b\n")], True),
        ([asked("about: a"), said("b")], [asked("a"), said("b")], True),
        ([asked("a"), said("b"), said("c")], [asked("a"), said("b\n\nc")], True),
        ([asked("a"), said("b c")], [asked("a"), said("b")], True),
        ([asked("a"), AssistantMessage((), AT)], [asked("a"), said("b")], True),
        (
            [asked("a"), AssistantMessage((), AT, stop_reason="error")],
            [asked("a"), said("b")],
            False,
        ),
        ([asked("a")], [asked("a"), said("b")], False),
        ([asked("a"), said("b")], [asked("a")], True),
        ([asked("a"), said("b")], [], False),
        ([asked("a"), said("b")], [asked("c"), said("b")], False),
        ([asked("a"), said("b")], [asked("a"), said("d")], False),
        ([asked("a"), said("b"), asked("c"), said("d")], [asked("a"), said("b")], False),
    ],
)
def test_a_session_is_where_its_last_exchange_is_the_clients(
    session: list[Message], client: list[Message], same: bool
) -> None:
    assert goes_on(session, client, running=False) is same


def test_a_run_that_has_not_answered_yet_fits_what_its_client_shows() -> None:
    assert goes_on([asked("a")], [asked("a"), said("b")], running=True)
    assert not goes_on([asked("a")], [asked("c"), said("b")], running=True)


def test_turns_are_one_text_and_their_usage_is_added() -> None:
    first = AssistantMessage(
        (Text("look"), ToolCall("t", "read", {})), AT, stop_reason="tool_use", usage=Usage(5, 2)
    )
    second = AssistantMessage(
        (Thinking("hm"), Text("found")), AT, stop_reason="length", usage=Usage(9, 3, 4)
    )
    answer, pieces = answer_to(
        e.TextDelta(0, "lo"),
        completed(first),
        e.ToolCompleted("t", "read", "ok", (Text("x"),), AT),
        completed(second),
        e.RunCompleted("p", AT),
    )
    assert pieces == [
        Piece("text", "lo"),
        Piece("text", "ok"),
        Piece("thinking", "hm"),
        Piece("text", "\n\nfound"),
    ]
    whole = CompletionWriter(1, "demo/echo").whole(answer)
    assert whole.choices[0].message.content == "look\n\nfound"
    assert whole.choices[0].message.reasoning_content == "hm"
    assert whole.choices[0].finish_reason == "length"
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (18, 5)


def test_what_a_call_had_said_that_was_made_again_is_not_in_the_whole_answer() -> None:
    answer, pieces = answer_to(
        e.TextDelta(0, "the ans"),
        completed(said("the ans", stop_reason="retried")),
        e.TextDelta(0, "the answer"),
        completed(said("the answer")),
        e.RunCompleted("p", AT),
    )
    assert answer.text == "the answer"
    assert [each.text for each in pieces] == ["the ans", "\n\nthe answer"]


def test_what_other_prompts_said_is_no_part_of_the_answer() -> None:
    answer = Answer("p")
    for event in (
        e.RunStarted("other", AT),
        completed(said("not this")),
        e.RunCompleted("other", AT),
    ):
        assert list(answer.pieces(event)) == []
    assert not answer.done


@pytest.mark.parametrize(
    ("end", "status"),
    [
        (e.RunFailed("p", "why", AT), 502),
        (e.RunAborted("p", AT), 409),
        (e.PromptCancelled("p", "why", AT), 409),
        (e.RunInterrupted("p", "why", AT), 503),
    ],
)
def test_a_run_that_does_not_complete_is_a_failed_response(end: e.Event, status: int) -> None:
    answer, _pieces = answer_to(end)
    assert answer.failure is not None
    assert answer.failure.status == status
    stream = ResponseStream(answer, Described("k", 1, "demo/echo"))
    assert b"response.failed" in b"".join(stream.ending())


def test_a_run_that_waits_says_for_what() -> None:
    answer, _pieces = answer_to(completed(AssistantMessage((ToolCall("t", "write", {}),), AT)))
    waits = Approval("a-1", "t", "write", {}, AT, AT)
    assert list(answer.waiting([waits])) == [
        Piece("text", "[Waiting for approval of write (a-1).]")
    ]
    assert answer.done
    assert CompletionWriter(1, "m").whole(answer).choices[0].message.reasoning_content is UNSET


def test_a_response_names_its_session() -> None:
    answer, _pieces = answer_to(completed(said("a", stop_reason="length")), e.RunCompleted("p", AT))
    response = response_of(answer, Described("agent:ключ", 1, "demo/echo"))
    assert key_in(response.id) == "agent:ключ"
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    "response_id", ["", "resp_", "resp_1_", "resp_1_%%%", "msg_1_YQ", "resp_1_gA"]
)
def test_an_id_that_names_no_session_is_not_found(response_id: str) -> None:
    with pytest.raises(Refused) as refused:
        key_in(response_id)
    assert refused.value.status == 404


def test_another_process_can_be_asked_to_begin_with_a_clients_messages() -> None:
    command = c.BeginFrom(AT, "s", "openai", (asked("a"), said("b")))
    assert decode_command(encode_command(command)) == command
