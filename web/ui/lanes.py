"""A session's events on a time axis: when, in which lane, of which type. Pure."""

from collections.abc import Iterable

from msgspec import Struct

from actors.session import events as e
from actors.session.messages import AssistantMessage, ToolResultMessage, UserMessage
from persistence.records import StoredEvent

LANES = ("prompts", "model", "tools", "approvals", "session")
PROMPTS, MODEL, TOOLS, APPROVALS, SESSION = range(len(LANES))

KINDS = ("event", "prompt", "answer", "tool", "approval", "error")
"""What one can jump to; the first is any event."""

FAILURES = frozenset({"error", "aborted", "interrupted", "retried"})

_LANE_OF_AREA = {
    "prompt": PROMPTS,
    "steering": PROMPTS,
    "turn": MODEL,
    "message": MODEL,
    "text": MODEL,
    "thinking": MODEL,
    "tool_input": MODEL,
    "model": MODEL,
    "context": MODEL,
    "tool": TOOLS,
    "approval": APPROVALS,
}

Wire = tuple[int, int, int, str, str]


class Mark(Struct, frozen=True):
    """An event's place: ``at`` in milliseconds since the epoch, ``kind`` one of KINDS.

    An imported message is placed when it was said, not when it was recorded.
    """

    seq: int
    at: int
    lane: int
    kind: str
    type: str

    def wire(self) -> Wire:
        """Return what the page is sent of it."""
        return self.seq, self.at, self.lane, self.kind, self.type


def mark_of(stored: StoredEvent, event: e.Event) -> Mark:
    """Return the place of an event; an erased one has only its type."""
    lane = _LANE_OF_AREA.get(stored.type.partition(".")[0], SESSION)
    return mark_at(stored.seq, stored.recorded_at // 1_000, lane, stored.type, event)


def mark_at(seq: int, recorded_at: int, lane: int, name: str, event: e.Event) -> Mark:
    """Return the place of an event that was recorded at a time in milliseconds."""
    at = getattr(event, "at", 0) or recorded_at
    if isinstance(event, e.MessageCompleted):
        lane = _lane_of_message(event)
        at = event.message.timestamp or recorded_at
    return Mark(seq, at, lane, _kind(event), name)


def committed_mark(seq: int, event: e.Event, now_ms: int) -> Mark:
    """Return the place of an event that was committed a moment ago."""
    name = event.type if isinstance(event, e.Erased) else event.wire_name
    lane = _LANE_OF_AREA.get(name.partition(".")[0], SESSION)
    return mark_at(seq, now_ms, lane, name, event)


def first_of(kind: str, marks: Iterable[Mark]) -> Mark | None:
    """Return the first mark of a kind, None where there is none."""
    for mark in marks:
        if kind in (KINDS[0], mark.kind):
            return mark
    return None


def _lane_of_message(event: e.MessageCompleted) -> int:
    if isinstance(event.message, UserMessage):
        return PROMPTS
    return TOOLS if isinstance(event.message, ToolResultMessage) else MODEL


def _kind(event: e.Event) -> str:
    match event:
        case e.MessageCompleted(message=UserMessage()):
            return "prompt"
        case e.MessageCompleted(message=AssistantMessage() as message):
            return "error" if message.stop_reason in FAILURES else "answer"
        case e.MessageCompleted(message=ToolResultMessage() as message):
            return "error" if message.is_error else "tool"
        case e.ToolCompleted():
            return "error" if event.is_error else "tool"
        case e.ApprovalRequested() | e.ApprovalResolved():
            return "approval"
        case e.RunFailed() | e.RunAborted() | e.RunInterrupted() | e.TurnRetried():
            return "error"
    return "event"
