"""Models of Anthropic, by its Messages API."""

import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from msgspec.structs import replace

from actors.models._call import calling, http_client
from actors.models._failures import Failures
from actors.models._sdk import (
    CONNECT_TIMEOUT_S,
    Answer,
    Once,
    OpenBlock,
    OpenText,
    OpenThinking,
    OpenToolCall,
    fitting_id,
    trace_headers,
    without_pictures,
)
from actors.models.base import ModelRequest, ModelStream, Part, Response, ToolSpec
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
)

if TYPE_CHECKING:
    import anthropic
    from anthropic.types import (
        ContentBlockParam,
        ImageBlockParam,
        MessageDeltaUsage,
        MessageParam,
        OutputConfigParam,
        RawContentBlockDeltaEvent,
        RawContentBlockStartEvent,
        RawMessageStreamEvent,
        TextBlockParam,
        ThinkingConfigParam,
        ToolParam,
        ToolResultBlockParam,
    )
    from anthropic.types import Usage as AnthropicUsage

PROVIDER = "anthropic"
ADDRESS = "https://api.anthropic.com"

CONTEXT_TOKENS = 200_000
"""The window of a model of which nobody says how much it holds."""

OUTPUT_TOKENS_MAX = 8_192
"""The longest answer of such a model; the API wants to be told one."""

STOP_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_use",
    "refusal": "content_filter",
}

REDACTED = "redacted:"
"""Begins the signature of thinking that came encrypted and goes back as it came."""

BUDGET_TOKENS_MIN = 1_024
BUDGET_SHARES = {"minimal": 0.0, "low": 0.25, "medium": 0.5, "high": 0.75}
"""The part of the answer's tokens that may go into thinking, by thinking level."""

_WANTS_BUDGET = re.compile(r"-4-5(?:-|$)")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

B = TypeVar("B", bound=OpenBlock)


class AnthropicModel:
    """A model behind the Messages API, streamed. Implements Model.

    ``stall_timeout_s`` is how long the server may send nothing at all. A model without
    ``reasoning`` is not told how much to think, and one without ``vision`` is sent no pictures:
    it would refuse the request.
    """

    provider = PROVIDER
    remembers = True

    def __init__(
        self,
        model_id: str,
        *,
        api_key: str,
        base_url: str | None = None,
        stall_timeout_s: float = 120.0,
        context_tokens: int | None = None,
        max_output_tokens: int | None = None,
        reasoning: bool = True,
        vision: bool = True,
    ) -> None:
        self.model_id = model_id
        self.context_tokens = context_tokens or CONTEXT_TOKENS
        self.address = base_url or ADDRESS
        self._max_output_tokens = max_output_tokens or OUTPUT_TOKENS_MAX
        self._reasoning = reasoning
        self._vision = vision
        self._client = Once(lambda: connect(api_key, base_url, timeout_s=stall_timeout_s))
        self._failures = Failures(PROVIDER, api_key, stall_timeout_s)

    def stream(self, request: ModelRequest) -> AbstractContextManager[ModelStream]:
        """See Model.stream."""
        return calling(
            lambda: self._begin(request),
            lambda events: iter(_Parts(events, Answer(PROVIDER, self.model_id), self._failures)),
            self._failures,
        )

    def _begin(self, request: ModelRequest) -> "anthropic.Stream[RawMessageStreamEvent]":
        from anthropic import omit

        limit = self._max_output_tokens
        if request.max_output_tokens is not None:
            limit = min(limit, request.max_output_tokens)
        thinking, output = self._thinking(request.thinking_level, limit)
        told = request.told if self._vision else without_pictures(request.told)
        return self._client.get().messages.create(
            model=self.model_id,
            max_tokens=limit,
            messages=_messages(told),
            system=request.system if request.system.strip() else omit,
            tools=[_tool(tool) for tool in request.tools] or omit,
            thinking=thinking or omit,
            output_config=output or omit,
            stream=True,
            extra_headers=trace_headers(request),
        )

    def _thinking(
        self, level: str, output_tokens: int
    ) -> tuple["ThinkingConfigParam | None", "OutputConfigParam | None"]:
        """Return how much to think: as an effort, or as a budget for models up to 4.5.

        Each kind of model answers 400 to the other's way.
        """
        if level in ("", "off") or not self._reasoning:
            return None, None
        if not _WANTS_BUDGET.search(self.model_id):
            effort = cast(
                "Literal['low', 'medium', 'high']", "low" if level == "minimal" else level
            )
            return {"type": "adaptive", "display": "summarized"}, {"effort": effort}
        if output_tokens <= BUDGET_TOKENS_MIN:
            return None, None
        share = int(output_tokens * BUDGET_SHARES.get(level, 0.5))
        return {"type": "enabled", "budget_tokens": max(BUDGET_TOKENS_MIN, share)}, None


def connect(
    api_key: str,
    base_url: str | None,
    *,
    timeout_s: float,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> "anthropic.Anthropic":
    """Return the SDK's client; it connects when it is used, and tries once."""
    from anthropic import Anthropic, DefaultHttpxClient

    client = http_client(DefaultHttpxClient, timeout_s, connect_timeout_s)
    return Anthropic(
        api_key=api_key,
        base_url=base_url,
        timeout=client.timeout,
        max_retries=0,
        http_client=client,
    )


class _Parts:
    """Turns the API's events into parts, once."""

    def __init__(
        self,
        events: "anthropic.Stream[RawMessageStreamEvent]",
        answer: Answer,
        failures: Failures,
    ) -> None:
        self._events = events
        self._answer = answer
        self._failures = failures
        self._blocks: dict[int, OpenBlock] = {}

    def __iter__(self) -> Iterator[Part]:
        answer = self._answer
        for event in self._events:
            if event.type == "content_block_delta":
                yield from self._read(event)
            elif event.type == "content_block_start":
                self._start(event)
            elif event.type == "message_start":
                answer.usage = _usage(event.message.usage, answer.usage)
                answer.response = Response(event.message.id, event.message.model)
            elif event.type == "message_delta":
                answer.usage = _usage(event.usage, answer.usage)
                if event.usage.output_tokens_details is not None:
                    thought = event.usage.output_tokens_details.thinking_tokens
                    answer.response = replace(answer.response, reasoning_tokens=thought)
                if event.delta.stop_reason:
                    answer.stop_reason = STOP_REASONS.get(event.delta.stop_reason, "stop")
            elif event.type == "message_stop" and answer.stop_reason:
                yield answer.finished()
                return
        raise self._failures.ended_early()

    def _start(self, event: "RawContentBlockStartEvent") -> None:
        """Note a block that has something from the start; text and thinking come as deltas."""
        block = event.content_block
        if block.type == "tool_use":
            self._blocks[event.index] = self._answer.open(
                OpenToolCall(self._answer.next_index, block.id, block.name)
            )
        elif block.type == "redacted_thinking":
            self._growing(event.index, OpenThinking).signature = REDACTED + block.data

    def _read(self, event: "RawContentBlockDeltaEvent") -> Iterator[Part]:
        delta = event.delta
        if delta.type == "text_delta" and delta.text:
            yield from self._growing(event.index, OpenText).add(delta.text)
        elif delta.type == "thinking_delta" and delta.thinking:
            yield from self._growing(event.index, OpenThinking).add(delta.thinking)
        elif delta.type == "signature_delta":
            self._growing(event.index, OpenThinking).signature += delta.signature
        elif delta.type == "input_json_delta" and event.index in self._blocks:
            yield from self._blocks[event.index].add(delta.partial_json)

    def _growing(self, place: int, kind: type[B]) -> B:
        """Return the block of the API's index ``place``, which need not be the index here."""
        block = self._blocks.get(place)
        if isinstance(block, kind):
            return block
        opened = self._answer.open(kind(self._answer.next_index))
        self._blocks[place] = opened
        return opened


def _usage(now: "AnthropicUsage | MessageDeltaUsage", before: Usage) -> Usage:
    """Return the newer counts, which are totals; what is not counted again stays."""

    def newer(count: int | None, old: int) -> int:
        return old if count is None else count

    return Usage(
        newer(now.input_tokens, before.input),
        newer(now.output_tokens, before.output),
        newer(now.cache_read_input_tokens, before.cache_read),
        newer(now.cache_creation_input_tokens, before.cache_write),
    )


def _tool(tool: ToolSpec) -> "ToolParam":
    return {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.parameters,
    }


def _messages(messages: Iterable[Message]) -> list["MessageParam"]:
    """Return the messages with roles that alternate and no block that is empty."""
    told: list[tuple[Literal["user", "assistant"], list[ContentBlockParam]]] = []
    for message in messages:
        blocks = list(_blocks(message))
        role: Literal["user", "assistant"] = (
            "assistant" if isinstance(message, AssistantMessage) else "user"
        )
        if told and told[-1][0] == role:
            told[-1][1].extend(blocks)
        elif blocks:
            told.append((role, blocks))
    return [cast("MessageParam", {"role": role, "content": blocks}) for role, blocks in told]


def _blocks(message: Message) -> Iterator["ContentBlockParam"]:
    if isinstance(message, ToolResultMessage):
        yield _tool_result(message)
        return
    for block in message.content:
        if isinstance(block, Thinking):
            if block.signature.startswith(REDACTED):
                data = block.signature.removeprefix(REDACTED)
                yield {"type": "redacted_thinking", "data": data}
            elif block.signature:
                yield {"type": "thinking", "thinking": block.text, "signature": block.signature}
        elif isinstance(block, ToolCall):
            arguments = block.arguments
            yield {
                "type": "tool_use",
                "id": fitting_id(block.id, _ID),
                "name": block.name,
                "input": arguments if isinstance(arguments, dict) else {"input": arguments},
            }
        else:
            yield from _shown(block)


def _tool_result(message: ToolResultMessage) -> "ToolResultBlockParam":
    result: ToolResultBlockParam = {
        "type": "tool_result",
        "tool_use_id": fitting_id(message.tool_call_id, _ID),
        "is_error": message.is_error,
    }
    content = [shown for block in message.content for shown in _shown(block)]
    if content:
        result["content"] = content
    return result


def _shown(block: Block) -> Iterator["TextBlockParam | ImageBlockParam"]:
    # The API refuses text that is only white space.
    if isinstance(block, Text) and block.text.strip():
        yield {"type": "text", "text": block.text}
    elif isinstance(block, Image):
        media_type = cast(
            "Literal['image/jpeg', 'image/png', 'image/gif', 'image/webp']", block.media_type
        )
        yield {
            "type": "image",
            "source": {"type": "base64", "media_type": media_type, "data": block.data},
        }
