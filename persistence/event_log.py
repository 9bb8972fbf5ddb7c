"""The event log: what any store must do, and the store in an SQL database."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from msgspec.structs import astuple

from persistence import chain
from persistence._statements import Statements
from persistence.engine import translated_errors
from persistence.errors import (
    ConflictError,
    CorruptLogError,
    LeaseLostError,
    PersistenceError,
)
from persistence.native import Caller, call_here
from persistence.records import (
    GENESIS_HASH,
    Append,
    Claim,
    Head,
    Snapshot,
    StoredEvent,
    StreamEntry,
    Summary,
    Write,
)
from persistence.schema import events, snapshots, streams

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor
    from sqlalchemy.pool import PoolProxiedConnection

READ_CHUNK_ROWS_MIN = 64
READ_CHUNK_ROWS_MAX = 1_000
"""A read begins with a small chunk: who reads backwards seldom wants it all."""


UNDECODABLE = "Could not decode to UTF-8"
"""What SQLite's driver says of text that is none."""


class EventLog(Protocol):
    """Streams of events, appended with an expected version and read by seq.

    Every method may block on the database and raises StoreUnavailableError when it can't be
    reached.
    """

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """Carry out a batch in one transaction; return a new head, or an error, for each.

        A write that conflicts changes nothing and does not disturb the others, which then may
        take a transaction each. When this returns, what it acknowledges is durable. When it
        raises, nothing may be assumed.
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
    ) -> list[StreamEntry]:
        """Return the listed streams by age, the oldest first; all, or only the (in)active."""

    def active(self, prefix: str = "") -> list[str]:
        """Return the ids of the streams that have work to carry on with."""

    def close(self) -> None:
        """Give back the connections."""


def now_us() -> int:
    """Return the time in microseconds since the epoch, UTC."""
    return time.time_ns() // 1_000


class _HeadMovedError(Exception):
    """A stream is not where its append expected it; the transaction is rolled back."""


class SqlEventLog:
    """The log in an SQL database, by one writing engine and one for reads.

    ``commit_in`` runs the commit, the only step that waits for the disk. Clock and randomness
    are parameters. Implements EventLog.
    """

    def __init__(
        self,
        writer: sa.Engine,
        reader: sa.Engine,
        *,
        commit_in: Caller = call_here,
        clock_us: Callable[[], int] = now_us,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._commit_in = commit_in
        self._clock_us = clock_us
        self._random_bytes = random_bytes
        self._sql = Statements(writer.dialect)
        self._connection: PoolProxiedConnection | None = None

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """See EventLog.write."""
        try:
            return self._write_all(batch)
        except _HeadMovedError:  # find out whose, and write the rest
            return [self._write_one(write) for write in batch]

    def _write_one(self, write: Write) -> Head | PersistenceError:
        try:
            return self._write_all([write])[0]
        except _HeadMovedError:
            assert isinstance(write, Append)
            return self._conflict(write.head)

    def _write_all(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        """Write the batch as one transaction. Raises _HeadMovedError and leaves no trace."""
        recorded_at = self._clock_us()
        count = sum(len(write.events) for write in batch if isinstance(write, Append))
        salts = chain.salts(self._random_bytes, count)
        heads: list[Head | PersistenceError] = []
        head_rows: list[tuple[object, ...]] = []
        event_rows: list[tuple[object, ...]] = []
        with self._transaction() as cursor:
            for write in batch:
                if isinstance(write, Claim):
                    self._move_heads(cursor, head_rows)  # the claim must see them
                    heads.append(self._claim(cursor, write))
                else:
                    stored, head = chain.extend(write.head, write.events, recorded_at, salts)
                    event_rows.extend([(head.row, *astuple(event)) for event in stored])
                    head_rows.append(_head_row(write, head))
                    heads.append(head)
            self._move_heads(cursor, head_rows)
            if event_rows:
                cursor.executemany(self._sql.insert_event, event_rows)
            self._store_snapshots(cursor, batch)
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
            except BaseException:
                connection.rollback()
                raise
            finally:
                cursor.close()

    def _move_heads(self, cursor: "DBAPICursor", rows: list[tuple[object, ...]]) -> None:
        """Move the heads and empty the list. Raises _HeadMovedError."""
        if rows:
            cursor.executemany(self._sql.move_head, rows)
            if cursor.rowcount != len(rows):
                raise _HeadMovedError
            rows.clear()

    def _conflict(self, expected: Head) -> PersistenceError:
        found = self.head(expected.stream_id)
        if found is not None and found.epoch != expected.epoch:
            return LeaseLostError(
                f"{expected.stream_id} has epoch {found.epoch}, not {expected.epoch}: "
                "another process owns it"
            )
        return ConflictError(
            f"{expected.stream_id} is at seq {found.version if found else 'none'}, "
            f"not {expected.version}"
        )

    def _claim(self, cursor: "DBAPICursor", claim: Claim) -> Head:
        sql = self._sql
        cursor.execute(sql.find_owner, (claim.stream_id,))
        row = cursor.fetchone()
        if row is None:
            cursor.execute(sql.insert_stream, (claim.stream_id, GENESIS_HASH, claim.owner))
        elif row[1] != claim.owner:
            cursor.execute(sql.raise_epoch, (claim.owner, row[0]))
        cursor.execute(sql.find_head, (claim.stream_id,))
        found: Any = cursor.fetchone()
        return Head(*found)

    def _store_snapshots(self, cursor: "DBAPICursor", batch: Sequence[Write]) -> None:
        for write in batch:
            if isinstance(write, Append) and write.snapshot is not None:
                snapshot = write.snapshot
                cursor.execute(self._sql.delete_snapshot, (write.head.row, snapshot.seq))
                cursor.execute(
                    self._sql.insert_snapshot,
                    (write.head.row, snapshot.seq, snapshot.state_version, snapshot.state),
                )

    def reopen(self) -> None:
        """See EventLog.reopen."""
        with translated_errors():
            self._drop_connection()
            with self._reader.connect() as connection:
                stray = connection.execute(_stray_heads()).first()
        if stray is not None:
            raise CorruptLogError(stray.stream_id, stray.version, "the head is not the last event")

    def head(self, stream_id: str) -> Head | None:
        """See EventLog.head."""
        with translated_errors(), self._reader.connect() as connection:
            row = connection.exec_driver_sql(self._sql.find_head, (stream_id,)).one_or_none()
        return None if row is None else Head(*row)

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
        """See EventLog.read; rows come in chunks, and no connection is held between them."""
        statement = self._sql.read(newest_first=newest_first, paged=paged)
        low, high = after, before if before is not None else head.version + 1
        left = limit if limit is not None else high
        chunk = READ_CHUNK_ROWS_MIN
        while left > 0 and high - low > 1:
            size = min(left, chunk)
            chunk = min(chunk * 4, READ_CHUNK_ROWS_MAX)
            rows = self._fetch(statement, head, low, high, size)
            for row in rows:
                yield StoredEvent(*row)
            if len(rows) < size:
                return
            left -= size
            if newest_first:
                high = rows[-1].seq
            else:
                low = rows[-1].seq

    def _fetch(self, statement: str, head: Head, low: int, high: int, size: int) -> Sequence[Any]:
        with translated_errors(), self._reader.connect() as connection:
            try:
                return connection.exec_driver_sql(statement, (head.row, low, high, size)).fetchall()
            except sa.exc.OperationalError as error:
                if UNDECODABLE not in str(error.orig):
                    raise
        # SQLite's driver doesn't say which row: look at each by itself.
        if high - low == 2:
            raise CorruptLogError(head.stream_id, low + 1, "text that is not UTF-8")
        for seq in range(low + 1, high):
            self._fetch(statement, head, seq - 1, seq + 1, 1)
        raise CorruptLogError(head.stream_id, low + 1, "text that is not UTF-8")

    def snapshot(self, head: Head, state_version: int, *, at: int | None = None) -> Snapshot | None:
        """See EventLog.snapshot."""
        query = (
            sa.select(snapshots.c.seq, snapshots.c.state_version, snapshots.c.state)
            .where(snapshots.c.stream == head.row, snapshots.c.state_version == state_version)
            .where(snapshots.c.seq <= (head.version if at is None else at))
            .order_by(snapshots.c.seq.desc())
            .limit(1)
        )
        with translated_errors(), self._reader.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Snapshot(row.seq, row.state_version, row.state)

    def entries(
        self,
        *,
        after_row: int = 0,
        limit: int = 100,
        prefix: str = "",
        active: bool | None = None,
    ) -> list[StreamEntry]:
        """See EventLog.entries."""
        query = (
            sa.select(
                streams.c.id,
                streams.c.stream_id,
                streams.c.listed,
                streams.c.active,
                streams.c.summary,
            )
            .where(streams.c.listed, streams.c.id > after_row)
            .where(_begins_with(prefix))
            .order_by(streams.c.id)
            .limit(limit)
        )
        if active is not None:
            query = query.where(streams.c.active == active)
        with translated_errors(), self._reader.connect() as connection:
            rows = connection.execute(query).all()
        return [
            StreamEntry(row.id, row.stream_id, Summary(row.listed, row.active, row.summary))
            for row in rows
        ]

    def active(self, prefix: str = "") -> list[str]:
        """See EventLog.active."""
        query = (
            sa.select(streams.c.stream_id)
            .where(streams.c.active)
            .where(_begins_with(prefix))
            .order_by(streams.c.id)
        )
        with translated_errors(), self._reader.connect() as connection:
            return list(connection.scalars(query))

    def close(self) -> None:
        """See EventLog.close."""
        self._drop_connection()
        self._reader.dispose()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.invalidate()
            self._connection = None
        self._writer.dispose()


def _head_row(write: Append, head: Head) -> tuple[object, ...]:
    return (
        head.version,
        head.hash,
        write.summary.listed,
        write.summary.active,
        write.summary.body,
        head.row,
        write.head.version,
        write.head.epoch,
    )


def _begins_with(prefix: str) -> sa.ColumnElement[bool]:
    return sa.func.substr(streams.c.stream_id, 1, len(prefix)) == prefix  # LIKE ignores case


def _stray_heads() -> sa.Select[tuple[str, int]]:
    last = (
        sa.select(events.c.hash)
        .where(events.c.stream == streams.c.id, events.c.seq == streams.c.version)
        .scalar_subquery()
    )
    beyond = (
        sa.select(events.c.seq)
        .where(events.c.stream == streams.c.id, events.c.seq > streams.c.version)
        .exists()
    )
    wrong = (streams.c.version > 0) & (sa.func.coalesce(last, b"") != streams.c.hash)
    return sa.select(streams.c.stream_id, streams.c.version).where(wrong | beyond).limit(1)
