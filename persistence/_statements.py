"""The statements of the hot paths, compiled once for the driver."""

import sqlalchemy as sa

from persistence.records import StoredEvent
from persistence.schema import PAGED, events, snapshots, streams


class Statements:
    """SQL as text, with parameters in the order of each docstring."""

    begin: str
    """How a write begins where the driver doesn't do it."""

    insert_event: str
    """All columns of an event but its position, in the table's order."""

    move_head: str
    """version, hash, listed, active, summary; row, expected version, expected epoch."""

    find_head: str
    """stream_id -> the fields of a Head."""

    find_owner: str
    """stream_id -> row, owner."""

    insert_stream: str
    """stream_id, hash, owner."""

    raise_epoch: str
    """owner; row."""

    delete_snapshot: str
    """row, seq."""

    insert_snapshot: str
    """row, seq, state version, state."""

    def __init__(self, dialect: sa.Dialect) -> None:
        self._dialect = dialect
        assert dialect.loaded_dbapi is not None
        self.driver_error: type[Exception] = dialect.loaded_dbapi.Error
        self.begin = "BEGIN IMMEDIATE" if dialect.name == "sqlite" else ""
        self._compile_writes()
        self._compile_claims()
        self._reads = {
            (newest_first, paged): self._compile_read(newest_first=newest_first, paged=paged)
            for newest_first in (False, True)
            for paged in (False, True)
        }

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
        self.find_owner = self._compile(sa.select(columns.id, columns.owner).where(named))
        self.insert_stream = self._compile(
            sa.insert(streams).values(
                stream_id=sa.bindparam("name"),
                version=sa.literal_column("0"),
                hash=sa.bindparam("genesis"),
                owner=sa.bindparam("new_owner"),
                epoch=sa.literal_column("1"),
                listed=sa.false(),
                active=sa.false(),
                summary=sa.literal_column("''"),
            )
        )
        self.raise_epoch = self._compile(
            sa.update(streams)
            .where(columns.id == sa.bindparam("row"))
            .values(owner=sa.bindparam("new_owner"), epoch=columns.epoch + sa.literal_column("1"))
        )

    def _compile_read(self, *, newest_first: bool, paged: bool) -> str:
        stored = ", ".join(StoredEvent.__struct_fields__)
        return self._compile(
            sa.text(
                f"SELECT {stored} FROM events"  # noqa: S608 - made of constants
                " WHERE stream = :stream AND seq > :low AND seq < :high"
                f"{f' AND {PAGED}' if paged else ''}"
                f" ORDER BY seq{' DESC' if newest_first else ''} LIMIT :size"
            )
        )

    def _insert(self, table: sa.Table, names: list[str]) -> str:
        return self._compile(sa.insert(table).values({name: sa.bindparam(name) for name in names}))

    def _compile(self, statement: sa.ClauseElement) -> str:
        return str(statement.compile(dialect=self._dialect))
