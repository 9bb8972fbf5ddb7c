"""A session's server-sent events, as clients get them, turned back into what a screen draws."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from actors.session import events as e
from actors.session.messages import AssistantMessage, Text

Fields = dict[str, Any]


class Frame(NamedTuple):
    """One event of a stream: its seq, its type and its fields."""

    seq: int
    kind: str
    fields: Fields


def frames_of(lines: Iterable[bytes]) -> Iterator[Frame | None]:
    """Yield the frames in some lines, and None for each heartbeat; one that is cut is left out."""
    seq, data = -1, b""
    for line in lines:
        text = line.rstrip(b"\r\n")
        if text.startswith(b"id: "):
            seq = int(text[4:])
        elif text.startswith(b"data: "):
            data = text[6:]
        elif text.startswith(b":"):
            yield None
        elif not text and data and line.endswith(b"\n"):
            fields: Fields = msgspec.json.decode(data)
            yield Frame(seq, fields["type"], fields)
            data = b""


class Drawn:
    """Turns frames into events; it remembers whether a message's words came one by one."""

    def __init__(self) -> None:
        self._streamed = False

    def events(self, frame: Frame) -> list[e.Event]:
        """Return what a screen is to draw of a frame."""
        if frame.kind in ("token", "thinking"):
            self._streamed = self._streamed or frame.kind == "token"
        if frame.kind == "message_complete":
            said = () if self._streamed else (Text(frame.fields["text"]),)
            self._streamed = False
            return [e.MessageCompleted(message=AssistantMessage(said, 0))]
        made = _EVENTS.get(frame.kind)
        return [] if made is None else [made(frame.fields)]


def _tool_completed(fields: Fields) -> e.Event:
    result = fields["result"]
    texts = [Text(part["text"]) for part in result["content"] if part.get("type") == "text"]
    return e.ToolCompleted(
        tool_call_id=fields["toolCallId"],
        tool_name=fields["toolName"],
        outcome="error" if fields["isError"] else "ok",
        content=tuple(texts),
        at=0,
    )


def _progressed(fields: Fields) -> e.Event:
    text = "".join([part.get("text", "") for part in fields["partialResult"]["content"]])
    return e.ToolProgressed(
        tool_call_id=fields["toolCallId"], tool_name=fields["toolName"], text=text, at=0
    )


_EVENTS: dict[str, Callable[[Fields], e.Event]] = {
    "token": lambda fields: e.TextDelta(index=fields["contentIndex"], text=fields["delta"]),
    "thinking": lambda fields: e.ThinkingDelta(index=fields["contentIndex"], text=fields["delta"]),
    "tool_start": lambda fields: e.ToolStarted(
        tool_call_id=fields["toolCallId"],
        tool_name=fields["toolName"],
        arguments=fields["args"],
        at=0,
    ),
    "tool_update": _progressed,
    "tool_complete": _tool_completed,
    "approval_request": lambda fields: e.ApprovalRequested(
        approval_id=fields["approvalId"],
        tool_call_id=fields["toolCallId"],
        tool_name=fields["toolName"],
        arguments=fields["args"],
        reason=fields["reason"],
        at=0,
        expires_at=fields["expiresAt"],
    ),
    "approval_resolved": lambda fields: e.ApprovalResolved(
        approval_id=fields["approvalId"],
        tool_call_id=fields["toolCallId"],
        approved=fields["approved"],
        reason=fields["reason"],
        at=0,
    ),
    "retry": lambda fields: e.TurnRetried(
        turn=0,
        attempt=fields["attempt"],
        error=fields["error"],
        delay_ms=fields["delayMs"],
        at=0,
    ),
    "context_compacted": lambda fields: e.ContextCompacted(
        summary=fields["summary"], first_kept_seq=fields["firstKeptSeq"], at=0
    ),
    "error": lambda fields: e.RunFailed(prompt_id="", error=fields["error"], at=0),
    "aborted": lambda _fields: e.RunAborted(prompt_id="", at=0),
    "session_deleted": lambda _fields: e.SessionDeleted(at=0),
}
"""What is not here is not drawn."""
