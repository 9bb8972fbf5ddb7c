"""What is read of the event log in an SQL database."""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from persistence._statements import Statements
from persistence.engine import translated_errors
from persistence.errors import CorruptLogError
from persistence.records import Head, Snapshot, StoredEvent, StreamEntry, Summary
from persistence.schema import snapshots, streams

READ_CHUNK_ROWS_MIN = 64
READ_CHUNK_ROWS_MAX = 1_000
"""A read begins with a small chunk: who reads backwards seldom wants it all."""

UNDECODABLE = "Could not decode to UTF-8"
"""What SQLite's driver says of text that is none."""


class LogReader:
    """The reading half of EventLog; each read is a statement of its own, or a few."""

    def __init__(self, reader: sa.Engine, statements: Statements) -> None:
        self._reader = reader
        self._sql = statements

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


def _begins_with(prefix: str) -> sa.ColumnElement[bool]:
    return sa.func.substr(streams.c.stream_id, 1, len(prefix)) == prefix  # LIKE ignores case
