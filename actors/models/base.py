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
    model is told of memory, right after the last user's message.
    """

    messages: Sequence[Message]
    system: str = ""
    tools: Sequence[ToolSpec] = ()
    thinking_level: str = ""
    max_output_tokens: int | None = None
    recall: str = ""

    @property
    def told(self) -> Sequence[Message]:
        """Return the messages with what is recalled among them."""
        users = [at for at, each in enumerate(self.messages) if isinstance(each, UserMessage)]
        if not self.recall or not users:
            return self.messages
        after = users[-1] + 1
        recalled = UserMessage((Text(self.recall),), self.messages[users[-1]].timestamp)
        return [*self.messages[:after], recalled, *self.messages[after:]]


class Finished(Struct, frozen=True):
    """The last part: the whole message, its timestamp 0."""

    message: AssistantMessage


Part = TextDelta | ThinkingDelta | ToolInputDelta | Finished


class ModelError(Exception):
    """A model call failed; the message may be shown to the user and holds no secret."""

    def __init__(self, message: str, *, status: int | None = None, retryable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.retryable = retryable


class ModelStream(Protocol):
    """A model call in progress."""

    def __iter__(self) -> Iterator[Part]:
        """Yield the parts as they arrive, Finished last. Raises ModelError."""

    def close(self) -> None:
        """End the call from another thread; the iterator then ends or raises ModelError."""


class Model(Protocol):
    """A model that can be called any number of times at once.

    One that ``remembers`` is told what is recalled, and asked what is worth remembering.
    """

    provider: str
    model_id: str
    context_tokens: int
    remembers: bool

    def stream(self, request: ModelRequest) -> AbstractContextManager[ModelStream]:
        """Begin a call; leaving the context ends it. Blocks until the provider answers.

        Raises ModelError.
        """
