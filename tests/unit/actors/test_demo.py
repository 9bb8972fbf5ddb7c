"""The built-in model as a model among others."""

import pytest

from actors.models.base import Finished, ModelError, ModelRequest
from actors.models.demo import DemoModel
from actors.session.messages import (
    AssistantMessage,
    Message,
    Text,
    ToolCall,
    ToolResultMessage,
    UserMessage,
    text_of,
)


def user(text: str, at: int = 1) -> UserMessage:
    return UserMessage((Text(text),), at)


def answered(request: ModelRequest, deltas: int = 0) -> AssistantMessage:
    with DemoModel(deltas=deltas).stream(request) as stream:
        last = list(stream)[-1]
    assert isinstance(last, Finished)
    return last.message


def call_ids(*messages: Message, attempt: int = 0) -> list[str]:
    content = answered(ModelRequest(messages, attempt=attempt)).content
    return [block.id for block in content if isinstance(block, ToolCall)]


@pytest.mark.parametrize(
    ("deltas", "limit", "text", "why"),
    [
        (0, None, "one two three", "stop"),
        (0, 3, "one two three", "stop"),
        (0, 2, "one two ", "length"),
        (5, 4, "one two three one ", "length"),
    ],
)
def test_it_says_no_more_words_than_it_may(
    deltas: int, limit: int | None, text: str, why: str
) -> None:
    message = answered(ModelRequest([user("one two three")], max_output_tokens=limit), deltas)
    assert (text_of(message.content), message.stop_reason) == (text, why)


def test_it_counts_all_that_it_is_told() -> None:
    short = answered(ModelRequest([user("Hello")])).usage
    long = answered(ModelRequest([user("x" * 4_000), user("Hello")], "y" * 400)).usage
    assert long.input - short.input == 1_000 + 4 + 100


def test_its_calls_have_ids_of_their_own() -> None:
    both = "!look_up {}\n!look_up {}"
    first = user(both, 1)
    ids = call_ids(first)
    # The same number of messages again, when older ones have been summarised.
    ids += call_ids(user(both, 2))
    # More messages in the same millisecond.
    ids += call_ids(first, AssistantMessage((Text("x"),), 1), user(both, 1))
    # The same call, made again.
    ids += call_ids(first, attempt=1)
    assert len(ids) == 8
    assert len(set(ids)) == 8
    assert ids[:2] == call_ids(first)


def test_a_closed_call_says_nothing() -> None:
    last = ToolResultMessage("a", "look_up", (), 1)
    for request in (ModelRequest([user("Hello")]), ModelRequest([user(""), last])):
        with DemoModel().stream(request) as stream:
            stream.close()
            with pytest.raises(ModelError, match="closed"):
                list(stream)
