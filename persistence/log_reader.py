"""What is read of the event log in an SQL database."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from persistence._statements import Statements
from persistence.engine import translated_errors
from persistence.errors import CorruptLogError
from persistence.records import (
    SHARED,
    Cursor,
    Head,
    Snapshot,
    StoredEvent,
    StreamEntry,
    Summary,
    TailedEvent,
)
from persistence.schema import snapshots, streams
from persistence.vault import Vault

READ_CHUNK_ROWS_MIN = 64
READ_CHUNK_ROWS_MAX = 1_000
"""A read begins with a small chunk: who reads backwards seldom wants it all."""


class LogReader:
    """The reading half of EventLog; each read is a statement of its own, or a few."""

    def __init__(
        self, reader: sa.Engine, statements: Statements, vault: Vault | None = None
    ) -> None:
        self._reader = reader
        self._sql = statements
        self._vault = vault

    def head(self, stream_id: str) -> Head | None:
        """See EventLog.head."""
        with translated_errors(), self._reader.connect() as connection:
            row = connection.exec_driver_sql(self._sql.find_head, (stream_id,)).one_or_none()
        return None if row is None else Head(*row)

    def heads(self, rows: Sequence[int]) -> dict[int, Head]:
        """Return where the streams of these rows end."""
        columns = streams.c
        query = sa.select(
            columns.id, columns.stream_id, columns.version, columns.hash, columns.epoch
        ).where(columns.id.in_(rows))
        with translated_errors(), self._reader.connect() as connection:
            return {row.id: Head(*row) for row in connection.execute(query)}

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
                yield self._event(head.stream_id, row)
            if len(rows) < size:
                return
            left -= size
            if newest_first:
                high = rows[-1].seq
            else:
                low = rows[-1].seq

    def _event(self, stream_id: str | None, row: Iterable[Any]) -> StoredEvent:
        event = StoredEvent(*row)
        return event if self._vault is None else self._vault.open_event(stream_id, event)

    def _fetch(self, statement: str, head: Head, low: int, high: int, size: int) -> Sequence[Any]:
        with translated_errors(), self._reader.connect() as connection:
            try:
                return connection.exec_driver_sql(statement, (head.row, low, high, size)).fetchall()
            except sa.exc.OperationalError as error:
                if not self._sql.is_text_damage(error.orig):
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
        if row is None:
            return None
        state = row.state if self._vault is None else self._vault.open(head.stream_id, row.state)
        return None if state is None else Snapshot(row.seq, row.state_version, state)

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
        query = (
            sa.select(
                streams.c.id,
                streams.c.stream_id,
                streams.c.listed,
                streams.c.active,
                streams.c.summary,
            )
            .where(streams.c.listed == listed, streams.c.id > after_row)
            .where(begins_with(prefix))
            .order_by(streams.c.id)
            .limit(limit)
        )
        if active is not None:
            query = query.where(streams.c.active == active)
        with translated_errors(), self._reader.connect() as connection:
            rows = connection.execute(query).all()
        return [
            StreamEntry(row.id, row.stream_id, Summary(row.listed, row.active, body))
            for row in rows
            if (body := self._body(row.stream_id, row.summary)) is not None
        ]

    def _body(self, stream_id: str, stored: bytes) -> bytes | None:
        """Return a summary's body, None where its key is destroyed."""
        return stored if self._vault is None else self._vault.open(stream_id, stored)

    def active(self, prefix: str = "") -> list[str]:
        """See EventLog.active."""
        return self._named(_active(prefix))

    def abandoned(self, owner: str, prefix: str = "") -> list[str]:
        """See EventLog.abandoned."""
        mine = streams.c.owner == owner
        return self._named(_active(prefix).where(mine | self._sql.nobody_owns(streams.c.owner)))

    def owner(self, stream_id: str) -> str | None:
        """See EventLog.owner."""
        query = sa.select(streams.c.owner).where(
            streams.c.stream_id == stream_id,
            streams.c.owner != SHARED,
            ~self._sql.nobody_owns(streams.c.owner),
        )
        return next(iter(self._named(query)), None)

    def disowned(self, owner: str, rows: Sequence[int]) -> list[int]:
        """See EventLog.disowned."""
        query = sa.select(streams.c.id).where(
            streams.c.id.in_(rows), streams.c.owner.is_distinct_from(owner)
        )
        with translated_errors(), self._reader.connect() as connection:
            return list(connection.scalars(query))

    def read_streams(self, after: Mapping[int, int]) -> list[tuple[int, StoredEvent]]:
        """See EventLog.read_streams."""
        if not after:
            return []
        statement, parameters = self._sql.read_streams(after)
        with translated_errors(), self._reader.connect() as connection:
            found = connection.exec_driver_sql(statement, parameters).fetchall()
        return [(row, self._event(None, stored)) for row, *stored in found]

    def end(self) -> Cursor:
        """See EventLog.end."""
        with translated_errors(), self._reader.connect() as connection:
            return Cursor(*connection.exec_driver_sql(self._sql.find_end).one())

    def tail(
        self, after: Cursor, *, types: Collection[str] = (), limit: int = READ_CHUNK_ROWS_MAX
    ) -> list[TailedEvent]:
        """See EventLog.tail."""
        statement, parameters = self._sql.tail(after, types, limit)
        with translated_errors(), self._reader.connect() as connection:
            found = connection.exec_driver_sql(statement, parameters).fetchall()
        return [
            TailedEvent(Cursor(transaction, position), stream_id, self._event(stream_id, stored))
            for transaction, position, stream_id, *stored in found
        ]

    def _named(self, query: sa.Select[tuple[Any]]) -> list[str]:
        with translated_errors(), self._reader.connect() as connection:
            return list(connection.scalars(query))


def _active(prefix: str) -> sa.Select[tuple[str]]:
    return (
        sa.select(streams.c.stream_id)
        .where(streams.c.active)
        .where(begins_with(prefix))
        .order_by(streams.c.id)
    )


def begins_with(prefix: str) -> sa.ColumnElement[bool]:
    """Return the condition that a stream's id begins so."""
    return sa.func.substr(streams.c.stream_id, 1, len(prefix)) == prefix  # LIKE ignores case
