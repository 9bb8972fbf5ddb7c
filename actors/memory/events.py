"""What can happen to a memory: facts in the past tense. Pure.

Stream ``memory:<identity>``. ``at`` is in milliseconds since the epoch, UTC.
"""

from typing import ClassVar

from actors.session.codec import Codec
from actors.session.events import Event
from actors.session.record_events import StreamErased


class MemoryRemembered(Event, frozen=True):
    """Something is to be remembered; with the id of a memory that is there, once more the same.

    ``session_key`` and ``prompt_id`` say what it was learnt from, where it was a session's run.
    """

    wire_name: ClassVar[str] = "memory.remembered"
    memory_id: int
    bucket: str
    kind: str
    key: str
    content: str
    source: str
    at: int
    session_key: str = ""
    prompt_id: str = ""


class MemorySuperseded(Event, frozen=True):
    """Another memory has taken its key."""

    wire_name: ClassVar[str] = "memory.superseded"
    memory_id: int
    by: int
    at: int


class MemoryForgotten(Event, frozen=True):
    """Somebody wants it forgotten."""

    wire_name: ClassVar[str] = "memory.forgotten"
    memory_id: int
    at: int


class MemoryRecalled(Event, frozen=True):
    """A model was told these memories, core ones and found ones, in a prompt's run."""

    wire_name: ClassVar[str] = "memory.recalled"
    memory_ids: tuple[int, ...]
    episode_ids: tuple[int, ...]
    session_key: str
    prompt_id: str
    at: int


class EpisodeRecorded(Event, frozen=True):
    """A message of a conversation, to be found again."""

    wire_name: ClassVar[str] = "episode.recorded"
    episode_id: int
    session_key: str
    session_id: str
    role: str
    text: str
    at: int


MEMORY_EVENTS: tuple[type[Event], ...] = (
    MemoryRemembered,
    MemorySuperseded,
    MemoryForgotten,
    MemoryRecalled,
    EpisodeRecorded,
    StreamErased,
)

CODEC = Codec(MEMORY_EVENTS)
