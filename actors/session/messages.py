"""What a conversation is made of: messages and their content blocks. Pure.

``timestamp`` is in milliseconds since the epoch, UTC.
"""

from hashlib import sha256
from typing import Any

from msgspec import Struct

PREVIEW_UNITS = 120


class Text(Struct, frozen=True, gc=False, tag="text"):
    """Plain text."""

    text: str


class Thinking(Struct, frozen=True, gc=False, tag="thinking", omit_defaults=True):
    """What a model reasoned; ``signature`` lets its provider accept it back."""

    text: str
    signature: str = ""


class ToolCall(Struct, frozen=True, tag="toolCall"):
    """A model's request to run a tool; ``arguments`` is any JSON value."""

    id: str
    name: str
    arguments: Any


class Image(Struct, frozen=True, gc=False, tag="image"):
    """A picture, as base64 text."""

    media_type: str
    data: str


Block = Text | Thinking | ToolCall | Image


class Usage(Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens that a model call took, as its provider counted them, and what they cost in USD.

    The cost is 0 where the model's price is not known.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cost_usd: float = 0.0

    def __add__(self, more: "Usage") -> "Usage":
        """Return both together."""
        return Usage(
            self.input + more.input,
            self.output + more.output,
            self.cache_read + more.cache_read,
            self.cache_write + more.cache_write,
            self.cost_usd + more.cost_usd,
        )


class UserMessage(Struct, frozen=True, tag_field="role", tag="user"):
    """What a person or a program asked."""

    content: tuple[Block, ...]
    timestamp: int


class AssistantMessage(Struct, frozen=True, tag_field="role", tag="assistant", omit_defaults=True):
    """What a model answered.

    ``stop_reason`` is one of stop, length, tool_use, content_filter, error, aborted,
    interrupted, retried; with the last four ``content`` is what had arrived by then. A call that
    broke off and is made again leaves a ``retried`` message, which no model is told.
    """

    content: tuple[Block, ...]
    timestamp: int
    provider: str = ""
    model_id: str = ""
    stop_reason: str = "stop"
    usage: Usage = Usage()
    error: str = ""


class ToolResultMessage(
    Struct, frozen=True, tag_field="role", tag="toolResult", omit_defaults=True
):
    """What a tool answered; ``details`` is for people and programs, not for the model."""

    tool_call_id: str
    tool_name: str
    content: tuple[Block, ...]
    timestamp: int
    is_error: bool = False
    details: Any = None


Message = UserMessage | AssistantMessage | ToolResultMessage


def text_of(content: tuple[Block, ...]) -> str:
    """Return the text blocks of a message, joined."""
    return "".join([block.text for block in content if isinstance(block, Text)])


def preview_of(text: str) -> str:
    """Return the first 120 UTF-16 units of a text, never half a character."""
    start = text[:PREVIEW_UNITS]
    if start.isascii():
        return start
    units = start.encode("utf-16-le", "surrogatepass")[: PREVIEW_UNITS * 2]
    return units.decode("utf-16-le", "ignore")


def digest_of_prompt(text: str, images: tuple[Image, ...]) -> str:
    """Return what tells two prompts with the same idempotency key apart."""
    digest = sha256(text.encode())
    for image in images:
        digest.update(b"\0" + image.data.encode())
    return digest.hexdigest()


def prompt_content(text: str, images: tuple[Image, ...]) -> tuple[Block, ...]:
    """Return what a model is told of a prompt: the pictures, then what is said about them."""
    return (*images, Text(text)) if text or not images else images
