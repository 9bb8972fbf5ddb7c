"""What operators look through: all streams, the newest first, who owns them, who is alive."""

from collections.abc import Iterator

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import translated_errors
from persistence.log_reader import begins_with
from persistence.records import SHARED
from persistence.schema import streams, workers
from persistence.vault import Vault

SCAN_ROWS = 500


class Listed(Struct, frozen=True, gc=False):
    """A stream as a list shows it: its row, its id, who owned it last, and its summary's JSON."""

    row: int
    stream_id: str
    owner: str | None
    active: bool
    body: bytes


class Worker(Struct, frozen=True, gc=False):
    """A serving process, by its lease: times in microseconds since the epoch."""

    name: str
    started_at: int
    renewed_at: int


class Owned(Struct, frozen=True, gc=False):
    """How many streams a process owns, and how many of them have work."""

    streams: int
    active: int


class Directory:
    """Reads the heads of all streams; every method raises StoreUnavailableError."""

    def __init__(self, reader: sa.Engine, vault: Vault | None = None) -> None:
        self._reader = reader
        self._vault = vault

    def newest(
        self, *, prefix: str, before_row: int | None = None, active: bool | None = None
    ) -> Iterator[Listed]:
        """Yield the listed streams by age, the newest first; no connection is held in between.

        A stream whose key is destroyed is left out.
        """
        while True:
            found = self._chunk(prefix, before_row, active=active)
            for each in found:
                body = each.body
                if self._vault is not None:
                    opened = self._vault.open(each.stream_id, body)
                    if opened is None:
                        continue
                    body = opened
                yield Listed(each.id, each.stream_id, each.owner, each.active, body)
            if len(found) < SCAN_ROWS:
                return
            before_row = found[-1].id

    def workers(self) -> list[Worker]:
        """Return the processes that have a lease, the oldest first; none over SQLite."""
        query = sa.select(workers.c.name, workers.c.started_at, workers.c.renewed_at)
        with translated_errors(), self._reader.connect() as connection:
            return [Worker(*row) for row in connection.execute(query.order_by(workers.c.id))]

    def owned(self, prefix: str) -> dict[str, Owned]:
        """Return how many streams each owner has."""
        columns = streams.c
        working = sa.func.sum(sa.case((columns.active, 1), else_=0))
        query = (
            sa.select(columns.owner, sa.func.count(), working)
            .where(columns.listed, columns.owner.is_not(None), columns.owner != SHARED)
            .where(begins_with(prefix))
            .group_by(columns.owner)
        )
        with translated_errors(), self._reader.connect() as connection:
            return {row[0]: Owned(row[1], row[2]) for row in connection.execute(query)}

    def _chunk(
        self, prefix: str, before_row: int | None, *, active: bool | None
    ) -> list[sa.Row[tuple[int, str, str | None, bool, bytes]]]:
        columns = streams.c
        query = (
            sa.select(
                columns.id,
                columns.stream_id,
                columns.owner,
                columns.active,
                columns.summary.label("body"),
            )
            .where(columns.listed, begins_with(prefix))
            .order_by(columns.id.desc())
            .limit(SCAN_ROWS)
        )
        if before_row is not None:
            query = query.where(columns.id < before_row)
        if active is not None:
            query = query.where(columns.active == active)
        with translated_errors(), self._reader.connect() as connection:
            return list(connection.execute(query))
