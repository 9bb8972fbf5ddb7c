"""The event log without a database: for tests, for tools, and as the model of the real one."""

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

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
from persistence.records import (
    GENESIS_HASH,
    SHARED,
    Answer,
    Append,
    Claim,
    Cursor,
    Head,
    Release,
    Reproject,
    Row,
    Snapshot,
    StoredEvent,
    StreamEntry,
    Summary,
    TailedEvent,
    Write,
)
from persistence.schema import PAGED_TYPES


class _Stream:
    def __init__(self, head: Head, owner: str) -> None:
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
        self._tail: list[tuple[str, StoredEvent]] = []
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

    def _append(
        self, stream: _Stream, write: Append, recorded_at: int, salts: Iterator[bytes]
    ) -> None:
        stored, stream.head = chain.extend(stream.head, write.events, recorded_at, salts)
        stream.events.extend(stored)
        self._tail.extend([(write.head.stream_id, event) for event in stored])
        stream.summary = write.summary
        if write.snapshot is not None:
            stream.snapshots[write.snapshot.seq] = write.snapshot
        if write.rows:
            stream.rows = latest((*stream.rows, *write.rows))
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
    ) -> list[StreamEntry]:
        """See EventLog.entries."""
        return [
            StreamEntry(stream.head.row, stream_id, stream.summary)
            for stream_id, stream in self._streams.items()
            if stream.summary.listed
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
            TailedEvent(Cursor(0, position), stream_id, event)
            for position, (stream_id, event) in enumerate(self._tail, start=1)
            if position > after.position and (not types or event.type in types)
        ]
        return found[:limit]

    def rows(self, stream_id: str) -> list[Row]:
        """Return a stream's projected rows by id, the memories first."""
        return list(self._streams[stream_id].rows)

    def close(self) -> None:
        """See EventLog.close."""
