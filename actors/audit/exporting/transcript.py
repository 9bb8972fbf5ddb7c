"""A session's events as what people read: who said what, when, and what came of it. Pure.

Deltas and turns are not told: the whole messages are. Nothing here is escaped; who shows it must.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from actors.session import events as e
from actors.session import record_events as r
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
    text_of,
)
from persistence.records import StoredEvent


class Piece(Struct, frozen=True, gc=False):
    """A part of an entry: ``kind`` is text, thinking, call, result or image.

    ``label`` names a tool or a media type; an image's ``text`` is base64.
    """

    kind: str
    text: str
    label: str = ""


class Entry(Struct, frozen=True):
    """What an event means to a reader; ``kind`` is prompt, answer, tool, error or note.

    ``at`` is in milliseconds since the epoch, UTC; ``seqs`` are the events it tells of.
    """

    kind: str
    title: str
    who: str
    at: int
    seqs: tuple[int, int]
    pieces: tuple[Piece, ...] = ()


Reasons = Callable[[int], str]
"""Tells why the payload of the event of this seq is gone, and since when."""

SKIPPED = frozenset(
    {
        "text.delta",
        "thinking.delta",
        "tool_input.delta",
        "turn.started",
        "turn.ended",
        "message.started",
        "tool.started",
        "tool.progressed",
    }
)
QUIET = SKIPPED | {
    "prompt.queued",
    "run.started",
    "run.completed",
    "steering.delivered",
    "session.settled",
    "session.reloaded",
}
"""What other events tell once more; erased or not, a reader misses nothing without it."""

_pretty = msgspec.json.format
_encode = msgspec.json.Encoder(order="deterministic").encode


def entries(
    events: Iterable[StoredEvent],
    decode: Callable[[StoredEvent], e.Event],
    reasons: Reasons,
) -> Iterator[Entry]:
    """Yield what there is to tell, in order; neighbours that are erased are one entry."""
    teller = _Teller()
    erased: Entry | None = None
    for stored in events:
        if stored.type in SKIPPED or (stored.payload is None and stored.type in QUIET):
            continue
        if stored.payload is None:
            gone = _gone(stored, reasons)
            if erased is not None and erased.title != gone.title:
                yield erased
                erased = None
            erased = msgspec.structs.replace(gone, seqs=((erased or gone).seqs[0], stored.seq))
            continue
        told = teller.told(stored, decode(stored))
        if told is None:
            continue
        if erased is not None:
            yield erased
            erased = None
        yield told
    if erased is not None:
        yield erased


def _gone(stored: StoredEvent, reasons: Reasons) -> Entry:
    title = f"[erased: {reasons(stored.seq)}]"
    return Entry("note", title, "", stored.recorded_at // 1_000, (stored.seq, stored.seq))


class _Teller:
    """Remembers what an event's entry depends on: a few prompts that wait, no more."""

    def __init__(self) -> None:
        self._waiting: dict[str, str] = {}
        self._steered = False

    def told(self, stored: StoredEvent, event: e.Event) -> Entry | None:
        """Return an event's entry, None where another one tells of it."""
        match event:
            case e.PromptQueued():
                self._waiting[event.prompt_id] = event.text
                return None
            case e.RunStarted():
                self._waiting.pop(event.prompt_id, None)
                return None
            case e.SteeringDelivered():
                self._steered = True
                return None
            case e.PromptCancelled():
                pieces = [Piece("text", self._waiting.pop(event.prompt_id, ""))]
                title = f"A waiting prompt was cancelled: {event.reason}"
                return _entry(stored, "note", title, pieces)
            case e.MessageCompleted():
                steered, self._steered = self._steered, False
                return _message(stored, event, "Told to the model" if steered else "Prompt")
        tell = _TELL.get(type(event))
        return None if tell is None else tell(stored, event)


def _entry(stored: StoredEvent, kind: str, title: str, pieces: Iterable[Piece] = ()) -> Entry:
    return Entry(
        kind,
        title,
        stored.principal or "",
        stored.recorded_at // 1_000,
        (stored.seq, stored.seq),
        tuple([each for each in pieces if each.text or each.kind in ("call", "result")]),
    )


def _message(stored: StoredEvent, event: e.MessageCompleted, title: str) -> Entry:
    message = event.message
    if isinstance(message, UserMessage):
        return _at(_entry(stored, "prompt", title, _pieces(message.content)), message.timestamp)
    if isinstance(message, ToolResultMessage):
        outcome = "error" if message.is_error else "ok"
        found = _result(stored, message.tool_name, message.content, outcome)
        return _at(found, message.timestamp)
    return _at(_answer(stored, message), message.timestamp)


def _answer(stored: StoredEvent, message: AssistantMessage) -> Entry:
    model = f" by {message.provider}/{message.model_id}" if message.model_id else ""
    ended = "" if message.stop_reason in ("stop", "tool_use") else f" ({message.stop_reason})"
    pieces = [*_pieces(message.content), Piece("text", message.error)]
    return _entry(stored, "answer", f"Answer{model}{ended}", pieces)


def _at(entry: Entry, at: int) -> Entry:
    """Say when it was said, which in an imported session is not when it was recorded."""
    return msgspec.structs.replace(entry, at=at)


def _result(stored: StoredEvent, name: str, content: tuple[Block, ...], outcome: str) -> Entry:
    pieces = [Piece("result", text_of(content), name)]
    pieces += [each for each in _pieces(content) if each.kind == "image"]
    return _entry(stored, "tool", f"Result of {name}: {outcome}", pieces)


def _pieces(content: tuple[Block, ...]) -> list[Piece]:
    return [_piece(block) for block in content]


def _piece(block: Block) -> Piece:
    match block:
        case Text():
            return Piece("text", block.text)
        case Thinking():
            return Piece("thinking", block.text)
        case ToolCall():
            return Piece("call", _json(block.arguments), block.name)
        case Image():
            return Piece("image", block.data, block.media_type)


def _json(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return _pretty(_encode(value), indent=2).decode()


def _requested(stored: StoredEvent, event: e.ApprovalRequested) -> Entry:
    why = f": {event.reason}" if event.reason else ""
    pieces = [Piece("call", _json(event.arguments), event.tool_name)]
    return _entry(stored, "note", f"{event.tool_name} waits for an approval{why}", pieces)


def _resolved(stored: StoredEvent, event: e.ApprovalResolved) -> Entry:
    answer = "Approved" if event.approved else "Denied"
    return _entry(stored, "note", f"{answer}: {event.reason}" if event.reason else answer)


def _compacted(stored: StoredEvent, event: e.ContextCompacted) -> Entry:
    title = f"From here on models are told a summary of what came before seq {event.first_kept_seq}"
    return _entry(stored, "note", title, [Piece("text", event.summary)])


def _erasure(stored: StoredEvent, event: r.StreamErased) -> Entry:
    ranges = ", ".join(
        [f"{first} to {last}" if first < last else str(first) for first, last in event.ranges]
    )
    title = f"The payloads of seq {ranges} were erased: {event.reason} (receipt {event.receipt_id})"
    return _entry(stored, "note", title)


def _model(stored: StoredEvent, event: e.ModelSelected) -> Entry:
    thinking = f", thinking {event.thinking_level}" if event.thinking_level else ""
    return _entry(stored, "note", f"Model: {event.provider}/{event.model_id}{thinking}")


def _noting(say: Callable[[Any], str], kind: str = "note") -> Callable[[StoredEvent, Any], Entry]:
    return lambda stored, event: _entry(stored, kind, say(event))


_TELL: dict[type[e.Event], Callable[[StoredEvent, Any], Entry]] = {
    e.ToolCompleted: lambda stored, event: _result(
        stored, event.tool_name, event.content, event.outcome
    ),
    e.SteeringReceived: lambda stored, event: _entry(
        stored, "prompt", "Said while it ran", [Piece("text", event.text)]
    ),
    e.ApprovalRequested: _requested,
    e.ApprovalResolved: _resolved,
    e.ContextCompacted: _compacted,
    e.ModelSelected: _model,
    e.SessionCreated: _noting(lambda event: f"Session {event.session_id} begins"),
    e.SessionImported: _noting(
        lambda event: (
            f"Recorded elsewhere, by {event.source}"
            + (f", as {event.original_id}" if event.original_id else "")
        )
    ),
    e.SessionRenamed: _noting(lambda event: f"Named {event.name}"),
    e.SessionReset: _noting(lambda event: f"Begun anew as session {event.session_id}"),
    e.SessionDeleted: _noting(lambda _event: "Deleted"),
    e.RunFailed: _noting(lambda event: f"Failed: {event.error}", "error"),
    e.RunAborted: _noting(lambda _event: "Aborted", "error"),
    e.RunInterrupted: _noting(lambda event: f"Interrupted: {event.reason}", "error"),
    e.RunContinued: _noting(lambda event: f"Continued: {event.reason}"),
    e.TurnRetried: _noting(lambda event: f"The model is called again: {event.error}", "error"),
    r.SessionForked: _noting(
        lambda event: f"Forked from {event.source_key} at seq {event.source_seq}"
    ),
    r.SessionBranched: _noting(lambda event: f"Forked into {event.into_key} at seq {event.seq}"),
    r.SessionHeld: _noting(lambda event: f"Held: {event.reason}"),
    r.SessionReleased: _noting(lambda _event: "Released"),
    r.StreamErased: _erasure,
}
