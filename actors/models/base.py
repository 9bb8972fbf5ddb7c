"""What a model is to a run: a stream of parts that ends with a whole message."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from msgspec import Struct

from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import AssistantMessage, Message, Text, UserMessage

THINKING_LEVELS = ("off", "minimal", "low", "medium", "high")
"""How much a model may be asked to think, the least first."""


class ToolSpec(Struct, frozen=True):
    """A tool that a model may ask for; ``parameters`` is a JSON Schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class ModelRequest(Struct, frozen=True):
    """One model call. ``messages`` ends with the user's message or with tool results.

    Every tool call in it has its result. ``thinking_level`` is one of THINKING_LEVELS, or empty
    where the model is left to itself; a model that can't think does without.
    ``max_output_tokens`` bounds the answer besides the model's own limit. ``recall`` is what the
    model is told of memory, right after the last user's message. ``attempt`` counts how often
    the call was made before. ``traceparent`` names the call's span in W3C Trace Context, for the
    provider's own spans, with its ``tracestate``; "" where nobody traces.
    """

    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[ToolSpec] = ()
    thinking_level: str = ""
    max_output_tokens: int | None = None
    recall: str = ""
    attempt: int = 0
    traceparent: str = ""
    tracestate: str = ""

    @property
    def told(self) -> Sequence[Message]:
        """Return the messages with what is recalled among them."""
        users = [at for at, each in enumerate(self.messages) if isinstance(each, UserMessage)]
        if not self.recall or not users:
            return self.messages
        after = users[-1] + 1
        recalled = UserMessage((Text(self.recall),), self.messages[users[-1]].timestamp)
        return [*self.messages[:after], recalled, *self.messages[after:]]


def new_call_id(request: ModelRequest, index: int) -> str:
    """Return an id for a tool call that came without one, and is block ``index`` of its answer.

    No other call of the session has it: what is told grows, or its last message is a later one.
    """
    last = request.messages[-1].timestamp
    return f"call_{last}_{len(request.messages)}_{request.attempt}_{index}"


class Response(Struct, frozen=True):
    """What a provider says of its answer that the conversation does without.

    ``model_id`` is the model that answered, which need not be called as it was asked for.
    ``reasoning_tokens`` are part of the usage's output; None where they are not counted apart.
    """

    id: str = ""
    model_id: str = ""
    reasoning_tokens: int | None = None


class Finished(Struct, frozen=True):
    """The last part: the whole message, its timestamp 0."""

    message: AssistantMessage
    response: Response = Response()


Part = TextDelta | ThinkingDelta | ToolInputDelta | Finished


class ModelError(Exception):
    """A model call failed; the message may be shown to the user and holds no secret.

    ``retryable``: the same call may succeed later, not before ``retry_after_s`` where the
    provider says so. ``overflow``: what was told does not fit the model's window.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        overflow: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.overflow = overflow


class ModelStream(Protocol):
    """A model call, to be read once."""

    def __iter__(self) -> Iterator[Part]:
        """Make the call, and yield its parts as they arrive, Finished last. Raises ModelError."""

    def close(self) -> None:
        """End the call from any thread, at any time; the iterator then ends or raises ModelError.

        Does not block.
        """


class Model(Protocol):
    """A model that can be called any number of times at once.

    One that ``remembers`` is told what is recalled, and asked what is worth remembering.
    ``address`` is the URL that it is called at; "" where it runs in this process.
    """

    provider: str
    model_id: str
    address: str
    context_tokens: int
    remembers: bool

    def stream(self, request: ModelRequest) -> AbstractContextManager[ModelStream]:
        """Return a call, which is made when it is read; leaving the context ends it.

        Does not block.
        """
