"""Messages and states as the contract shows them. Pure."""

from hashlib import sha256

from msgspec import UNSET

from actors.replay import decode
from actors.session import events as e
from actors.session.codec import encode_state
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Text,
    Thinking,
    ToolResultMessage,
    text_of,
)
from actors.session.state import DraftBlock, SessionState
from persistence.records import StoredEvent
from web.schemas import FilePart, HistoryMessage, Part, ReasoningPart, TextPart, ToolPart


def history_message(stream_id: str, session_id: str, stored: StoredEvent) -> HistoryMessage | None:
    """Return a message of the log, None where it is erased; its id stays the same for ever."""
    event = decode(stream_id, stored)
    if isinstance(event, e.Erased):
        return None
    message_id = f"{session_id}:{stored.seq}"
    if isinstance(event, e.ToolCompleted):
        part = _result_part(
            event.tool_call_id, event.tool_name, event.content, is_error=event.is_error
        )
        return HistoryMessage(message_id, "toolResult", (part,), event.at)
    assert isinstance(event, e.MessageCompleted)
    message = event.message
    if isinstance(message, ToolResultMessage):
        part = _result_part(
            message.tool_call_id, message.tool_name, message.content, is_error=message.is_error
        )
        return HistoryMessage(message_id, "toolResult", (part,), message.timestamp)
    role = "assistant" if isinstance(message, AssistantMessage) else "user"
    return HistoryMessage(message_id, role, _parts(message.content), message.timestamp)


def draft_message(state: SessionState) -> HistoryMessage | None:
    """Return what has arrived of the message that streams now."""
    if state.draft_at is None:
        return None
    return HistoryMessage(
        f"draft:{state.key}:{state.draft_at}",
        "assistant",
        tuple([_draft_part(block) for block in state.draft]),
        state.draft_at,
    )


def digest_of(state: SessionState) -> str:
    """Return a state's SHA-256, in hexadecimal."""
    return sha256(encode_state(state)).hexdigest()


def _parts(content: tuple[Block, ...]) -> tuple[Part, ...]:
    parts: list[Part] = []
    for block in content:
        if isinstance(block, Text):
            parts.append(TextPart(block.text))
        elif isinstance(block, Thinking):
            parts.append(ReasoningPart(block.text))
        elif isinstance(block, Image):
            url = f"data:{block.media_type};base64,{block.data}"
            parts.append(FilePart(block.media_type, url))
        else:
            parts.append(ToolPart(block.id, block.name, block.arguments))
    return tuple(parts)


def _result_part(
    tool_call_id: str, tool_name: str, content: tuple[Block, ...], *, is_error: bool
) -> ToolPart:
    state = "error" if is_error else "result"
    return ToolPart(tool_call_id, tool_name, UNSET, state, text_of(content))


def _draft_part(block: DraftBlock) -> Part:
    if block.kind == "text":
        return TextPart(block.text)
    if block.kind == "thinking":
        return ReasoningPart(block.text)
    return ToolPart(block.tool_call_id, block.tool_name)
