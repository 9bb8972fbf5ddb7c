"""The event log without a database: for tests, for tools, and as the model of the real one."""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from persistence import chain
from persistence.errors import (
    ConflictError,
    LeaseLostError,
    OwnedElsewhereError,
    PersistenceError,
)
from persistence.event_log import now_us
from persistence.memories import latest
from persistence.merkle import Place
from persistence.records import (
    GENESIS_HASH,
    SHARED,
    Answer,
    Append,
    Claim,
    Cursor,
    EpisodeRow,
    Erasure,
    Head,
    Leaf,
    Release,
    Reproject,
    Restore,
    Row,
    RowKey,
    Snapshot,
    StoredEvent,
    StreamEntry,
    Summary,
    TailedEvent,
    Write,
)
from persistence.schema import PAGED_TYPES
from persistence.tree import Found


class _Stream:
    def __init__(self, head: Head, owner: str | None) -> None:
        self.head = head
        self.owner: str | None = owner
        self.events: list[StoredEvent] = []
        self.snapshots: dict[int, Snapshot] = {}
        self.summary = Summary(listed=False, active=False, body=b"")
        self.rows: list[Row] = []


class InMemoryEventLog:
    """Implements EventLog; what it holds ends with the process.

    ``is_alive`` tells of an owner by its name; ``answer`` gets the answers to messages in an inbox.
    """

    def __init__(
        self,
        *,
        is_alive: Callable[[str], bool] = lambda _owner: False,
        answer: Callable[[Answer], object] = lambda _answer: None,
        clock_us: Callable[[], int] = now_us,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock_us = clock_us
        self._random_bytes = random_bytes
        self._is_alive = is_alive
        self._answer = answer
        self._streams: dict[str, _Stream] = {}
        self._tail: list[tuple[_Stream, int]] = []
        self._leaves: list[Leaf] = []
        self._nodes: dict[tuple[int, int], bytes] = {}
        self._lock = threading.Lock()

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """See EventLog.write."""
        recorded_at = self._clock_us()
        count = sum(len(write.events) for write in batch if isinstance(write, Append))
        salts = chain.salts(self._random_bytes, count)
        with self._lock:
            return [
                self._claim(write)
                if isinstance(write, Claim)
                else self._restore(write)
                if isinstance(write, Restore)
                else self._write_to(write, recorded_at, salts)
                for write in batch
            ]

    def _claim(self, claim: Claim) -> Head | PersistenceError:
        stream = self._streams.get(claim.stream_id)
        if stream is None:
            head = Head(len(self._streams) + 1, claim.stream_id, 0, GENESIS_HASH, 1)
            stream = self._streams[claim.stream_id] = _Stream(head, claim.owner)
        elif stream.owner != claim.owner:
            if stream.owner is not None and self._is_alive(stream.owner):
                return OwnedElsewhereError(claim.stream_id, stream.owner)
            stream.owner = claim.owner
            stream.head = msgspec.structs.replace(stream.head, epoch=stream.head.epoch + 1)
        return stream.head

    def _write_to(
        self, write: Append | Release | Reproject, recorded_at: int, salts: Iterator[bytes]
    ) -> Head | PersistenceError:
        stream = self._streams[write.head.stream_id]
        if stream.head.epoch != write.head.epoch:
            return LeaseLostError(f"{write.head.stream_id} has epoch {stream.head.epoch}")
        if stream.head.version != write.head.version:
            return ConflictError(f"{write.head.stream_id} is at seq {stream.head.version}")
        if isinstance(write, Release):
            stream.owner = None
        elif isinstance(write, Reproject):
            stream.rows = latest(write.rows)
        else:
            self._append(stream, write, recorded_at, salts)
        return stream.head

    def _restore(self, restore: Restore) -> Head | PersistenceError:
        if restore.stream_id in self._streams:
            return ConflictError(f"{restore.stream_id} is in the log already")
        last = restore.events[-1]
        row = len(self._streams) + 1
        head = Head(row, restore.stream_id, last.seq, last.hash, last.epoch)
        stream = self._streams[restore.stream_id] = _Stream(head, None)
        stream.events.extend(restore.events)
        stream.summary = restore.summary
        stream.rows = latest(restore.rows)
        stream.snapshots = {each.seq: each for each in restore.snapshots}
        self._tail.extend([(stream, event.seq) for event in restore.events])
        return head

    def _erase(self, erasure: Erasure) -> None:
        stream = next(each for each in self._streams.values() if each.head.row == erasure.row)
        for index in range(max(erasure.first, 1) - 1, min(erasure.last, len(stream.events))):
            event = stream.events[index]
            if event.payload is None or event.salt is None:
                continue
            if not erasure.types or event.type in erasure.types:
                digest = event.payload_digest or chain.digest_of(event.salt, event.payload)
                stream.events[index] = msgspec.structs.replace(
                    event, payload=None, salt=None, payload_digest=digest
                )
        if erasure.snapshots:
            stream.snapshots.clear()

    def _append(
        self, stream: _Stream, write: Append, recorded_at: int, salts: Iterator[bytes]
    ) -> None:
        stored, stream.head = chain.extend(stream.head, write.events, recorded_at, salts)
        stream.events.extend(stored)
        self._tail.extend([(stream, event.seq) for event in stored])
        stream.summary = write.summary
        for erasure in write.erasures:
            self._erase(erasure)
        if write.snapshot is not None:
            stream.snapshots[write.snapshot.seq] = write.snapshot
        if write.rows or write.dropped:
            stream.rows = latest((*_without(stream.rows, write.dropped), *write.rows))
        self._leaves.extend(write.leaves)
        self._nodes.update({(each.level, each.index): each.hash for each in write.nodes})
        for answer in write.answers:
            self._answer(answer)

    def reopen(self) -> None:
        """See EventLog.reopen; there is nothing to reopen."""

    def head(self, stream_id: str) -> Head | None:
        """See EventLog.head."""
        stream = self._streams.get(stream_id)
        return None if stream is None else stream.head

    def read(
        self,
        head: Head,
        *,
        after: int = 0,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
        paged: bool = False,
    ) -> Iterator[StoredEvent]:
        """See EventLog.read."""
        end = head.version if before is None else before - 1
        found = self._streams[head.stream_id].events[after : max(after, end)]
        if paged:
            found = [event for event in found if event.type in PAGED_TYPES]
        if newest_first:
            found = found[::-1]
        yield from found[:limit]

    def snapshot(self, head: Head, state_version: int, *, at: int | None = None) -> Snapshot | None:
        """See EventLog.snapshot."""
        newest = head.version if at is None else at
        fitting = [
            snapshot
            for snapshot in self._streams[head.stream_id].snapshots.values()
            if snapshot.state_version == state_version and snapshot.seq <= newest
        ]
        return max(fitting, key=lambda snapshot: snapshot.seq, default=None)

    def entries(
        self,
        *,
        after_row: int = 0,
        limit: int = 100,
        prefix: str = "",
        active: bool | None = None,
        listed: bool = True,
    ) -> list[StreamEntry]:
        """See EventLog.entries."""
        return [
            StreamEntry(stream.head.row, stream_id, stream.summary)
            for stream_id, stream in self._streams.items()
            if stream.summary.listed == listed
            and stream.head.row > after_row
            and stream_id.startswith(prefix)
            and active in (None, stream.summary.active)
        ][:limit]

    def active(self, prefix: str = "") -> list[str]:
        """See EventLog.active."""
        return [
            stream_id
            for stream_id, stream in self._streams.items()
            if stream.summary.active and stream_id.startswith(prefix)
        ]

    def abandoned(self, owner: str, prefix: str = "") -> list[str]:
        """See EventLog.abandoned."""
        return [each for each in self.active(prefix) if self.owner(each) in (None, owner)]

    def owner(self, stream_id: str) -> str | None:
        """See EventLog.owner."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.owner in (None, SHARED):
            return None
        return stream.owner if self._is_alive(stream.owner) else None

    def disowned(self, owner: str, rows: Sequence[int]) -> list[int]:
        """See EventLog.disowned."""
        return [
            stream.head.row
            for stream in self._streams.values()
            if stream.head.row in rows and stream.owner != owner
        ]

    def read_streams(self, after: Mapping[int, int]) -> list[tuple[int, StoredEvent]]:
        """See EventLog.read_streams."""
        return [
            (stream.head.row, event)
            for stream in self._streams.values()
            if stream.head.row in after
            for event in stream.events[after[stream.head.row] :]
        ]

    def end(self) -> Cursor:
        """See EventLog.end."""
        return Cursor(0, len(self._tail))

    def tail(
        self, after: Cursor, *, types: Collection[str] = (), limit: int = 1_000
    ) -> list[TailedEvent]:
        """See EventLog.tail."""
        found = [
            TailedEvent(Cursor(0, position), stream.head.stream_id, stream.events[seq - 1])
            for position, (stream, seq) in enumerate(self._tail, start=1)
            if position > after.position and (not types or stream.events[seq - 1].type in types)
        ]
        return found[:limit]

    def rows(self, stream_id: str) -> list[Row]:
        """Return a stream's projected rows by id, the memories first."""
        return list(self._streams[stream_id].rows)

    def close(self) -> None:
        """See EventLog.close."""


class InMemoryTree:
    """The tree of a log without a database. Implements Tree."""

    def __init__(self, log: InMemoryEventLog) -> None:
        self._log = log

    def counts(self) -> tuple[int, int]:
        """See Tree.counts."""
        return len(self._log._leaves), len(self._log._nodes)

    def nodes(self, places: Sequence[Place]) -> dict[Place, bytes]:
        """See Tree.nodes."""
        return {place: self._log._nodes[place] for place in places if place in self._log._nodes}

    def leaves(self, first: int, limit: int) -> list[Leaf]:
        """See Tree.leaves."""
        return self._log._leaves[first : first + limit]

    def newest_leaf(self, row: int, below: int) -> Leaf | None:
        """See Tree.newest_leaf."""
        of_row = [each for each in self._log._leaves[:below] if each.row == row]
        return of_row[-1] if of_row else None

    def moved(self, *, after_row: int = 0, limit: int) -> list[Head]:
        """See Tree.moved."""
        newest = {leaf.row: leaf.version for leaf in self._log._leaves}
        heads = [stream.head for stream in self._log._streams.values()]
        return [
            head
            for head in heads
            if head.row > after_row and head.version > newest.get(head.row, 0)
        ][:limit]

    def found(self, ends: Sequence[tuple[str, int]]) -> list[Found]:
        """See Tree.found."""
        return [self._found(name, version) for name, version in ends]

    def _found(self, name: str, version: int) -> Found:
        stream = self._log._streams.get(name)
        if stream is None:
            return Found(None, None)
        there = 0 < version <= len(stream.events)
        return Found(stream.head, stream.events[version - 1].hash if there else None)


def _without(rows: Iterable[Row], dropped: Iterable[RowKey]) -> list[Row]:
    """Return the rows but those of the keys."""
    keys = {(key.episode, key.id) for key in dropped}
    return [row for row in rows if (isinstance(row, EpisodeRow), row.id) not in keys]
