"""What a session's stream holds that an erasure is about."""

import bisect
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from actors.audit.erasing.copies import Copies, Part
from actors.replay import decode
from actors.session.commands import Left
from actors.session.events import Erased, Event, MessageCompleted, SessionCreated, SessionReset
from actors.session.messages import ToolResultMessage, preview_of, text_of
from actors.session.record_events import PastErasure, SessionBranched, StreamErased
from actors.session.state import SessionState
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import Head, StoredEvent

READ_AT_ONCE = 500
"""Events that are looked at before others get their turn."""

EARLIER_MAX = 1_000
"""Earlier erasures that an erasure's event tells of, the newest."""

Range = tuple[int, int]


class Survey(Struct, frozen=True):
    """What was found: payloads by their seqs and sizes, and what the stream tells.

    ``session_ids`` are all that the key ever meant, the newest last.
    """

    seqs: tuple[int, ...]
    sizes: tuple[int, ...]
    session_ids: tuple[str, ...]
    forks: tuple[str, ...]
    earlier: tuple[PastErasure, ...]

    @property
    def session_id(self) -> str:
        """Return what the key means, or meant last; "" where that is erased."""
        return self.session_ids[-1] if self.session_ids else ""

    @property
    def payloads(self) -> int:
        """Return how many payloads there are."""
        return len(self.seqs)

    @property
    def bytes(self) -> int:
        """Return how large all payloads are."""
        return sum(self.sizes)

    def within(self, ranges: tuple[Range, ...]) -> "Survey":
        """Return what of it the ranges have; they are in order."""
        firsts = [first for first, _last in ranges]
        kept: list[tuple[int, int]] = []
        for seq, size in zip(self.seqs, self.sizes, strict=True):
            index = bisect.bisect_right(firsts, seq) - 1
            if index >= 0 and seq <= ranges[index][1]:
                kept.append((seq, size))
        seqs, sizes = zip(*kept, strict=True) if kept else ((), ())
        return replace(self, seqs=seqs, sizes=sizes, session_ids=self.session_ids[-1:])


def survey(log: EventLog, head: Head, copies: Copies | None = None) -> Survey:
    """Read a stream from its first event on; ``copies`` follows it."""
    sizes: dict[int, int] = {}
    session_ids: dict[str, None] = {}
    forks: dict[str, None] = {}
    earlier: list[PastErasure] = []
    for stored, event in read(log, head):
        if stored.payload is not None:
            sizes[stored.seq] = len(stored.payload)
        match event:
            case SessionCreated() | SessionReset():
                session_ids[event.session_id] = None
            case SessionBranched():
                forks[event.into_key] = None
            case StreamErased():
                earlier = [*event.earlier, past_of(stored.seq, event)]
        if copies is not None:
            copies.follow(stored.seq, event)
    return Survey(
        tuple(sizes),
        tuple(sizes.values()),
        tuple(session_ids),
        tuple(forks),
        tuple(earlier[-EARLIER_MAX:]),
    )


def read(log: EventLog, head: Head, **options: Any) -> Iterator[tuple[StoredEvent, Event]]:  # noqa: ANN401 - EventLog.read's
    """Yield events as they are stored and as they are, giving others their turn."""
    for count, stored in enumerate(log.read(head, **options), start=1):
        yield stored, decode(head.stream_id, stored)
        if count % READ_AT_ONCE == 0:
            give_way()


def past_of(seq: int, event: StreamErased) -> PastErasure:
    """Return what an erasure's event says, for the event of a later one."""
    return PastErasure(seq, event.receipt_id, event.reason, event.ranges, event.at)


def left_after(log: EventLog, head: Head, state: SessionState, part: Part) -> Left:
    """Return what is left of a session when a part of it is erased."""
    gone = {each.seq for each in part.said if each.seq >= state.first_seq}
    preview = None
    newest = read(log, head, after=state.first_seq - 1, newest_first=True, paged=True)
    for stored, event in newest:
        if stored.seq in gone or isinstance(event, Erased):
            continue
        if isinstance(event, MessageCompleted) and not isinstance(event.message, ToolResultMessage):
            text = text_of(event.message.content)
            if text:
                preview = preview_of(text)
                break
    return Left(preview, len(gone), named=not part.renamed, summarised=not part.compacted)
