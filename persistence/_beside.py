"""What is written in the transaction of a stream's events, besides them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec.structs import replace

from persistence import chain
from persistence._statements import Statements
from persistence.native import give_way
from persistence.records import Append, Erasure, Snapshot
from persistence.schema import events, inbox, leaves, nodes, snapshots, streams

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

ERASED_AT_ONCE = 500


class Beside:
    """Writes answers, snapshots, erasures and the Merkle tree."""

    def __init__(self, dialect: sa.Dialect, statements: Statements) -> None:
        self._sql = statements
        self._dialect = dialect
        self._insert_leaf = self._insert(leaves)
        self._insert_node = self._insert(nodes)
        self._erase = self._compile(
            sa.update(events)
            .where(events.c.stream == sa.bindparam("row"), events.c.seq == sa.bindparam("at"))
            .values(payload=sa.null(), salt=sa.null(), payload_digest=_digest_left())
        )
        self._drop_snapshots = self._compile(
            sa.delete(snapshots).where(snapshots.c.stream == sa.bindparam("row"))
        )

        asked_of = sa.select(streams.c.stream_id).where(streams.c.id == sa.bindparam("row"))
        self._empty_inbox = self._compile(  # what was asked may have been a prompt
            sa.update(inbox)
            .where(inbox.c.stream_id == asked_of.scalar_subquery(), inbox.c.answer.is_not(None))
            .values(message=sa.literal_column("''"))
        )

    def store(self, cursor: "DBAPICursor", append: Append) -> bool:
        """Store what belongs to an append's events; False: a question has its answer already."""
        for answer in append.answers:
            cursor.execute(self._sql.answer, (answer.body, answer.id))
            if cursor.rowcount != 1:  # it was answered before: nothing may happen twice
                return False
        for erasure in append.erasures:
            self._carry_out(cursor, erasure)
        for row in {erasure.row for erasure in append.erasures if erasure.snapshots}:
            cursor.execute(self._drop_snapshots, (row,))
            cursor.execute(self._empty_inbox, (row,))
        if append.snapshot is not None:
            self.store_snapshot(cursor, append.head.row, append.snapshot)
        if append.leaves:
            rows = [(each.index, each.row, each.version) for each in append.leaves]
            cursor.executemany(self._insert_leaf, rows)
        if append.nodes:
            cursor.executemany(
                self._insert_node, [(each.level, each.index, each.hash) for each in append.nodes]
            )
        return True

    def store_snapshot(self, cursor: "DBAPICursor", row: int, snapshot: Snapshot) -> None:
        """Store a state of a stream, in place of one of the same seq."""
        cursor.execute(self._sql.delete_snapshot, (row, snapshot.seq))
        cursor.execute(
            self._sql.insert_snapshot, (row, snapshot.seq, snapshot.state_version, snapshot.state)
        )

    def _carry_out(self, cursor: "DBAPICursor", erasure: Erasure) -> None:
        """Erase a part at a time, so that a long range holds up nobody but other writers."""
        for first in range(erasure.first, erasure.last + 1, ERASED_AT_ONCE):
            last = min(first + ERASED_AT_ONCE - 1, erasure.last)
            cursor.execute(*self._sql.erased(replace(erasure, first=first, last=last)))
            found: Sequence[Any] = cursor.fetchall()
            digests = [
                (chain.digest_of(salt, payload), erasure.row, seq) for seq, salt, payload in found
            ]
            if digests:
                cursor.executemany(self._erase, digests)
            if last < erasure.last:
                give_way()

    def _insert(self, table: sa.Table) -> str:
        names = [column.name for column in table.c]
        return self._compile(sa.insert(table).values({name: sa.bindparam(name) for name in names}))

    def _compile(self, statement: sa.ClauseElement) -> str:
        return str(statement.compile(dialect=self._dialect))


def _digest_left() -> sa.ColumnElement[bytes]:
    """Return the digest that is stored already (docs/adr/0010), else the one given."""
    nothing = sa.cast(sa.literal_column("''"), sa.LargeBinary)
    return sa.func.coalesce(
        sa.func.nullif(events.c.payload_digest, nothing), sa.bindparam("digest")
    )
