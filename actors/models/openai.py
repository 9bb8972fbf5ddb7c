"""Models of OpenAI and of any server that speaks its Chat Completions: Ollama, vLLM and others."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import TYPE_CHECKING, cast

import msgspec

from actors.models._call import calling, http_client
from actors.models._failures import Failures
from actors.models._sdk import (
    CONNECT_TIMEOUT_S,
    Answer,
    Once,
    OpenText,
    OpenThinking,
    OpenToolCall,
    fitting_id,
    trace_headers,
    without_pictures,
)
from actors.models.base import (
    ModelError,
    ModelRequest,
    ModelStream,
    Part,
    Response,
    ToolSpec,
    new_call_id,
)
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Text,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
    text_of,
)

if TYPE_CHECKING:
    from openai import OpenAI, Stream
    from openai.types import CompletionUsage, ReasoningEffort
    from openai.types.chat import (
        ChatCompletionAssistantMessageParam,
        ChatCompletionChunk,
        ChatCompletionContentPartParam,
        ChatCompletionMessageFunctionToolCallParam,
        ChatCompletionMessageParam,
        ChatCompletionToolMessageParam,
        ChatCompletionToolParam,
    )
    from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

PROVIDER = "openai"
ADDRESS = "https://api.openai.com/v1"
NO_KEY = "none"
"""What is sent as the key where there is none: a local server ignores it, the SDK insists."""

CONTEXT_TOKENS = 128_000
"""The window of a model of which nobody says how much it holds."""

STOP_REASONS = {
    "length": "length",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "content_filter",
}


TOOL_FAILED = "[The tool failed.]"
"""Begins a failed tool's answer, for which the protocol has no sign of its own."""

_ID = re.compile(r".{1,40}", re.DOTALL)


class OpenAIModel:
    """A model behind Chat Completions, streamed. Implements Model.

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
        self._base_url = base_url
        self._max_output_tokens = max_output_tokens
        self._reasoning = reasoning
        self._vision = vision
        self._client = Once(lambda: connect(api_key, base_url, timeout_s=stall_timeout_s))
        self._failures = Failures(PROVIDER, api_key, stall_timeout_s)

    def stream(self, request: ModelRequest) -> AbstractContextManager[ModelStream]:
        """See Model.stream."""
        return calling(
            lambda: self._begin(request),
            lambda chunks: iter(
                _Parts(chunks, Answer(PROVIDER, self.model_id), self._failures, request)
            ),
            self._failures,
        )

    def _begin(self, request: ModelRequest) -> "Stream[ChatCompletionChunk]":
        from openai import omit

        effort = request.thinking_level if self._reasoning else ""
        limits = (self._max_output_tokens, request.max_output_tokens)
        limit = min((each for each in limits if each is not None), default=None)
        # OpenAI's own models refuse max_tokens; Ollama and LM Studio know nothing else.
        own = is_own(self._base_url)
        return self._client.get().chat.completions.create(
            model=self.model_id,
            messages=_messages(request, vision=self._vision),
            tools=[_tool(tool) for tool in request.tools] or omit,
            reasoning_effort=(
                cast("ReasoningEffort", effort) if effort not in ("", "off") else omit
            ),
            max_completion_tokens=limit if limit is not None and own else omit,
            max_tokens=limit if limit is not None and not own else omit,
            stream=True,
            stream_options={"include_usage": True},
            extra_headers=trace_headers(request),
        )


def connect(
    api_key: str,
    base_url: str | None,
    *,
    timeout_s: float,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> "OpenAI":
    """Return the SDK's client; it connects when it is used, and tries once."""
    from openai import DefaultHttpxClient, OpenAI

    client = http_client(DefaultHttpxClient, timeout_s, connect_timeout_s)
    return OpenAI(
        api_key=api_key or NO_KEY,
        base_url=base_url,
        timeout=client.timeout,
        max_retries=0,
        http_client=client,
    )


def is_own(base_url: str | None) -> bool:
    """Tell whether an address is one of OpenAI's, not of another server with its protocol."""
    return base_url is None or ".openai." in base_url


class _Parts:
    """Turns chunks into parts, once."""

    def __init__(
        self,
        chunks: "Stream[ChatCompletionChunk]",
        answer: Answer,
        failures: Failures,
        request: ModelRequest,
    ) -> None:
        self._chunks = chunks
        self._answer = answer
        self._failures = failures
        self._request = request
        self._calls: dict[int, tuple[str | None, OpenToolCall]] = {}

    def __iter__(self) -> Iterator[Part]:
        for chunk in self._chunks:
            if chunk.usage is not None:
                self._answer.usage = _usage(chunk.usage)
            self._answer.response = _response(chunk, self._answer.response)
            # Some servers send null for what is empty, against the schema.
            for choice in chunk.choices or ():
                if choice.delta:
                    yield from self._read(choice.delta)
                if choice.finish_reason:
                    self._finish(choice.finish_reason)
        if not self._answer.stop_reason:
            raise self._failures.ended_early()
        yield self._answer.finished()

    def _finish(self, reason: str) -> None:
        if reason == "error":  # OpenRouter's, for a provider that failed behind it
            raise ModelError(f"{PROVIDER} ended its answer with an error.", retryable=True)
        self._answer.stop_reason = STOP_REASONS.get(reason, "stop")

    def _read(self, delta: "ChoiceDelta") -> Iterator[Part]:
        # Not in the schema: DeepSeek, vLLM and llama.cpp use one name, OpenRouter the other.
        thinking = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if thinking:
            yield from self._answer.going_on(OpenThinking).add(thinking)
        for text in (delta.content, delta.refusal):
            if text:
                yield from self._answer.going_on(OpenText).add(text)
        for call in delta.tool_calls or ():
            yield from self._read_call(call)

    def _read_call(self, delta: "ChoiceDeltaToolCall") -> Iterator[Part]:
        # Some servers give every call the index 0, or none; a new id then begins a new call.
        given, block = self._calls.get(delta.index, (None, None))
        if block is None or (given and delta.id and delta.id != given):
            index = self._answer.next_index
            call_id = delta.id or new_call_id(self._request, index)
            name = (delta.function.name if delta.function else None) or ""
            block = self._answer.open(OpenToolCall(index, call_id, name))
            self._calls[delta.index] = delta.id, block
        if delta.function:
            yield from block.add(delta.function.arguments)


def _response(chunk: "ChatCompletionChunk", before: Response) -> Response:
    """Return what is known of the answer; servers with this protocol leave out what they like."""
    details = chunk.usage.completion_tokens_details if chunk.usage else None
    reasoning = details.reasoning_tokens if details else None
    return Response(
        chunk.id or before.id,
        chunk.model or before.model_id,
        before.reasoning_tokens if reasoning is None else reasoning,
    )


def _usage(usage: "CompletionUsage") -> Usage:
    """Return the counts, with what was cached apart: the provider counts it as input."""
    details = usage.prompt_tokens_details
    read = (details.cached_tokens or 0) if details else 0
    written = (details.cache_write_tokens or 0) if details else 0
    return Usage(
        max(0, (usage.prompt_tokens or 0) - read - written),
        usage.completion_tokens or 0,
        read,
        written,
    )


def _tool(tool: ToolSpec) -> "ChatCompletionToolParam":
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        },
    }


def _messages(request: ModelRequest, *, vision: bool) -> list["ChatCompletionMessageParam"]:
    told: list[ChatCompletionMessageParam] = []
    if request.system:
        told.append({"role": "system", "content": request.system})
    numbers = count(1)
    pictures: list[Block] = []
    for message in request.told if vision else without_pictures(request.told):
        if isinstance(message, ToolResultMessage):
            told.append(_tool_result(message, pictures, numbers))
            continue
        if pictures:
            told.append({"role": "user", "content": _content(pictures)})
            pictures = []
        told.extend(_message(message))
    if pictures:
        told.append({"role": "user", "content": _content(pictures)})
    return told


def _message(message: UserMessage | AssistantMessage) -> Iterator["ChatCompletionMessageParam"]:
    if isinstance(message, AssistantMessage):
        yield from _assistant(message)
    elif len(message.content) > 1 or any(isinstance(each, Image) for each in message.content):
        yield {"role": "user", "content": _content(message.content)}
    else:
        yield {"role": "user", "content": text_of(message.content)}


def _tool_result(
    message: ToolResultMessage, pictures: list[Block], numbers: Iterator[int]
) -> "ChatCompletionToolMessageParam":
    """Return a tool's answer, and add its pictures to those of the answers around it.

    An answer can hold text only, and nothing may come between two of them: its pictures are
    numbered, and follow the last one in a user's message.
    """
    lines = [TOOL_FAILED] if message.is_error else []
    for block in message.content:
        if isinstance(block, Text):
            lines.append(block.text)
        elif isinstance(block, Image):
            number = next(numbers)
            lines.append(f"[Picture {number} is shown below.]")
            pictures += [Text(f"Picture {number}:"), block]
    return {
        "role": "tool",
        "tool_call_id": fitting_id(message.tool_call_id, _ID),
        "content": "\n".join(lines),
    }


def _assistant(
    message: AssistantMessage,
) -> Iterator["ChatCompletionAssistantMessageParam"]:
    text = text_of(message.content)
    calls = [_call(block) for block in message.content if isinstance(block, ToolCall)]
    if calls:
        yield {"role": "assistant", "content": text or None, "tool_calls": calls}
    elif text:
        yield {"role": "assistant", "content": text}


def _call(call: ToolCall) -> "ChatCompletionMessageFunctionToolCallParam":
    arguments = msgspec.json.encode(call.arguments).decode()
    return {
        "type": "function",
        "id": fitting_id(call.id, _ID),
        "function": {"name": call.name, "arguments": arguments},
    }


def _content(blocks: Iterable[Block]) -> Sequence["ChatCompletionContentPartParam"]:
    parts: list[ChatCompletionContentPartParam] = []
    for block in blocks:
        if isinstance(block, Text) and block.text:
            parts.append({"type": "text", "text": block.text})
        elif isinstance(block, Image):
            url = f"data:{block.media_type};base64,{block.data}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return parts
