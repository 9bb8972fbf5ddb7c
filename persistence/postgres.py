"""All that is PostgreSQL's own about the log: how it is written fast, and whose process lives.

``positions`` are given when a row is inserted, but rows can be read once they are committed, in
another order. So whoever reads on goes by the pair of transaction and position, and only up to the
oldest transaction that still runs (docs/adr/0009).
"""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from persistence._statements import (
    EVENT_COLUMNS,
    STORED,
    STREAM_ROWS_MAX,
    Rows,
    Statements,
    columns_of,
)
from persistence.errors import PersistenceError
from persistence.records import Cursor, Erasure
from persistence.schema import events, streams, workers

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

DRIVER = "postgresql+psycopg"
ALIASES = ("postgres", "postgresql")

CONNECT_ARGUMENTS: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "application_name": "sessiond",
}
"""A server that is gone without a word is noticed within half a minute."""

DURABLE = "-c synchronous_commit=on -c idle_in_transaction_session_timeout=5s"
"""A process that stops in a transaction, or is cut off there, would hold up whoever takes over:
what it has not committed is undone."""

FLEETING = "-c synchronous_commit=off"
"""For what only helps, and may be lost with the server: heartbeats, notices, questions."""

LEASE_S = 10.0
"""Age of a worker's heartbeat at which its sessions are anybody's, by the database's clock."""

NOW_US = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"

COPY_ROWS_MIN = 4
"""A COPY costs more than so many rows in statements of their own, and less than more of them."""

RETRIED = ("40001", "40P01")
"""A conflict of transactions, and a deadlock: undone for certain."""

MOVED = ("version", "hash", "listed", "active", "summary")


READABLE = "events.xid < pg_snapshot_xmin(pg_current_snapshot())"
"""Of transactions before this one none runs any more: nothing can come before what they wrote."""


ROLE_BYTES_MAX = 63
"""PostgreSQL cuts longer names off, and would grant to whoever has the rest."""

RESERVED_ROLES = ("public", "none")
"""These mean everybody and nobody, in quotes too."""

READ_ONLY = ("alembic_version",)
APPENDED = ("events", "leaves", "nodes")
ERASED = ("payload", "salt", "payload_digest")
NEVER_DELETED = ("streams",)
CHANGED = (
    "snapshots",
    "memories",
    "episodes",
    "memory_index",
    "episode_index",
    "workers",
    "inbox",
)
"""The tables by what a gateway does to them."""


class RoleNameError(PersistenceError):
    """A role can't have such a name; the message says why."""


def grants(role: str) -> list[str]:
    """Return the statements that allow a role what a gateway does, and nothing besides.

    Raises RoleNameError.
    """
    name = _quoted(role)
    return [
        *_bare(name),
        f"GRANT SELECT ON {', '.join(READ_ONLY)} TO {name};",
        f"GRANT SELECT, INSERT ON {', '.join(APPENDED)} TO {name};",
        f"GRANT UPDATE ({', '.join(ERASED)}) ON events TO {name};",
        f"GRANT SELECT, INSERT, UPDATE ON {', '.join(NEVER_DELETED)} TO {name};",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON {', '.join(CHANGED)} TO {name};",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name};",
    ]


def missing_grants(connection: sa.Connection) -> list[str]:
    """Return what of ``grants`` the connection's role lacks, as ``INSERT on events``."""
    wanted = {
        **dict.fromkeys(READ_ONLY, ("SELECT",)),
        **dict.fromkeys(APPENDED, ("SELECT", "INSERT")),
        **dict.fromkeys(NEVER_DELETED, ("SELECT", "INSERT", "UPDATE")),
        **dict.fromkeys(CHANGED, ("SELECT", "INSERT", "UPDATE", "DELETE")),
    }
    tables = [
        (f"{privilege} on {table}", sa.func.has_table_privilege(table, privilege))
        for table, privileges in wanted.items()
        for privilege in privileges
    ]
    columns = [
        (f"UPDATE of {column} on events", sa.func.has_column_privilege("events", column, "UPDATE"))
        for column in ERASED
    ]
    asked = [*tables, *columns]
    answers = connection.execute(sa.select(*[each for _, each in asked])).one()
    return [name for (name, _), given in zip(asked, answers, strict=True) if not given]


def erasing_grants(role: str) -> list[str]:
    """Return the statements that allow a role to erase payloads, and nothing besides.

    Raises RoleNameError.
    """
    name = _quoted(role)
    return [
        *_bare(name),
        f"GRANT SELECT ON events, streams TO {name};",
        f"GRANT UPDATE ({', '.join(ERASED)}) ON events TO {name};",
    ]


def _bare(name: str) -> list[str]:
    """Return the statements that leave a role with nothing but the schema."""
    return [
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {name};",
        f"REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM {name};",
        f"GRANT USAGE ON SCHEMA public TO {name};",
    ]


def _quoted(role: str) -> str:
    if not role or len(role.encode()) > ROLE_BYTES_MAX or "\0" in role:
        raise RoleNameError(f"A role's name has 1 to {ROLE_BYTES_MAX} bytes, none of them 0.")
    if role in RESERVED_ROLES:
        raise RoleNameError(f"{role!r} is no role of its own.")
    escaped = role.replace('"', '""')
    return f'"{escaped}"'


class PostgresStatements(Statements):
    """PostgreSQL's statements; a transaction begins by itself."""

    # Without it, who comes second would judge the owner that the first one took over from: the
    # update waits, but looks for a living owner in what it saw before.
    lock_stream = "SELECT id FROM streams WHERE stream_id = %s FOR UPDATE"

    find_end = (
        "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1, 9223372036854775807"
    )

    def __init__(self, dialect: sa.Dialect, *, lease_s: float = LEASE_S) -> None:
        self._lease_us = int(lease_s * 1_000_000)
        super().__init__(dialect)
        self.begin = ""
        self._types = [_type_of(events.c[name], dialect) for name in EVENT_COLUMNS]
        self._copy = f"COPY events ({', '.join(EVENT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
        self._move_all = _move_all(dialect)

    def move_heads(self, cursor: "DBAPICursor", rows: Rows) -> bool:
        """See Statements.move_heads; one statement, however many there are."""
        cursor.execute(self._move_all, [list(column) for column in zip(*rows, strict=True)])
        return cursor.rowcount == len(rows)

    def insert_events(self, cursor: Any, rows: Rows) -> None:  # noqa: ANN401 - psycopg's own cursor
        """See Statements.insert_events."""
        if len(rows) < COPY_ROWS_MIN:
            for row in rows:
                cursor.execute(self.insert_event, row)
            return
        with cursor.copy(self._copy) as copy:
            copy.set_types(self._types)
            for row in rows:
                copy.write_row(row)

    def read_streams(self, after: Mapping[int, int]) -> tuple[str, tuple[object, ...]]:
        """See Statements.read_streams."""
        statement = (
            f"SELECT stream, {columns_of('events', STORED)}"  # noqa: S608 - made of constants
            " FROM unnest(%s::bigint[], %s::bigint[]) AS wanted(row, seq)"
            " JOIN events ON events.stream = wanted.row AND events.seq > wanted.seq"
            f" ORDER BY stream, events.seq LIMIT {STREAM_ROWS_MAX}"
        )
        return statement, (list(after), list(after.values()))

    def tail(
        self, after: Cursor, types: Collection[str], limit: int
    ) -> tuple[str, tuple[object, ...]]:
        """See Statements.tail."""
        typed = " AND type = ANY(%s::text[])" if types else ""
        statement = (
            f"SELECT events.xid::text::bigint, position, stream_id,"  # noqa: S608 - made of constants
            f" {columns_of('events', STORED)}"
            " FROM events JOIN streams ON streams.id = events.stream"
            f" WHERE (events.xid, position) > (%s::text::xid8, %s::bigint) AND {READABLE}{typed}"
            " ORDER BY events.xid, position LIMIT %s"
        )
        place = (str(after.transaction), after.position)
        return statement, (*place, *([list(types)] if types else []), limit)

    def erased(self, erasure: Erasure) -> tuple[str, tuple[object, ...]]:
        """See Statements.erased."""
        typed = " AND type = ANY(%s::text[])" if erasure.types else ""
        statement = (
            "SELECT seq, salt, payload FROM events"  # noqa: S608 - made of constants
            f" WHERE stream = %s AND seq BETWEEN %s AND %s AND payload IS NOT NULL{typed}"
        )
        place = (erasure.row, erasure.first, erasure.last)
        return statement, (*place, *([list(erasure.types)] if erasure.types else []))

    def is_rolled_back(self, error: BaseException) -> bool:
        """See Statements.is_rolled_back."""
        return getattr(error, "sqlstate", None) in RETRIED

    def is_text_damage(self, error: BaseException | None) -> bool:  # noqa: ARG002 - SQLite's tells
        """See Statements.is_text_damage; PostgreSQL stores nothing else."""
        return False

    def nobody_owns(self, owner: sa.ColumnElement[str | None]) -> sa.ColumnElement[bool]:
        """See Statements.nobody_owns; a worker that died is deleted, or was not heard of long."""
        since: sa.ColumnElement[int] = sa.literal_column(f"{NOW_US} - {self._lease_us}")
        alive = sa.select(workers.c.id).where(workers.c.name == owner, workers.c.renewed_at > since)
        return ~alive.exists()


def _move_all(dialect: sa.Dialect) -> str:
    """Return the statement that moves many heads, given the columns of ``move_head``'s rows."""
    moved = [(name, _type_of(streams.c[name], dialect)) for name in MOVED]
    found = [("row", "bigint"), ("expected_version", "bigint"), ("expected_epoch", "bigint")]
    names = ", ".join(name for name, _ in (*moved, *found))
    arrays = ", ".join(f"%s::{kind}[]" for _, kind in (*moved, *found))
    return (
        f"UPDATE streams SET {', '.join(f'{name} = moved.{name}' for name in MOVED)}"  # noqa: S608 - made of constants
        f" FROM unnest({arrays}) AS moved({names}) WHERE streams.id = moved.row"
        " AND streams.version = moved.expected_version AND streams.epoch = moved.expected_epoch"
    )


def _type_of(column: sa.Column[Any], dialect: sa.Dialect) -> str:
    kind = column.type.compile(dialect=dialect).lower()
    return {"varchar": "text"}.get(kind, kind)
