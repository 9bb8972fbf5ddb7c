"""The statements of the hot paths, compiled once for the driver."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from persistence.records import Cursor, Erasure, StoredEvent
from persistence.schema import PAGED, events, inbox, snapshots, streams

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

Rows = Sequence[tuple[Any, ...]]

EVENT_COLUMNS = ("stream", *StoredEvent.__struct_fields__)

STORED = ", ".join(StoredEvent.__struct_fields__)
STREAM_ROWS_MAX = 1_000
"""Rows that a reading of several streams returns at most."""

TEXT_DAMAGE = "Could not decode to UTF-8"
"""What SQLite's driver says of text that is none."""


class Statements:
    """SQL as text, with parameters in the order of each docstring; this is SQLite's."""

    begin: str
    """How a write begins where the driver doesn't do it."""

    insert_event: str
    """All columns of an event but its position, in the table's order."""

    move_head: str
    """version, hash, listed, active, summary; row, expected version, expected epoch."""

    find_head: str
    """stream_id -> the fields of a Head."""

    insert_stream: str
    """stream_id, hash, owner; nothing happens where there is such a stream."""

    take_over: str
    """owner; stream_id, owner. Raises the epoch, unless another owner is alive."""

    find_owner: str
    """stream_id -> owner."""

    raise_epoch: str
    """epoch; row."""

    release: str
    """row, epoch."""

    answer: str
    """answer; id of the row in the inbox."""

    lock_stream = ""
    """stream_id. Has whoever else claims the stream wait, where several may."""

    find_end = "SELECT 0, coalesce(max(position), 0) FROM events"
    """-> the fields of the Cursor of the newest event."""

    delete_snapshot: str
    """row, seq."""

    insert_snapshot: str
    """row, seq, state version, state."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        assert dialect.loaded_dbapi is not None
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        self.begin = "BEGIN IMMEDIATE"
        self._compile_writes()
        self._compile_claims()
        self._reads = {
            (newest_first, paged): self._compile_read(newest_first=newest_first, paged=paged)
            for newest_first in (False, True)
            for paged in (False, True)
        }

    def move_heads(self, cursor: "DBAPICursor", rows: Rows) -> bool:
        """Move heads, each row as ``move_head`` wants it; tell whether all were in place."""
        cursor.executemany(self.move_head, rows)
        return cursor.rowcount == len(rows)

    def insert_events(self, cursor: "DBAPICursor", rows: Rows) -> None:
        """Insert events, each row as EVENT_COLUMNS has it."""
        cursor.executemany(self.insert_event, rows)

    def read_streams(self, after: Mapping[int, int]) -> tuple[str, tuple[object, ...]]:
        """Return what reads several streams by their rows, with parameters: row, event."""
        wanted = ", ".join("(?, ?)" for _ in after)
        statement = (
            f"WITH wanted(row, seq) AS (VALUES {wanted})"  # noqa: S608 - made of constants
            f" SELECT stream, {columns_of('events', STORED)} FROM wanted"
            " JOIN events ON events.stream = wanted.row AND events.seq > wanted.seq"
            f" ORDER BY stream, events.seq LIMIT {STREAM_ROWS_MAX}"
        )
        return statement, tuple(number for pair in after.items() for number in pair)

    def tail(
        self, after: Cursor, types: Collection[str], limit: int
    ) -> tuple[str, tuple[object, ...]]:
        """Return what reads all streams on, with parameters: a cursor's fields, name, event."""
        typed = f" AND type IN ({', '.join('?' for _ in types)})" if types else ""
        statement = (
            f"SELECT 0, position, stream_id, {columns_of('events', STORED)}"  # noqa: S608 - made of constants
            " FROM events JOIN streams ON streams.id = events.stream"
            f" WHERE position > ?{typed} ORDER BY position LIMIT ?"
        )
        return statement, (after.position, *types, limit)

    def erased(self, erasure: Erasure) -> tuple[str, tuple[object, ...]]:
        """Return what finds the payloads to erase, with parameters: seq, salt, payload."""
        typed = f" AND type IN ({', '.join('?' for _ in erasure.types)})" if erasure.types else ""
        statement = (
            "SELECT seq, salt, payload FROM events"  # noqa: S608 - made of constants
            f" WHERE stream = ? AND seq BETWEEN ? AND ? AND payload IS NOT NULL{typed}"
        )
        return statement, (erasure.row, erasure.first, erasure.last, *erasure.types)

    def is_rolled_back(self, error: BaseException) -> bool:  # noqa: ARG002 - PostgreSQL's has some
        """Tell whether a transaction is certainly undone, and may be tried again at once."""
        return False

    def is_text_damage(self, error: BaseException | None) -> bool:
        """Tell whether a row can't be read because its text is none."""
        return TEXT_DAMAGE in str(error)

    def read(self, *, newest_first: bool, paged: bool) -> str:
        """Return the statement that reads a stream: row, after, before, limit -> events."""
        return self._reads[newest_first, paged]

    def _compile_writes(self) -> None:
        self.insert_event = self._insert(events, [each.name for each in events.c][1:])
        self.insert_snapshot = self._insert(snapshots, [each.name for each in snapshots.c])
        self.delete_snapshot = self._compile(
            sa.delete(snapshots)
            .where(snapshots.c.stream == sa.bindparam("row"))
            .where(snapshots.c.seq == sa.bindparam("at"))
        )
        self.move_head = self._compile(
            sa.update(streams)
            .where(streams.c.id == sa.bindparam("row"))
            .where(streams.c.version == sa.bindparam("expected_version"))
            .where(streams.c.epoch == sa.bindparam("expected_epoch"))
            .values(
                version=sa.bindparam("new_version"),
                hash=sa.bindparam("new_hash"),
                listed=sa.bindparam("new_listed"),
                active=sa.bindparam("new_active"),
                summary=sa.bindparam("new_summary"),
            )
        )

    def _compile_claims(self) -> None:
        columns = streams.c
        named = columns.stream_id == sa.bindparam("name")
        self.find_head = self._compile(
            sa.select(
                columns.id, columns.stream_id, columns.version, columns.hash, columns.epoch
            ).where(named)
        )
        self.find_owner = self._compile(sa.select(columns.owner).where(named))
        self.insert_stream = self._compile(
            sa.text(
                "INSERT INTO streams"
                " (stream_id, version, hash, owner, epoch, listed, active, summary)"
                " VALUES (:name, 0, :genesis, :owner, 1, false, false, :empty)"
                " ON CONFLICT (stream_id) DO NOTHING"
            )
        )
        self.take_over = self._compile(
            sa.update(streams)
            .where(named, columns.owner.is_distinct_from(sa.bindparam("me")))
            .where(self.nobody_owns(columns.owner))
            .values(owner=sa.bindparam("new_owner"), epoch=columns.epoch + sa.literal_column("1"))
        )
        self.raise_epoch = self._compile(
            sa.update(streams)
            .where(columns.id == sa.bindparam("row"))
            .values(epoch=sa.bindparam("new_epoch"))
        )
        self.release = self._compile(
            sa.update(streams)
            .where(columns.id == sa.bindparam("row"), columns.epoch == sa.bindparam("held"))
            .values(owner=sa.null())
        )
        self.answer = self._compile(
            sa.update(inbox)
            .where(inbox.c.id == sa.bindparam("asked"), inbox.c.answer.is_(None))
            .values(answer=sa.bindparam("given"))
        )

    def nobody_owns(self, owner: sa.ColumnElement[str | None]) -> sa.ColumnElement[bool]:  # noqa: ARG002 - PostgreSQL's needs it
        """Return the condition that no living process owns a stream: here no other one lives."""
        return sa.true()

    def _compile_read(self, *, newest_first: bool, paged: bool) -> str:
        return self._compile(
            sa.text(
                f"SELECT {STORED} FROM events"  # noqa: S608 - made of constants
                " WHERE stream = :stream AND seq > :low AND seq < :high"
                f"{f' AND {PAGED}' if paged else ''}"
                f" ORDER BY seq{' DESC' if newest_first else ''} LIMIT :size"
            )
        )

    def _insert(self, table: sa.Table, names: list[str]) -> str:
        return self._compile(sa.insert(table).values({name: sa.bindparam(name) for name in names}))

    def _compile(self, statement: sa.ClauseElement) -> str:
        return str(statement.compile(dialect=self._dialect))


def columns_of(table: str, names: str) -> str:
    """Return the columns with their table's name."""
    return ", ".join(f"{table}.{name}" for name in names.split(", "))
