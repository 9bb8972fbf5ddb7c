"""Answers as chat completions, whole and in chunks. Pure."""

from collections.abc import Iterator
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.session.messages import Usage
from web.openai_api.answer import Answer, Piece
from web.openai_api.errors import error_of, problem_of_failure

DONE = b"data: [DONE]\n\n"

Chunk = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class CachedTokens(Struct, frozen=True):
    """Tokens that the provider had read before."""

    cached_tokens: int


class CompletionUsage(Struct, frozen=True):
    """Tokens of all model calls that the answer took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class CompletionMessage(Struct, frozen=True):
    """The answer; ``reasoning_content`` is what the model reasoned, where it says so."""

    role: Literal["assistant"]
    content: str
    refusal: str | None = None
    reasoning_content: str | UnsetType = UNSET


class CompletionChoice(Struct, frozen=True):
    """The one answer that there is."""

    index: int
    message: CompletionMessage
    finish_reason: str
    logprobs: None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A chat completion; ``created`` in seconds since the epoch."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


class CompletionWriter:
    """Writes answers as chat completions. Implements Writer.

    With ``usage`` a stream tells it, as ``stream_options`` asks for.
    """

    def __init__(self, created_s: int, model: str, *, usage: bool = False) -> None:
        self._created_s = created_s
        self._model = model
        self._usage = usage

    def whole(self, answer: Answer) -> Completion:
        """See Writer.whole."""
        message = CompletionMessage(
            "assistant", answer.text, reasoning_content=answer.thinking or UNSET
        )
        return Completion(
            id=_id_of(answer),
            created=self._created_s,
            model=self._model,
            choices=[CompletionChoice(0, message, answer.finish_reason)],
            usage=_usage(answer.usage),
        )

    def streamed(self, answer: Answer) -> "CompletionStream":
        """See Writer.streamed."""
        return CompletionStream(answer, self._created_s, self._model, usage=self._usage)


class CompletionStream:
    """Encodes an answer as frames of ``chat.completion.chunk``. Implements Encoder.

    With ``usage`` a last chunk without choices has it.
    """

    def __init__(self, answer: Answer, created_s: int, model: str, *, usage: bool) -> None:
        self._answer = answer
        self._usage = usage
        self._fields = {
            "id": _id_of(answer),
            "object": "chat.completion.chunk",
            "created": created_s,
            "model": model,
        }

    def opening(self) -> Iterator[bytes]:
        """Yield the frame that begins the answer."""
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Yield the frame of a piece."""
        name = "content" if piece.kind == "text" else "reasoning_content"
        yield self._chunk({name: piece.text})

    def ending(self) -> Iterator[bytes]:
        """Yield the frames after the last piece."""
        failure = self._answer.failure
        if failure is not None:
            yield _frame({"error": error_of(problem_of_failure(failure))})
        else:
            yield self._chunk({}, self._answer.finish_reason)
            if self._usage:
                yield _frame({**self._fields, "choices": [], "usage": _usage(self._answer.usage)})
        yield DONE

    def _chunk(self, delta: Chunk, finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        fields = {**self._fields, "choices": [choice]}
        return _frame({**fields, "usage": None} if self._usage else fields)


def _id_of(answer: Answer) -> str:
    return f"chatcmpl-{answer.prompt_id}"


def _usage(usage: Usage) -> CompletionUsage:
    told = usage.input + usage.cache_read + usage.cache_write
    cached = CachedTokens(usage.cache_read)
    return CompletionUsage(told, usage.output, told + usage.output, cached)


def _frame(fields: Chunk) -> bytes:
    return b"data: %b\n\n" % _encode(fields)
