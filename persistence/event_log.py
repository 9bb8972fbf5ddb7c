"""The event log: what any store must do, and the store in an SQL database."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from msgspec.structs import astuple, replace

from persistence import chain
from persistence._beside import Beside
from persistence._heads import head_row, stray_heads
from persistence._sealing import Sealing
from persistence.engine import statements_for, translated_errors
from persistence.errors import (
    ConflictError,
    CorruptLogError,
    LeaseLostError,
    OwnedElsewhereError,
    PersistenceError,
    StoreUnavailableError,
)
from persistence.log_reader import LogReader
from persistence.memories import Projection
from persistence.native import Caller, call_here
from persistence.postgres import LEASE_S
from persistence.records import (
    GENESIS_HASH,
    Append,
    Claim,
    Cursor,
    Head,
    Release,
    Reproject,
    Restore,
    Snapshot,
    StoredEvent,
    StreamEntry,
    TailedEvent,
    Write,
)
from persistence.scrubbing import scrub
from persistence.vault import Vault

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.pool import PoolProxiedConnection


class EventLog(Protocol):
    """Streams of events, appended with an expected version and read by seq.

    Every method may block on the database and raises StoreUnavailableError when it can't be
    reached.
    """

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """Carry out a batch in one transaction; return a new head, or an error, for each.

        Each write is carried out whole, its projected rows included. One that conflicts changes
        nothing and does not disturb the others, which then may take a transaction each. When
        this returns, what it acknowledges is durable. When it raises, nothing may be assumed.
        """

    def reopen(self) -> None:
        """Drop the writing connection after an error and check the heads against the events.

        Raises CorruptLogError when they disagree.
        """

    def head(self, stream_id: str) -> Head | None:
        """Return where the stream ends, or None when there is no such stream."""

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
        """Yield the events with ``after < seq < before``, at most ``limit`` of them.

        ``paged`` keeps to the types that history shows.
        """

    def snapshot(self, head: Head, state_version: int, *, at: int | None = None) -> Snapshot | None:
        """Return the newest snapshot of that shape, of seq ``at`` or before."""

    def entries(
        self,
        *,
        after_row: int = 0,
        limit: int = 100,
        prefix: str = "",
        active: bool | None = None,
        listed: bool = True,
    ) -> list[StreamEntry]:
        """Return the (un)listed streams by age, the oldest first; all, or only the (in)active."""

    def active(self, prefix: str = "") -> list[str]:
        """Return the ids of the streams that have work to carry on with."""

    def abandoned(self, owner: str, prefix: str = "") -> list[str]:
        """Return the ids of those that ``owner`` may carry on with: no other process owns them."""

    def owner(self, stream_id: str) -> str | None:
        """Return who owns the stream and is alive; None where anybody may."""

    def disowned(self, owner: str, rows: Sequence[int]) -> list[int]:
        """Return which of the streams, given by their rows, the owner does not own."""

    def read_streams(self, after: Mapping[int, int]) -> list[tuple[int, StoredEvent]]:
        """Return what follows in several streams: their rows, with the last seq known of each.

        The events of a stream are in order; there may be more of them.
        """

    def end(self) -> Cursor:
        """Return a cursor that no event which is appended from now on comes before."""

    def tail(
        self, after: Cursor, *, types: Collection[str] = (), limit: int = 1_000
    ) -> list[TailedEvent]:
        """Return the events of all streams that follow, of the given types or of any.

        Read again from the last one's cursor on, they are all there are, each once, each
        stream's in order. Events come as soon as nothing can come before them any more.
        """

    def close(self) -> None:
        """Give back the connections."""


def now_us() -> int:
    """Return the time in microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


logger = logging.getLogger(__name__)

RETRIES_MAX = 3
"""How often a batch that the database has undone by itself is tried again."""

Outcome = Head | PersistenceError


class _HeadMovedError(Exception):
    """A stream is not where its append expected it; the transaction is rolled back."""


class _UndoneError(Exception):
    """The database has undone the transaction, for others' sake."""


class SqlEventLog(LogReader):
    """The log in an SQL database, by one writing engine and one for reads.

    ``commit_in`` runs the commit, the only step that waits for the disk. With a ``vault`` what is
    stored is encrypted. Clock and randomness are parameters. Implements EventLog.
    """

    def __init__(
        self,
        writer: sa.Engine,
        reader: sa.Engine,
        *,
        commit_in: Caller = call_here,
        lease_s: float = LEASE_S,
        clock_us: Callable[[], int] = now_us,
        random_bytes: Callable[[int], bytes] = os.urandom,
        vault: Vault | None = None,
    ) -> None:
        super().__init__(reader, statements_for(writer.dialect, lease_s), vault)
        self._sealing = None if vault is None else Sealing(vault)
        self._writer = writer
        self._commit_in = commit_in
        self._clock_us = clock_us
        self._random_bytes = random_bytes
        self._projection = Projection(writer.dialect)
        self._beside = Beside(writer.dialect, self._sql)
        self._connection: PoolProxiedConnection | None = None
        self.unscrubbed = False
        """Whether the database's own files may still hold something that was erased."""

    def write(self, batch: Sequence[Write]) -> list[Outcome]:
        """See EventLog.write."""
        sealed = batch if self._sealing is None else self._sealing.sealed(batch)
        outcomes = self._write(sealed)
        if self._sealing is not None:
            self._sealing.committed(sealed, outcomes)
        if any(isinstance(write, Append) and write.erasures for write in batch):
            self.unscrubbed = True
        if self.unscrubbed and self._writer.dialect.name == "sqlite":
            self._scrub()
        return outcomes

    def _scrub(self) -> None:
        """Try to leave no trace of what was erased; the next write tries again."""
        try:
            self.unscrubbed = not scrub(self._connection, self._commit_in)
        except self._sql.driver_error:  # what was written is durable all the same
            logger.exception("What was erased may be in the write-ahead log still.")

    def _write(self, batch: Sequence[Write]) -> list[Outcome]:
        try:
            return self._retried(batch)
        except _HeadMovedError:  # find out whose, and write the rest
            stale = self._staleness(batch)
        rest = [write for write, error in zip(batch, stale, strict=True) if error is None]
        written = iter(self._write_rest(rest))
        return [error or next(written) for error in stale]

    def _write_rest(self, batch: Sequence[Write]) -> list[Outcome]:
        """Write at once what was not stale a moment ago, or one by one."""
        if not batch:
            return []
        try:
            return self._retried(batch)
        except _HeadMovedError:
            return [self._write_one(write) for write in batch]

    def _write_one(self, write: Write) -> Outcome:
        try:
            return self._retried([write])[0]
        except _HeadMovedError:
            assert not isinstance(write, Claim | Restore)
            return self._conflict(write.head, self.head(write.head.stream_id))

    def _retried(self, batch: Sequence[Write]) -> list[Outcome]:
        for _attempt in range(RETRIES_MAX):
            with contextlib.suppress(_UndoneError):
                return self._write_all(batch)
        raise StoreUnavailableError("The database undoes what is written, again and again.")

    def _staleness(self, batch: Sequence[Write]) -> list[PersistenceError | None]:
        """Return for each write why it can't be carried out any more, None where it may be."""
        expected = [None if isinstance(write, Claim | Restore) else write.head for write in batch]
        found = self.heads([head.row for head in expected if head is not None])
        return [
            None if head is None else self._stale(head, found.get(head.row)) for head in expected
        ]

    def _stale(self, expected: Head, found: Head | None) -> PersistenceError | None:
        if found is None or found.epoch != expected.epoch or found.version > expected.version:
            return self._conflict(expected, found)
        return None

    def _write_all(self, batch: Sequence[Write]) -> list[Outcome]:
        """Write the batch as one transaction. Raises _HeadMovedError and leaves no trace."""
        recorded_at = self._clock_us()
        count = sum(len(write.events) for write in batch if isinstance(write, Append))
        salts = chain.salts(self._random_bytes, count)
        heads: list[Outcome] = []
        head_rows: list[tuple[object, ...]] = []
        event_rows: list[tuple[object, ...]] = []
        with self._transaction() as cursor:
            for write in batch:
                if isinstance(write, Append):
                    stored, head = chain.extend(write.head, write.events, recorded_at, salts)
                    if self._sealing is not None:
                        stored = self._sealing.events(head.stream_id, stored)
                    event_rows.extend([(head.row, *astuple(event)) for event in stored])
                    head_rows.append(head_row(write, head))
                    heads.append(head)
                    if write.rows or write.dropped:
                        self._move_heads(cursor, head_rows)  # a conflict is known before the work
                        self._projection.update(cursor, head.row, write.rows, write.dropped)
                else:
                    self._move_heads(cursor, head_rows)  # the write must see them
                    heads.append(self._write_other(cursor, write))
            self._move_heads(cursor, head_rows)
            if event_rows:
                self._sql.insert_events(cursor, event_rows)
            for write in batch:
                if isinstance(write, Append) and not self._beside.store(cursor, write):
                    raise _HeadMovedError
        return heads

    @contextlib.contextmanager
    def _transaction(self) -> Iterator["DBAPICursor"]:
        """Begin, and commit what was executed on the cursor, all or nothing.

        The writer keeps one connection and uses its cursor directly: SQLAlchemy's execution of
        these few statements costs as much as all the rest of a small batch.
        """
        with translated_errors(self._sql.driver_error):
            if self._connection is None:
                self._connection = self._writer.raw_connection()
            connection = self._connection
            cursor = connection.cursor()
            try:
                if self._sql.begin:
                    cursor.execute(self._sql.begin)
                yield cursor
                self._commit_in(connection.commit)
            except BaseException as error:
                connection.rollback()
                if self._sql.is_rolled_back(error):
                    raise _UndoneError from error
                raise
            finally:
                cursor.close()

    def _move_heads(self, cursor: "DBAPICursor", rows: list[tuple[object, ...]]) -> None:
        """Move the heads and empty the list. Raises _HeadMovedError."""
        if rows:
            if not self._sql.move_heads(cursor, rows):
                raise _HeadMovedError
            rows.clear()

    def _conflict(self, expected: Head, found: Head | None) -> PersistenceError:
        if found is not None and found.epoch != expected.epoch:
            return LeaseLostError(
                f"{expected.stream_id} has epoch {found.epoch}, not {expected.epoch}: "
                "another process owns it"
            )
        return ConflictError(
            f"{expected.stream_id} is at seq {found.version if found else 'none'}, "
            f"not {expected.version}"
        )

    def _write_other(
        self, cursor: "DBAPICursor", write: Claim | Release | Reproject | Restore
    ) -> Outcome:
        """Carry out the write and return its outcome. Raises _HeadMovedError."""
        if isinstance(write, Claim):
            return self._claim(cursor, write)
        if isinstance(write, Restore):
            return self._restore(cursor, write)
        found = self._find_head(cursor, write.head.stream_id)
        if found is None or (found.version, found.epoch) != (write.head.version, write.head.epoch):
            raise _HeadMovedError
        if isinstance(write, Release):
            cursor.execute(self._sql.release, (found.row, found.epoch))
        else:
            self._projection.replace(cursor, found.row, write.rows)
        return found

    def _claim(self, cursor: "DBAPICursor", claim: Claim) -> Outcome:
        sql, name, owner = self._sql, claim.stream_id, claim.owner
        cursor.execute(sql.insert_stream, (name, GENESIS_HASH, owner, b""))
        if cursor.rowcount == 0:
            if sql.lock_stream:
                cursor.execute(sql.lock_stream, (name,))
            cursor.execute(sql.take_over, (owner, name, owner))
            cursor.execute(sql.find_owner, (name,))
            found: Any = cursor.fetchone()
            if found[0] != owner:
                return OwnedElsewhereError(name, found[0])
        head = self._find_head(cursor, name)
        assert head is not None
        return head

    def _restore(self, cursor: "DBAPICursor", restore: Restore) -> Outcome:
        cursor.execute(self._sql.insert_stream, (restore.stream_id, GENESIS_HASH, None, b""))
        if cursor.rowcount == 0:
            return ConflictError(f"{restore.stream_id} is in the log already")
        head = self._find_head(cursor, restore.stream_id)
        assert head is not None
        last = restore.events[-1]
        moved = (last.seq, last.hash, *astuple(restore.summary), head.row, 0, 1)
        self._move_heads(cursor, [moved])
        cursor.execute(self._sql.raise_epoch, (last.epoch, head.row))
        self._sql.insert_events(cursor, [(head.row, *astuple(event)) for event in restore.events])
        self._projection.update(cursor, head.row, restore.rows)
        for snapshot in restore.snapshots:
            self._beside.store_snapshot(cursor, head.row, snapshot)
        return replace(head, version=last.seq, hash=last.hash, epoch=last.epoch)

    def _find_head(self, cursor: "DBAPICursor", stream_id: str) -> Head | None:
        cursor.execute(self._sql.find_head, (stream_id,))
        found: Any = cursor.fetchone()
        return None if found is None else Head(*found)

    def reopen(self) -> None:
        """See EventLog.reopen."""
        with translated_errors():
            self._drop_connection()
            with self._reader.connect() as connection:
                stray = connection.execute(stray_heads()).first()
        if stray is not None:
            raise CorruptLogError(stray.stream_id, stray.version, "the head is not the last event")

    def close(self) -> None:
        """See EventLog.close."""
        self._drop_connection()
        self._reader.dispose()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection = None
        self._writer.dispose()
