"""Sessions recorded by the pi coding agent, as events. Pure.

A pi file is JSON Lines: a header, then entries. Since version 2 entries form a tree by ``id`` and
``parentId``; the newest branch is the path from the root to the last entry. Taken over are
messages of users, assistants and tools, changes of model and thinking level, and compactions;
labels and an extension's own entries are not.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.session.commands import Recorded
from actors.session.events import ContextCompacted, MessageCompleted, ModelSelected
from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    Message,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)

VERSIONS = (1, 2, 3)

STOP_REASONS = {"stop": "stop", "length": "length", "toolUse": "tool_use"}
"""pi's names for why a model stopped; error and aborted are named as here."""

Entry = dict[str, Any]
T = TypeVar("T")


class PiFormatError(Exception):
    """The file is not a pi session; the message names the line and what is wrong there."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(f"line {line}: {problem}")


class PiSession(Struct, frozen=True):
    """A recorded session.

    ``first_kept_seq`` of a compaction counts from the first recorded event, which is 1.
    """

    original_id: str
    recorded: tuple[Recorded, ...]


class _Text(Struct, tag="text"):
    text: str


class _Thinking(Struct, tag="thinking", rename="camel"):
    thinking: str
    thinking_signature: str | None = None


class _ToolCall(Struct, tag="toolCall"):
    id: str
    name: str
    arguments: Any = None


class _Image(Struct, tag="image", rename="camel"):
    data: str
    mime_type: str


_Content = list[_Text | _Thinking | _ToolCall | _Image]


class _Usage(Struct, rename="camel"):
    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class _User(Struct, tag_field="role", tag="user"):
    content: str | _Content
    timestamp: float


class _Assistant(Struct, tag_field="role", tag="assistant", rename="camel"):
    content: _Content
    timestamp: float
    provider: str = ""
    model: str = ""
    stop_reason: str = "stop"
    usage: _Usage = msgspec.field(default_factory=_Usage)
    error_message: str | None = None


class _ToolResult(Struct, tag_field="role", tag="toolResult", rename="camel"):
    tool_call_id: str
    tool_name: str
    content: _Content
    timestamp: float
    is_error: bool = False
    details: Any = None


_ROLES: dict[str, type[_User | _Assistant | _ToolResult]] = {
    "user": _User,
    "assistant": _Assistant,
    "toolResult": _ToolResult,
}


class _Model(Struct, rename="camel"):
    provider: str
    model_id: str


class _Compaction(Struct, rename="camel"):
    summary: str
    first_kept_entry_id: str | UnsetType = UNSET
    first_kept_entry_index: int | UnsetType = UNSET


def parse_pi_session(content: bytes, *, at: int) -> PiSession:
    """Return what a pi file holds, dated ``at`` where it has no time. Raises PiFormatError."""
    entries = _entries(content)
    header = entries[0]
    recorder = _Recorder(at)
    if isinstance(header.get("provider"), str):
        recorder.select(_converted(header, _Model, 1), header.get("thinkingLevel") or "")
    branch = _newest_branch(entries, tree=header["version"] > 1)
    for line in branch:
        recorder.take(entries[line - 1], line)
    return PiSession(str(header.get("id", "")), recorder.finish(entries))


def _entries(content: bytes) -> list[Entry]:
    entries: list[Entry] = []
    for line, text in enumerate(content.splitlines(), 1):
        try:
            entry = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise PiFormatError(line, f"this is not JSON: {error}") from error
        if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
            raise PiFormatError(line, "an entry is an object with a type")
        entries.append(entry)
    if not entries or entries[0]["type"] != "session":
        raise PiFormatError(1, "a pi session begins with an entry of type session")
    version = entries[0].setdefault("version", 1)
    if version not in VERSIONS:
        raise PiFormatError(1, f"version {version!r} is not known, only {VERSIONS}")
    return entries


def _newest_branch(entries: Sequence[Entry], *, tree: bool) -> list[int]:
    """Return the lines from the root to the last entry, in order."""
    if not tree:
        return list(range(2, len(entries) + 1))
    lines: dict[str, int] = {}
    for line, entry in enumerate(entries[1:], 2):
        entry_id, parent = entry.get("id"), entry.get("parentId")
        if not isinstance(entry_id, str) or entry_id in lines:
            raise PiFormatError(line, "an entry needs an id of its own")
        if parent is not None and parent not in lines:
            raise PiFormatError(line, f"there is no entry {parent!r} before this one")
        lines[entry_id] = line
    branch: list[int] = []
    line = len(entries)
    while line > 1:
        branch.append(line)
        parent = entries[line - 1].get("parentId")
        line = 0 if parent is None else lines[parent]
    return branch[::-1]


class _Recorder:
    """Turns entries into events and remembers which event each became."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._recorded: list[Recorded] = []
        self._seq_of_line: dict[int, int] = {}
        self._compactions: list[tuple[int, int, _Compaction]] = []
        self._model: _Model | None = None

    def select(self, model: _Model, thinking_level: str) -> None:
        self._model = model
        self._recorded.append(
            ModelSelected(model.provider, model.model_id, self._at, thinking_level)
        )

    def take(self, entry: Entry, line: int) -> None:
        self._seq_of_line[line] = len(self._recorded) + 1
        match entry["type"]:
            case "message":
                self._message(entry.get("message"), line)
            case "model_change":
                self.select(_converted(entry, _Model, line), "")
            case "thinking_level_change":
                level = entry.get("thinkingLevel")
                if not isinstance(level, str):
                    raise PiFormatError(line, "thinkingLevel is not text")
                if self._model is not None:
                    self.select(self._model, level)
            case "compaction":
                compaction = _converted(entry, _Compaction, line)
                self._compactions.append((len(self._recorded), line, compaction))
                self._recorded.append(ContextCompacted(compaction.summary, 1, self._at))

    def finish(self, entries: Sequence[Entry]) -> tuple[Recorded, ...]:
        """Point each compaction at the event of the entry that it keeps first."""
        line_of_id = {entry.get("id"): line for line, entry in enumerate(entries, 1)}
        for index, line, compaction in self._compactions:
            if compaction.first_kept_entry_id is not UNSET:
                kept = line_of_id.get(compaction.first_kept_entry_id)
            elif compaction.first_kept_entry_index is not UNSET:
                kept = compaction.first_kept_entry_index + 1
            else:
                kept = line
            if kept not in self._seq_of_line:
                raise PiFormatError(line, "the entry that is kept first is not in this branch")
            self._recorded[index] = ContextCompacted(
                compaction.summary, self._seq_of_line[kept], self._at
            )
        return tuple(self._recorded)

    def _message(self, message: object, line: int) -> None:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise PiFormatError(line, "a message is an object with a role")
        kind = _ROLES.get(message["role"])
        if kind is not None:
            self._recorded.append(MessageCompleted(_as_message(_converted(message, kind, line))))


def _converted(entry: Entry, kind: type[T], line: int) -> T:
    try:
        return msgspec.convert(entry, kind)
    except msgspec.ValidationError as error:
        raise PiFormatError(line, str(error)) from error


def _as_message(message: _User | _Assistant | _ToolResult) -> Message:
    at = int(message.timestamp)
    if isinstance(message, _User):
        content = message.content
        blocks = (Text(content),) if isinstance(content, str) else _blocks(content)
        return UserMessage(blocks, at)
    if isinstance(message, _ToolResult):
        return ToolResultMessage(
            message.tool_call_id,
            message.tool_name,
            _blocks(message.content),
            at,
            message.is_error,
            message.details,
        )
    usage = message.usage
    return AssistantMessage(
        _blocks(message.content),
        at,
        message.provider,
        message.model,
        STOP_REASONS.get(message.stop_reason, message.stop_reason),
        Usage(usage.input, usage.output, usage.cache_read, usage.cache_write),
        message.error_message or "",
    )


def _blocks(content: _Content) -> tuple[Block, ...]:
    blocks: list[Block] = []
    for block in content:
        match block:
            case _Text():
                blocks.append(Text(block.text))
            case _Thinking():
                blocks.append(Thinking(block.thinking, block.thinking_signature or ""))
            case _ToolCall():
                blocks.append(ToolCall(block.id, block.name, block.arguments))
            case _Image():
                blocks.append(Image(block.mime_type, block.data))
    return tuple(blocks)
