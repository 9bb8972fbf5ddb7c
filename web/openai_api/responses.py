"""Answers as OpenAI's responses, whole and as events. Pure."""

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from actors.session.messages import Usage
from web.openai_api.answer import Answer, Piece
from web.openai_api.errors import Refused

MARK = "resp"

Fields = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class OutputText(Struct, frozen=True, tag_field="type", tag="output_text"):
    """Text of an answer."""

    text: str
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)


class OutputMessage(Struct, frozen=True, kw_only=True, tag_field="type", tag="message"):
    """The answer."""

    id: str
    role: Literal["assistant"] = "assistant"
    status: str
    content: list[OutputText]


class InputDetails(Struct, frozen=True):
    """What of the input the provider had read before, or keeps now."""

    cached_tokens: int
    cache_write_tokens: int


class OutputDetails(Struct, frozen=True):
    """What of the output was reasoning; it is not counted apart here."""

    reasoning_tokens: int = 0


class ResponseUsage(Struct, frozen=True):
    """Tokens of all model calls that the answer took."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class ResponseError(Struct, frozen=True):
    """Why there is no whole answer."""

    code: str
    message: str


class Incomplete(Struct, frozen=True):
    """Why the model stopped early."""

    reason: str


class TextFormat(Struct, frozen=True):
    """How the text is formatted: not at all."""

    type: Literal["text"] = "text"


class TextOptions(Struct, frozen=True):
    """What the text looks like."""

    format: TextFormat = TextFormat()


class OpenAIResponse(Struct, frozen=True, kw_only=True):
    """A response; ``created_at`` in seconds since the epoch."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: str
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    model: str
    output: list[OutputMessage] = field(default_factory=list)
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    text: TextOptions = TextOptions()
    tool_choice: Literal["auto"] = "auto"
    tools: list[Any] = field(default_factory=list)
    temperature: float | None = None
    top_p: float | None = None
    usage: ResponseUsage | None = None


class Described(Struct, frozen=True):
    """What a response says of itself whatever becomes of it."""

    key: str
    created_s: int
    model: str
    instructions: str | None = None
    previous: str | None = None
    metadata: dict[str, Any] | None = None


def key_in(response_id: str) -> str:
    """Return the key of the session that a response is in. Raises Refused 404."""
    mark, _, rest = response_id.partition("_")
    _prompt_id, _, encoded = rest.partition("_")
    try:
        key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, ValueError):
        key = ""
    if mark != MARK or not key:
        text = f"There is no response {response_id!r} here."
        raise Refused(404, text, "previous_response_id", "previous_response_not_found")
    return key


def response_of(answer: Answer, described: Described) -> OpenAIResponse:
    """Return the response as far as its answer has come."""
    status, error, incomplete = "in_progress", None, None
    if answer.failure is not None:
        status, error = "failed", ResponseError("server_error", answer.failure.text)
    elif answer.done and answer.finish_reason != "stop":
        status, incomplete = "incomplete", Incomplete(_reason(answer.finish_reason))
    elif answer.done:
        status = "completed"
    return OpenAIResponse(
        id=_id_of(answer, described.key),
        created_at=described.created_s,
        status=status,
        error=error,
        incomplete_details=incomplete,
        instructions=described.instructions,
        metadata=described.metadata or {},
        model=described.model,
        output=[_message(answer)] if answer.done else [],
        previous_response_id=described.previous,
        usage=_usage(answer.usage) if answer.done else None,
    )


class ResponseWriter:
    """Writes answers as responses that say ``described`` of themselves. Implements Writer."""

    def __init__(self, described: Described) -> None:
        self._described = described

    def whole(self, answer: Answer) -> OpenAIResponse:
        """See Writer.whole."""
        return response_of(answer, self._described)

    def streamed(self, answer: Answer) -> "ResponseStream":
        """See Writer.streamed."""
        return ResponseStream(answer, self._described)


class ResponseStream:
    """Encodes an answer as the events of a streamed response. Implements Encoder.

    What the model reasons is not among them.
    """

    def __init__(self, answer: Answer, described: Described) -> None:
        self._answer = answer
        self._described = described
        self._number = 0
        self._item_id = _item_id(answer)
        self._said = ""

    def opening(self) -> Iterator[bytes]:
        """Yield the frames that begin the response, its one message, and that one's text."""
        response = response_of(self._answer, self._described)
        yield self._event("response.created", response=response)
        yield self._event("response.in_progress", response=response)
        item = OutputMessage(id=self._item_id, status="in_progress", content=[])
        yield self._event("response.output_item.added", output_index=0, item=item)
        yield self._part("response.content_part.added", part=OutputText(""))

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Yield the frame of a piece of text."""
        if piece.kind == "text":
            self._said += piece.text
            yield self._part("response.output_text.delta", delta=piece.text, logprobs=[])

    def ending(self) -> Iterator[bytes]:
        """Yield the frames after the last piece."""
        response = response_of(self._answer, self._described)
        if response.error is None:
            (item,) = response.output
            yield self._part("response.output_text.done", text=self._said, logprobs=[])
            yield self._part("response.content_part.done", part=OutputText(self._said))
            yield self._event("response.output_item.done", output_index=0, item=item)
        yield self._event(f"response.{response.status}", response=response)

    def _part(self, kind: str, **fields: object) -> bytes:
        return self._event(kind, item_id=self._item_id, output_index=0, content_index=0, **fields)

    def _event(self, kind: str, **fields: object) -> bytes:
        data = _encode({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _id_of(answer: Answer, key: str) -> str:
    encoded = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")
    return f"{MARK}_{answer.prompt_id.replace('-', '')}_{encoded}"


def _item_id(answer: Answer) -> str:
    return f"msg_{answer.prompt_id.replace('-', '')}"


def _message(answer: Answer) -> OutputMessage:
    whole = answer.failure is None and answer.finish_reason == "stop"
    status = "completed" if whole else "incomplete"
    return OutputMessage(id=_item_id(answer), status=status, content=[OutputText(answer.text)])


def _reason(finish_reason: str) -> str:
    return "max_output_tokens" if finish_reason == "length" else finish_reason


def _usage(usage: Usage) -> ResponseUsage:
    told = usage.input + usage.cache_read + usage.cache_write
    details = InputDetails(usage.cache_read, usage.cache_write)
    return ResponseUsage(told, details, usage.output, OutputDetails(), told + usage.output)
