"""Messages of a conversation as the page shows them. Pure.

Nothing here is escaped: the templates escape all of it, but for ``markdown``, which is sanitised.
"""

from typing import Any

import msgspec
from msgspec import Struct

from actors.audit.exporting.readable import data_url, shown
from actors.replay import decode
from actors.runs.conversation import message_of
from actors.session import events as e
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from actors.session.state import DraftBlock, SessionState
from persistence.records import StoredEvent

TEXT_CHARACTERS_MAX = 100_000
OUTPUT_CHARACTERS_MAX = 20_000
FOLDED_LINES = 12
"""A tool's output with more lines is folded."""

DIFF_LINES_MAX = 400
AT_MAX = 253_402_300_799_000
"""The last moment that has a date; an imported message may claim any."""

_pretty = msgspec.json.format
_encode = msgspec.json.Encoder(order="deterministic").encode


class DiffLine(Struct, frozen=True):
    """A line of a unified diff; ``kind`` is add, del, at or same."""

    kind: str
    text: str


class Shown(Struct, frozen=True):
    """A part of a bubble: ``kind`` is text, plain, thinking, call, output, diff, image or error.

    ``markdown`` tells a text that is rendered; ``cut`` is how many characters are not shown.
    """

    kind: str
    text: str = ""
    label: str = ""
    cut: int = 0
    folded: bool = False
    index: int = 0
    call_id: str = ""
    lines: tuple[DiffLine, ...] = ()


class Bubble(Struct, frozen=True):
    """A message: ``role`` is user, assistant or tool; ``at`` in milliseconds since the epoch.

    Of the role end it is no message, but how a run ended that has no answer. ``last_word``: the
    model said all it had to say.
    """

    id: str
    seq: int
    role: str
    title: str
    at: int
    parts: tuple[Shown, ...]
    failed: bool = False
    last_word: bool = False


def bubble_of(stream_id: str, session_id: str, stored: StoredEvent) -> Bubble | None:
    """Return a message of the log, None where it is erased."""
    message = message_of(decode(stream_id, stored))
    if message is None:
        return None
    return message_bubble(session_id, stored.seq, message)


def message_bubble(session_id: str, seq: int, message: Message) -> Bubble:
    """Return a message as it is shown; its id is that of history."""
    shown_id = f"{session_id}:{seq}"
    at = message.timestamp if 0 <= message.timestamp <= AT_MAX else 0
    if isinstance(message, UserMessage):
        return Bubble(shown_id, seq, "user", "Prompt", at, _parts(message.content, "text"))
    if isinstance(message, ToolResultMessage):
        title = f"{message.tool_name}: {'error' if message.is_error else 'result'}"
        parts = _result_parts(message)
        return Bubble(shown_id, seq, "tool", title, at, parts, failed=message.is_error)
    parts = _parts(message.content, "text")
    if message.error:
        parts += (_cut("error", message.error, OUTPUT_CHARACTERS_MAX),)
    return Bubble(
        shown_id,
        seq,
        "assistant",
        _answer(message),
        at,
        parts,
        failed=bool(message.error),
        last_word=message.stop_reason == "stop",
    )


def end_bubble(seq: int, event: e.Event) -> Bubble | None:
    """Return how a run ended otherwise than by an answer, None for all other events."""
    match event:
        case e.RunFailed(error=why):
            title = "The run failed"
        case e.RunAborted():
            title, why = "The run was aborted", ""
        case e.RunInterrupted(reason=why):
            title = "The run was interrupted"
        case _:
            return None
    at = event.at if 0 <= event.at <= AT_MAX else 0
    parts = (_cut("error", why, OUTPUT_CHARACTERS_MAX),) if why else ()
    return Bubble(f"end:{seq}", seq, "end", title, at, parts, failed=True)


def draft_bubble(state: SessionState) -> Bubble | None:
    """Return what has arrived of the message that streams; its texts are not rendered yet."""
    if state.draft_at is None:
        return None
    return Bubble(
        f"draft:{state.key}:{state.draft_at}",
        state.version,
        "assistant",
        "Answering",
        state.draft_at,
        tuple([_draft_part(block) for block in state.draft]),
    )


def pretty(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a JSON value, indented."""
    return _pretty(_encode(value), indent=2).decode()


def arguments_text(arguments: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a call's arguments as people read them: JSON, but for texts of several lines.

    Those stand below their names, indented, so that no line of theirs looks like another name.
    """
    if not isinstance(arguments, dict) or not any(map(_has_lines, arguments.values())):
        return pretty(arguments)
    return "\n".join([_argument(name, value) for name, value in arguments.items()])


def _argument(name: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    shown_name = _encode(name).decode()
    if not _has_lines(value):
        return f"{shown_name}: {pretty(value)}"
    lines = shown(value).split("\n")
    return f"{shown_name}:\n" + "\n".join([f"    {line}" for line in lines])


def _has_lines(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    return isinstance(value, str) and "\n" in value


def diff_lines(text: str) -> tuple[DiffLine, ...]:
    """Return the lines of a unified diff, each with its kind."""
    lines = shown(text).splitlines()[:DIFF_LINES_MAX]
    return tuple([DiffLine(_diff_kind(line), line) for line in lines])


def _answer(message: AssistantMessage) -> str:
    model = f" by {message.provider}/{message.model_id}" if message.model_id else ""
    ended = "" if message.stop_reason in ("stop", "tool_use") else f" ({message.stop_reason})"
    return f"Answer{model}{ended}"


def _parts(content: tuple[Block, ...], text_kind: str) -> tuple[Shown, ...]:
    return tuple([_part(block, text_kind) for block in content])


def _part(block: Block, text_kind: str) -> Shown:
    match block:
        case Text():
            limit = OUTPUT_CHARACTERS_MAX if text_kind == "output" else TEXT_CHARACTERS_MAX
            return _cut(text_kind, block.text, limit)
        case Thinking():
            return _cut("thinking", block.text, OUTPUT_CHARACTERS_MAX)
        case ToolCall():
            part = _cut("call", arguments_text(block.arguments), OUTPUT_CHARACTERS_MAX, block.name)
            return msgspec.structs.replace(part, call_id=block.id)
        case Image():
            return Shown("image", data_url(block.media_type, block.data) or "", block.media_type)


def _result_parts(message: ToolResultMessage) -> tuple[Shown, ...]:
    parts = _parts(message.content, "output")
    details = message.details
    diff = details.get("diff") if isinstance(details, dict) else None
    if isinstance(diff, str) and diff:
        parts += (Shown("diff", lines=diff_lines(diff), label=message.tool_name),)
    return parts


def _cut(kind: str, text: str, characters_max: int, label: str = "") -> Shown:
    kept = shown(text[:characters_max])
    return Shown(
        kind,
        kept,
        label,
        cut=max(0, len(text) - characters_max),
        folded=kept.count("\n") >= FOLDED_LINES,
    )


def _draft_part(block: DraftBlock) -> Shown:
    kind = {"text": "plain", "thinking": "thinking"}.get(block.kind, "call")
    return Shown(
        kind,
        shown(block.text),
        block.tool_name,
        index=block.index,
        call_id=block.tool_call_id,
    )


def _diff_kind(line: str) -> str:
    if line.startswith(("@@", "+++", "---")):
        return "at"
    return {"+": "add", "-": "del"}.get(line[:1], "same")
