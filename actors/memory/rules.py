"""What may be remembered, under which key, and what follows for the rows. Pure."""

from collections.abc import Callable, Iterable
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from actors.memory.events import (
    EpisodeRecorded,
    MemoryForgotten,
    MemoryRecalled,
    MemoryRemembered,
    MemorySuperseded,
)
from actors.session.commands import Command
from actors.session.events import Event
from persistence.records import EpisodeRow, MemoryRow, Row
from persistence.words import normal

CORE = "core"
ARCHIVAL = "archival"
BUCKETS = (CORE, ARCHIVAL)
SECRET = "secret"  # noqa: S105 - a kind of memory
DEFAULT_KIND = "fact"
BUCKET_OF_KIND = {
    "profile": CORE,
    "preference": CORE,
    "relationship": CORE,
    "fact": ARCHIVAL,
    SECRET: ARCHIVAL,
}
"""Where each kind belongs unless it is said otherwise; core memories are recalled every time."""

MANUAL = "manual"
AUTO = "auto"

KEY_CHARACTERS_MAX = 200
EPISODE_CHARACTERS_MAX = 4_000
DIGEST_CHARACTERS = 8


class Origin(Struct, frozen=True):
    """What of a session is meant: all of it where the others are None.

    ``said`` are the messages, by role and time, ``prompt_ids`` the prompts of runs.
    """

    session_key: str
    said: frozenset[tuple[str, int]] | None = None
    prompt_ids: frozenset[str] | None = None


class Remember(Command, frozen=True):
    """Remember something; a kind or bucket that there isn't counts as not given."""

    content: str
    bucket: str = ""
    kind: str = ""
    key: str = ""
    source: str = MANUAL
    session_key: str = ""
    prompt_id: str = ""


class EraseMemories(Command, frozen=True):
    """Erase what came from a session until then, as far as its ``origin`` says."""

    receipt_id: str
    reason: str
    origin: Origin


class Forget(Command, frozen=True):
    """Forget a memory, by its id, or else by its key."""

    memory_id: int | None = None
    key: str = ""


class Recall(Command, frozen=True):
    """Take note of what a model is told."""

    memory_ids: tuple[int, ...]
    episode_ids: tuple[int, ...]
    session_key: str
    prompt_id: str


class Episode(Command, frozen=True):
    """Keep a message; ``at`` is the message's own time."""

    session_key: str
    session_id: str
    role: str
    text: str


def key_of(text: str) -> str:
    """Return the key of a text: its words in their normal form.

    A text without any word, and one that is too long, is told apart by its SHA-256.
    """
    key = normal(text).replace(" ", "-")
    if key and len(key) <= KEY_CHARACTERS_MAX:
        return key
    digest = sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:DIGEST_CHARACTERS]
    return f"{key[: KEY_CHARACTERS_MAX - DIGEST_CHARACTERS - 1] or 'memory'}-{digest}"


def one_line(text: str) -> str:
    """Return a text with its white space collapsed."""
    return " ".join(text.split())


def wanted_key(command: Remember) -> str:
    """Return the key of what is to be remembered."""
    return key_of(command.key) if normal(command.key) else key_of(command.content)


def remember(command: Remember, active: MemoryRow | None, next_id: int) -> tuple[Event, ...]:
    """Return what follows from remembering; ``active`` is the memory that has the key."""
    kind = command.kind if command.kind in BUCKET_OF_KIND else DEFAULT_KIND
    bucket = command.bucket if command.bucket in BUCKETS else BUCKET_OF_KIND[kind]
    content, key, at = one_line(command.content), wanted_key(command), command.at
    origin = (command.session_key, command.prompt_id)
    if active is not None and (active.content, active.bucket, active.kind) == (
        content,
        bucket,
        kind,
    ):
        return (
            MemoryRemembered(active.id, bucket, kind, key, content, active.source, at, *origin),
        )
    remembered = MemoryRemembered(next_id, bucket, kind, key, content, command.source, at, *origin)
    if active is None:
        return (remembered,)
    return (MemorySuperseded(active.id, next_id, at), remembered)


def forget(command: Forget, active: MemoryRow | None) -> tuple[Event, ...]:
    """Return what follows from forgetting the memory that was meant, None where there is none."""
    if active is None or not active.active:
        return ()
    return (MemoryForgotten(active.id, command.at),)


def episode(command: Episode, next_id: int) -> EpisodeRecorded:
    """Return what follows from keeping a message."""
    text = one_line(command.text)
    if len(text) > EPISODE_CHARACTERS_MAX:
        text = text[: EPISODE_CHARACTERS_MAX - 1] + "…"
    return EpisodeRecorded(
        next_id, command.session_key, command.session_id, command.role, text, command.at
    )


def projected(
    events: Iterable[Event], memory: Callable[[int], MemoryRow | None] = lambda _id: None
) -> list[Row]:
    """Return the rows that the events change, as they are afterwards.

    ``memory`` gives the rows that were there before, by id. From the stream's first event on
    this is the whole projection.
    """
    memories: dict[int, MemoryRow] = {}
    episodes: list[EpisodeRow] = []

    def found(memory_id: int) -> MemoryRow | None:
        return memories.get(memory_id) or memory(memory_id)

    for event in events:
        match event:
            case EpisodeRecorded():
                episodes.append(_episode_row(event))
            case MemoryRecalled():
                for memory_id in event.memory_ids:
                    row = found(memory_id)
                    if row is not None:
                        memories[memory_id] = replace(row, last_accessed_at=event.at)
            case MemoryRemembered():
                memories[event.memory_id] = _remembered_row(event, found(event.memory_id))
            case MemorySuperseded() | MemoryForgotten():
                row = found(event.memory_id)
                if row is None:  # it is erased
                    continue
                by = event.by if isinstance(event, MemorySuperseded) else None
                memories[event.memory_id] = replace(
                    row, active=False, superseded_at=event.at, superseded_by=by
                )
    return [*memories.values(), *episodes]


def _remembered_row(event: MemoryRemembered, row: MemoryRow | None) -> MemoryRow:
    if row is not None:
        return replace(row, updated_at=event.at, last_accessed_at=event.at)
    return MemoryRow(
        id=event.memory_id,
        bucket=event.bucket,
        kind=event.kind,
        key=event.key,
        content=event.content,
        source=event.source,
        active=True,
        created_at=event.at,
        updated_at=event.at,
    )


def _episode_row(event: EpisodeRecorded) -> EpisodeRow:
    return EpisodeRow(
        event.episode_id,
        event.session_key,
        event.session_id,
        event.role,
        event.text,
        event.at,
    )
