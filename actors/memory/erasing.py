"""What of a memory came from a session, and what is left of the memory without it."""

from collections.abc import Iterator

from msgspec import Struct

from actors.erasures import erasures_of
from actors.memory.events import CODEC, EpisodeRecorded, MemoryRemembered
from actors.memory.rules import EraseMemories, projected
from actors.session.decide_erasure import merged
from actors.session.events import Erased, Event, attributed
from actors.session.record_events import StreamErased
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import (
    Append,
    EpisodeRow,
    Head,
    MemoryRow,
    NewEvent,
    RowKey,
    StoredEvent,
    Summary,
)

UNLISTED = Summary(listed=False, active=False, body=b"")
READ_AT_ONCE = 500
"""Events that are looked at before others get their turn."""


class ErasedMemories(Struct, frozen=True):
    """How much of a memory was erased; ``bytes`` is the size of its payloads."""

    memories: int = 0
    episodes: int = 0
    payloads: int = 0
    bytes: int = 0

    def and_also(self, other: "ErasedMemories") -> "ErasedMemories":
        """Return how much was erased together."""
        return ErasedMemories(
            self.memories + other.memories,
            self.episodes + other.episodes,
            self.payloads + other.payloads,
            self.bytes + other.bytes,
        )


def event_of(stored: StoredEvent) -> Event:
    """Return an event of a memory's stream, Erased where nothing of it is left."""
    if stored.payload is None:
        return Erased(type=stored.type)
    return CODEC.decode(stored.type, stored.schema_version, stored.payload)


def erase(
    log: EventLog, head: Head, command: EraseMemories
) -> tuple[Append | None, ErasedMemories]:
    """Return what erases the memories of a session, and how much; None where there are none.

    A memory that another session has confirmed since stays, as it was learnt there.
    """
    rows: dict[int, MemoryRow] = {}
    keys: list[RowKey] = []
    seqs: list[tuple[int, int]] = []
    size = 0
    for stored, event in _events(log, head):
        key = _key_of(event, command)
        if key is not None:
            keys.append(key)
            seqs.append((stored.seq, stored.seq))
            size += len(stored.payload or b"")
        elif not isinstance(event, EpisodeRecorded):
            changed = projected([event], rows.get)
            rows |= {row.id: row for row in changed if not isinstance(row, EpisodeRow)}
    if not seqs:
        return None, ErasedMemories()
    dropped = tuple(dict.fromkeys(keys))
    episodes = sum([key.episode for key in dropped])
    erased = StreamErased(command.receipt_id, command.reason, merged(tuple(seqs)), command.at)
    events = attributed((erased,), command.request)
    append = Append(
        head,
        tuple(
            [
                NewEvent(each.wire_name, each.schema_version, CODEC.encode(each), command.principal)
                for each in events
            ]
        ),
        UNLISTED,
        rows=tuple([rows[key.id] for key in dropped if not key.episode and key.id in rows]),
        dropped=dropped,
        erasures=erasures_of(head, events),
    )
    return append, ErasedMemories(len(dropped) - episodes, episodes, len(seqs), size)


def _events(log: EventLog, head: Head) -> Iterator[tuple[StoredEvent, Event]]:
    for count, stored in enumerate(log.read(head), start=1):
        yield stored, event_of(stored)
        if count % READ_AT_ONCE == 0:
            give_way()


def _key_of(event: Event, command: EraseMemories) -> RowKey | None:
    """Return the row of an event that is to be erased; None for any other."""
    origin = command.origin
    if isinstance(event, EpisodeRecorded):
        wanted = origin.said is None or (event.role, event.at) in origin.said
        row = RowKey(event.episode_id, episode=True)
    elif isinstance(event, MemoryRemembered):
        wanted = origin.prompt_ids is None or event.prompt_id in origin.prompt_ids
        row = RowKey(event.memory_id)
    else:
        return None
    mine = event.session_key == origin.session_key and event.at <= command.at
    return row if wanted and mine else None
