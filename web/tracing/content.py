"""What models are told and answer, as JSON in the shape of OpenTelemetry's conventions. Pure."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
)

CONTENT_CHARACTERS_MAX = 60_000
"""How long an attribute with content may be; the oldest messages are left out before that."""

FINISH_REASONS = {"tool_use": "tool_call"}
"""Stop reasons that the conventions call otherwise."""


def finish_reason(stop_reason: str) -> str:
    """Return what the conventions call a stop reason."""
    return FINISH_REASONS.get(stop_reason, stop_reason)


def input_messages(messages: Sequence[Message]) -> str:
    """Return what a model is told, as many of the newest messages as fit."""
    left = CONTENT_CHARACTERS_MAX
    kept: list[str] = []
    for message in reversed(messages):
        shown = _json(_message(message))
        left -= len(shown) + 1
        if left < 0:
            break
        kept.append(shown)
    return f"[{','.join(reversed(kept))}]"


def output_messages(message: AssistantMessage) -> str:
    """Return a model's answer; no more than its finish reason where it is too long."""
    reason = finish_reason(message.stop_reason)
    shown = _json([{**_message(message), "finish_reason": reason}])
    if len(shown) > CONTENT_CHARACTERS_MAX:
        return _json([{"role": "assistant", "parts": [], "finish_reason": reason}])
    return shown


def system_instructions(system: str) -> str:
    """Return what a model is told before the conversation, its beginning where it is too long."""
    return _json([{"type": "text", "content": system[: CONTENT_CHARACTERS_MAX // 2]}])


def tool_arguments(arguments: object) -> str:
    """Return a tool call's arguments, cut."""
    return _json(arguments)[:CONTENT_CHARACTERS_MAX]


def tool_result(content: Sequence[Block]) -> str:
    """Return a tool's result, cut."""
    return _json(_parts(content))[:CONTENT_CHARACTERS_MAX]


def _message(message: Message) -> dict[str, Any]:
    if isinstance(message, ToolResultMessage):
        response = {
            "type": "tool_call_response",
            "id": message.tool_call_id,
            "response": _parts(message.content),
        }
        return {"role": "tool", "parts": [response]}
    role = "assistant" if isinstance(message, AssistantMessage) else "user"
    return {"role": role, "parts": _parts(message.content)}


def _parts(content: Iterable[Block]) -> list[dict[str, Any]]:
    return [_part(block) for block in content]


def _part(block: Block) -> dict[str, Any]:
    """Return a block as a part; of a picture only that it is there."""
    match block:
        case Text():
            return {"type": "text", "content": block.text}
        case Thinking():
            return {"type": "reasoning", "content": block.text}
        case ToolCall():
            return {
                "type": "tool_call",
                "id": block.id,
                "name": block.name,
                "arguments": block.arguments,
            }
        case Image():
            about = {"modality": "image", "mime_type": block.media_type}
            return {"type": "blob", **about, "content": ""}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
