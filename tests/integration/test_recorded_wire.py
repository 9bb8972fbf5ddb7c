"""A real session's tool calls and results, as each provider is told them, and read back."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from actors.models.anthropic import AnthropicModel
from actors.models.base import Model, ModelRequest
from actors.models.openai import OpenAIModel
from actors.pi_import import parse_pi_session
from actors.runs.context import NO_RESULT, build_context
from actors.session.events import MessageCompleted
from actors.session.messages import (
    AssistantMessage,
    Image,
    Message,
    Text,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from tests.wire.decoded import Decoded, DecodedCall, DecodedResult, from_anthropic, from_openai
from tests.wire.servers import AnthropicWire, Finish, ModelServer, OpenAIWire, Say, Wire

RECORDED = Path(__file__).parents[3] / "shared/fixtures/large-session.jsonl"
WINDOW_TOKENS = 100_000_000
HELLO = UserMessage((Text("Hello"),), 0)
PNG, JPEG = Image("image/png", "aGk="), Image("image/jpeg", "eW8+/w==")

Provider = tuple[Wire, Callable[..., Model], Callable[[dict[str, Any]], list[Decoded]]]
PROVIDERS: dict[str, Provider] = {
    "openai": (OpenAIWire(), OpenAIModel, from_openai),
    "anthropic": (AnthropicWire(), AnthropicModel, from_anthropic),
}


@pytest.fixture(params=PROVIDERS)
def provider(request: pytest.FixtureRequest) -> Provider:
    return PROVIDERS[request.param]


def told(provider: Provider, messages: Sequence[Message]) -> list[Decoded]:
    """Return what the provider's server is told of the messages' tool calls and results."""
    wire, make, decode = provider
    with ModelServer(wire) as server:
        server.reply([Say(["x"]), Finish()])
        model = make("test-model", api_key="none", base_url=server.url)
        with model.stream(ModelRequest(messages)) as stream:
            list(stream)
        return decode(server.requests[0].body)


def said(messages: Sequence[Message]) -> Iterator[Decoded]:
    """Yield what the messages say, each answer's calls before their results."""
    results = {each.tool_call_id: each for each in messages if isinstance(each, ToolResultMessage)}
    for message in messages:
        if not isinstance(message, AssistantMessage):
            continue
        calls = [block for block in message.content if isinstance(block, ToolCall)]
        for call in calls:
            yield DecodedCall(call.id, call.name, call.arguments)
        for call in calls:
            result = results.get(call.id)
            if result is None:
                yield DecodedResult(call.id, (Text(NO_RESULT),), is_error=True)
            else:
                blocks = [each for each in result.content if isinstance(each, Text | Image)]
                yield DecodedResult(call.id, tuple(blocks), result.is_error)


def conversation(
    *results: tuple[tuple[Text | Image, ...], bool], name: str = "id"
) -> list[Message]:
    """Return an answer that makes several calls at once, and their results."""
    ids = [f"{name}-{number}" for number in range(len(results))]
    calls = tuple(ToolCall(each, "look_up", {"id": each, "deep": [{"a": None}]}) for each in ids)
    return [
        HELLO,
        AssistantMessage((Text("I look."), *calls), 1),
        *(
            ToolResultMessage(each, "look_up", content, 2, failed)
            for each, (content, failed) in zip(ids, results, strict=True)
        ),
        UserMessage((Text("Picture 1:"), Text("And?")), 3),
    ]


def test_a_recorded_session_is_told_without_loss(provider: Provider) -> None:
    if not RECORDED.exists():
        pytest.skip("the recorded session large-session.jsonl is not there")
    session = parse_pi_session(RECORDED.read_bytes(), at=0)
    messages = [each.message for each in session.recorded if isinstance(each, MessageCompleted)]
    context = build_context(reversed(messages), context_tokens=WINDOW_TOKENS)
    expected = list(said(messages))
    assert sum(isinstance(each, DecodedCall) for each in expected) == 391
    assert sum(isinstance(each, DecodedResult) and each.is_error for each in expected) > 19
    assert told(provider, context) == expected


def test_pictures_errors_and_parallel_calls_are_told_without_loss(provider: Provider) -> None:
    messages = [
        *conversation(
            ((Text("seen"), PNG, Text("and\nmore\n"), JPEG), False),
            ((JPEG,), True),
            ((Text("just text, with [Picture 9 is shown below.] in it"),), True),
            ((PNG, PNG), False),
        ),
        *conversation(((Text("once more"), JPEG), False), name="more")[1:],
    ]
    assert told(provider, messages) == list(said(messages))


def test_results_that_came_in_another_order_are_told_in_that_of_their_calls(
    provider: Provider,
) -> None:
    messages = conversation(((Text("a"),), False), ((Text("b"),), True), ((PNG,), False))
    mixed = [*messages[:2], *reversed(messages[2:5]), *messages[5:]]
    context = build_context(reversed(mixed), context_tokens=WINDOW_TOKENS)
    assert told(provider, context) == list(said(messages))
