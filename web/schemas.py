"""What goes over the wire: request and response types, with the contract's field names."""

from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.session.summary import SessionSummary, ShownApproval


class TextPart(Struct, frozen=True, tag_field="type", tag="text"):
    """Text of a message."""

    text: str


class ReasoningPart(Struct, frozen=True, tag_field="type", tag="reasoning"):
    """What a model reasoned."""

    text: str


class FilePart(Struct, frozen=True, tag_field="type", tag="file", rename="camel"):
    """A picture of a prompt, as a data URL."""

    media_type: str
    url: str


class ToolPart(Struct, frozen=True, tag_field="type", tag="tool-invocation", rename="camel"):
    """A tool call (state ``call``) or its result (``result`` or ``error``)."""

    tool_call_id: str
    tool_name: str
    args: Any = UNSET
    state: str = "call"
    result: Any = UNSET


Part = TextPart | ReasoningPart | FilePart | ToolPart


class HistoryMessage(Struct, frozen=True):
    """A message as history and state show it; ``timestamp`` in milliseconds."""

    id: str
    role: str
    parts: tuple[Part, ...]
    timestamp: int


class PromptResult(Struct, frozen=True, rename="camel"):
    """What became of a prompt that was waited for."""

    ok: bool
    response: str
    session_key: str
    error: str | UnsetType = UNSET


class Approvals(Struct, frozen=True):
    """The tool calls that wait for an approval, the oldest first."""

    approvals: list[ShownApproval]


class ApprovalAnswer(Struct, frozen=True, rename="camel"):
    """An approval as it was answered."""

    ok: bool
    approval_id: str
    approved: bool


class Compacted(Struct, frozen=True, rename="camel"):
    """Whether there was anything to compact, and what models are told from now on."""

    ok: bool
    compacted: bool
    summary: str | UnsetType = UNSET
    first_kept_seq: int | UnsetType = UNSET
    tokens_before: int | UnsetType = UNSET


class Steered(Struct, frozen=True, rename="camel"):
    """How a text reached a session: mode ``steer`` in the running prompt, else ``queued``."""

    ok: bool
    mode: str
    session_key: str


class Enqueued(Struct, frozen=True, rename="camel"):
    """A prompt that was accepted and is not waited for, or not any longer.

    Where its run waits for approvals ``ok`` and ``queued`` are false, ``approvals`` are what is
    to be answered, and ``response`` is what was said so far.
    """

    ok: bool
    queued: bool
    session_key: str
    prompt_id: str
    response: str | UnsetType = UNSET
    error: str | UnsetType = UNSET
    approvals: list[ShownApproval] | UnsetType = UNSET


class ModelChoice(Struct, frozen=True, rename="camel"):
    """A model by its provider's name and its own."""

    provider: str
    model_id: str


class ModelAnswer(Struct, frozen=True, rename="camel"):
    """The model that a session uses from now on, and how much it thinks."""

    ok: bool
    model: ModelChoice
    thinking_level: str | UnsetType = UNSET


class PriceShown(Struct, frozen=True, rename="camel"):
    """USD per million tokens; unset where it is not known."""

    input: float
    output: float
    cache_read: float | UnsetType = UNSET
    cache_write: float | UnsetType = UNSET


class ModelShown(Struct, frozen=True, rename="camel"):
    """A model that a session may choose; ``capabilities`` are among reasoning and vision."""

    provider: str
    model_id: str
    display_name: str
    capabilities: list[str]
    context_window: int | UnsetType = UNSET
    max_output_tokens: int | UnsetType = UNSET
    price: PriceShown | UnsetType = UNSET


class ModelList(Struct, frozen=True):
    """The models, and which of them the primary session uses."""

    models: list[ModelShown]
    current: ModelChoice


class Health(Struct, frozen=True):
    """Whether the process lives and takes requests."""

    ok: bool
    ready: bool


class McpServerShown(Struct, frozen=True, rename="camel"):
    """An MCP server: its state, how many tools it has, its restarts, and the last error."""

    name: str
    state: str
    tools: int
    restarts: int
    error: str | UnsetType = UNSET


class Readiness(Struct, frozen=True, rename="camel"):
    """The same, with how many sessions are loaded, and what tools may do and what holds them.

    ``sandbox`` is bubblewrap, landlock, none (each command needs an approval), or unused.
    """

    ok: bool
    ready: bool
    sessions: int
    tools: str
    sandbox: str
    mcp_servers: list[McpServerShown]


class SessionList(Struct, frozen=True, rename="camel"):
    """Sessions, the oldest first; ``next_cursor`` where there are more."""

    sessions: list[SessionSummary]
    next_cursor: str | UnsetType = UNSET


class SessionAnswer(Struct, frozen=True):
    """One session."""

    session: SessionSummary


class History(Struct, frozen=True):
    """Messages, the oldest first."""

    messages: list[HistoryMessage]


class SessionStateAnswer(Struct, frozen=True):
    """A session with its messages, what streams of the next one included.

    All as of ``seq``; ``digest`` is the SHA-256 of the folded state, the same for whoever
    replays the log up to there.
    """

    session: SessionSummary
    messages: list[HistoryMessage]
    seq: int
    digest: str


class Channels(Struct, frozen=True):
    """Where messages come from besides HTTP: nowhere."""

    channels: list[dict[str, Any]]


class ShownConfig(Struct, frozen=True):
    """The settings as they are now, without any secret."""

    gateway: dict[str, Any]


class ProblemDocument(Struct, frozen=True):
    """What went wrong (RFC 9457); ``error`` is the same text as ``detail``.

    A prompt's problem has the fields of its result too; one in a trace has its id.
    """

    error: str
    type: str
    title: str
    status: int
    detail: str
    request_id: str
    trace_id: str | UnsetType = UNSET


class MemoryIdentity(Struct, frozen=True):
    """Whose memory it is."""

    key: str
    scope: str


class MemoryStatus(Struct, frozen=True, rename="camel"):
    """How much a memory holds; counts are of active rows, times in milliseconds."""

    enabled: bool
    ready: bool
    identity: MemoryIdentity | None
    storage_path: str | None
    core_count: int
    archival_count: int
    episode_count: int
    last_memory_write_at: int | None
    last_episode_at: int | None
    legacy_import_complete: bool


class MemoryStatusAnswer(Struct, frozen=True):
    """A memory at a glance."""

    memory: MemoryStatus


class MemoryRecord(Struct, frozen=True, rename="camel"):
    """One memory; a secret's content is masked for who may not see it."""

    id: int
    bucket: str
    kind: str
    key: str
    content: str
    source: str
    created_at: int
    updated_at: int
    last_accessed_at: int | None


class CoreMemories(Struct, frozen=True):
    """The memories that are recalled every time, newest update first."""

    memories: list[MemoryRecord]


class FoundMemory(Struct, frozen=True, kw_only=True, rename="camel"):
    """What answers a query: a memory, or an episode (a message, with its role).

    ``timestamp`` is that of a memory's last update, of a message's own time.
    """

    id: int
    source_type: Literal["memory", "episode"]
    score: float
    kind: str | UnsetType = UNSET
    bucket: str | UnsetType = UNSET
    key: str | UnsetType = UNSET
    role: str | UnsetType = UNSET
    content: str
    source: str | UnsetType = UNSET
    timestamp: int


class FoundMemories(Struct, frozen=True):
    """What answers a query, the best first."""

    query: str
    results: list[FoundMemory]


class Remembered(Struct, frozen=True):
    """A memory as it is kept; null where memory is off."""

    ok: bool
    memory: MemoryRecord | None


class Forgotten(Struct, frozen=True):
    """Whether there was a memory to forget."""

    ok: bool
    forgotten: bool


class Rebuilt(Struct, frozen=True, rename="camel"):
    """How many rows were made anew, those that are not active included."""

    ok: bool
    memory_rows: int
    episode_rows: int


class LogEntry(Struct, frozen=True):
    """One line of the log for operators, with its time and level."""

    at: int
    level: str
    line: str


class Logs(Struct, frozen=True):
    """The newest lines, the oldest of them first; ``entries`` are the same with times."""

    logs: list[str]
    entries: list[LogEntry]


class IssuedToken(Struct, frozen=True, rename="camel"):
    """A named token, without the token itself."""

    id: str
    name: str
    scopes: tuple[str, ...]
    issued_at: int
    key_prefix: str | UnsetType = UNSET
    revoked_at: int | UnsetType = UNSET


class TokenList(Struct, frozen=True):
    """All tokens there ever were, the oldest first."""

    tokens: list[IssuedToken]


class NewToken(Struct, frozen=True):
    """A token that was issued just now: it is shown this once."""

    ok: bool
    token: str
    issued: IssuedToken


class Ok(Struct, frozen=True):
    """Whether it was done."""

    ok: bool


def body_of(answer: Struct) -> bytes:
    """Return an answer as compact JSON."""
    return msgspec.json.encode(answer)
