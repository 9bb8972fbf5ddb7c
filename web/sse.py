"""Server-sent events: one frame for each event of the log, its id the event's seq."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from actors.feed import Committed
from actors.session import events as e
from actors.session.messages import AssistantMessage, Text, ToolResultMessage, text_of
from actors.session.state import ModelRef, SessionState
from actors.session.summary import summary_of, with_model

HEADERS = {
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # nginx would hold the stream back
}
CONTENT_TYPE = "text/event-stream"
RETRY_MS = 1_000
OPENING = f"\nretry: {RETRY_MS}\n\n".encode()
HEARTBEAT = b": heartbeat\n\n"
WRITE_BYTES = 64 * 1024

Fields = dict[str, Any]

_encode = msgspec.json.Encoder().encode


class Frames:
    """Encodes events as frames, each event once however many read it."""

    def __init__(self, resolve: Callable[[ModelRef | None], ModelRef]) -> None:
        self._resolve = resolve

    def hello(self, state: SessionState) -> bytes:
        """Return the first frame of a stream that goes on after this state."""
        return _frame(state.version, {"type": "hello", **self._snapshot(state)})

    def frame(self, committed: Committed) -> bytes:
        """Return an event's frame."""
        if committed.frame is None:
            committed.frame = _frame(committed.seq, self._fields(committed))
        return committed.frame

    def _fields(self, committed: Committed) -> Fields:
        translate = _FIELDS.get(type(committed.event))
        if translate is None:
            return {"type": "session_state", **self._snapshot(committed.state)}
        kind, fields = translate(committed.event)
        return {"type": kind, "sessionKey": committed.state.key, **fields}

    def _snapshot(self, state: SessionState) -> Fields:
        summary = with_model(summary_of(state), self._resolve)
        return {"sessionKey": state.key, "snapshot": summary}


def pieces(frames: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the frames in pieces of a write each: a slow reader holds no more than one of them."""
    gathered: list[bytes] = []
    size = 0
    for frame in frames:
        gathered.append(frame)
        size += len(frame)
        if size >= WRITE_BYTES:
            yield b"".join(gathered)
            gathered, size = [], 0
    if gathered:
        yield b"".join(gathered)


def _frame(seq: int, fields: Fields) -> bytes:
    return b"id: %d\ndata: %b\n\n" % (seq, _encode(fields))


def _delta(event: e.TextDelta | e.ThinkingDelta) -> tuple[str, Fields]:
    kind = "token" if isinstance(event, e.TextDelta) else "thinking"
    return kind, {"delta": event.text, "contentIndex": event.index}


def _tool_input(event: e.ToolInputDelta) -> tuple[str, Fields]:
    return "tool_input", {
        "toolCallId": event.tool_call_id,
        "toolName": event.tool_name,
        "delta": event.text,
        "contentIndex": event.index,
    }


def _message_completed(event: e.MessageCompleted) -> tuple[str, Fields]:
    message = event.message
    if isinstance(message, AssistantMessage):
        return "message_complete", {"text": text_of(message.content)}
    role = "toolResult" if isinstance(message, ToolResultMessage) else "user"
    return "message_start", {"role": role}


def _tool_started(event: e.ToolStarted) -> tuple[str, Fields]:
    return "tool_start", {
        "toolCallId": event.tool_call_id,
        "toolName": event.tool_name,
        "args": event.arguments,
    }


def _tool_completed(event: e.ToolCompleted) -> tuple[str, Fields]:
    return "tool_complete", {
        "toolCallId": event.tool_call_id,
        "toolName": event.tool_name,
        "result": tool_result(event),
        "isError": event.is_error,
    }


def _tool_progressed(event: e.ToolProgressed) -> tuple[str, Fields]:
    return "tool_update", {
        "toolCallId": event.tool_call_id,
        "toolName": event.tool_name,
        "partialResult": {"content": [Text(event.text)]},
    }


def _approval_requested(event: e.ApprovalRequested) -> tuple[str, Fields]:
    return "approval_request", {
        "approvalId": event.approval_id,
        "toolCallId": event.tool_call_id,
        "toolName": event.tool_name,
        "args": event.arguments,
        "reason": event.reason,
        "expiresAt": event.expires_at,
    }


def _approval_resolved(event: e.ApprovalResolved) -> tuple[str, Fields]:
    return "approval_resolved", {
        "approvalId": event.approval_id,
        "toolCallId": event.tool_call_id,
        "approved": event.approved,
        "reason": event.reason,
    }


def _turn_retried(event: e.TurnRetried) -> tuple[str, Fields]:
    return "retry", {
        "attempt": event.attempt,
        "error": event.error,
        "delayMs": event.delay_ms,
    }


def _run_continued(event: e.RunContinued) -> tuple[str, Fields]:
    return "retry", {"attempt": event.attempt, "error": event.reason, "delayMs": 0}


def _compacted(event: e.ContextCompacted) -> tuple[str, Fields]:
    return "context_compacted", {
        "summary": event.summary,
        "firstKeptSeq": event.first_kept_seq,
        "reason": event.reason,
        "tokensBefore": event.tokens_before,
    }


def tool_result(event: e.ToolCompleted) -> Fields:
    """Return a tool's whole result as clients see it."""
    return {"content": event.content, "details": event.details or {}}


_FIELDS: dict[type[e.Event], Callable[[Any], tuple[str, Fields]]] = {
    e.TurnStarted: lambda _event: ("turn_start", {}),
    e.TurnEnded: lambda _event: ("turn_end", {}),
    e.MessageStarted: lambda event: ("message_start", {"role": event.role}),
    e.TextDelta: _delta,
    e.ThinkingDelta: _delta,
    e.ToolInputDelta: _tool_input,
    e.MessageCompleted: _message_completed,
    e.ToolStarted: _tool_started,
    e.ToolProgressed: _tool_progressed,
    e.ToolCompleted: _tool_completed,
    e.ApprovalRequested: _approval_requested,
    e.ApprovalResolved: _approval_resolved,
    e.TurnRetried: _turn_retried,
    e.RunContinued: _run_continued,
    e.ContextCompacted: _compacted,
    e.RunFailed: lambda event: ("error", {"error": event.error}),
    e.RunInterrupted: lambda event: ("error", {"error": event.reason}),
    e.RunAborted: lambda _event: ("aborted", {}),
    e.Erased: lambda event: ("erased", {"event": event.type}),
    e.SessionDeleted: lambda _event: ("session_deleted", {}),
}
"""What is not here changes what a client is shown of the session: a ``session_state``."""
