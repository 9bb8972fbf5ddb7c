"""What operators look through: all streams, the newest first, who owns them, who is alive."""

import string
import time
from collections.abc import Iterator, Sequence

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import translated_errors
from persistence.log_reader import begins_with
from persistence.records import SHARED
from persistence.schema import events, streams, workers
from persistence.vault import Vault

Row = tuple[int, str, str | None, bool, bytes]

SCAN_ROWS = 500
SEARCHED_ROWS = 5_000
"""So many heads a statement of a search looks through: some hundredths of a second."""

RECENT_EVENTS = 20_000
"""What was active lately is told by the log's newest events: no head has to be moved for it."""

PLAIN = frozenset(string.ascii_letters + string.digits + string.punctuation + " ") - set('"\\')
"""Characters that stand in JSON as they are, and whose case the database knows."""


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
            query = _listed(prefix, active=active).limit(SCAN_ROWS)
            if before_row is not None:
                query = query.where(streams.c.id < before_row)
            found = self._rows(query)
            yield from self._opened(found)
            if len(found) < SCAN_ROWS:
                return
            before_row = found[-1].id

    def searches(self, text: str) -> bool:
        """Tell whether the database itself can look for a text, which is many times faster."""
        return bool(text) and self._vault is None and PLAIN.issuperset(text)

    def search(
        self, text: str, *, prefix: str, before_row: int | None = None, active: bool | None = None
    ) -> Iterator[Listed]:
        """Yield of ``newest`` what has a text in its body, whatever the case of its letters."""
        assert self.searches(text), text
        fits = sa.func.lower(self._text).contains(text.lower(), autoescape=True)
        query = _listed(prefix, active=active).where(fits)
        ids = sa.select(streams.c.id).order_by(streams.c.id.desc())
        while before_row is None or before_row > 1:
            below = sa.true() if before_row is None else streams.c.id < before_row
            with translated_errors(), self._reader.connect() as connection:
                rest = connection.execute(ids.where(below).offset(SEARCHED_ROWS).limit(1)).scalar()
            last = rest or 0
            yield from self._opened(self._rows(query.where(below, streams.c.id > last)))
            before_row = last + 1
            time.sleep(0)  # others have their turn meanwhile

    def recent(self, *, prefix: str, limit: int, active: bool | None = None) -> list[Listed]:
        """Return listed streams by their newest event, the newest first.

        They are those that have one among the log's newest RECENT_EVENTS.
        """
        newest = (
            sa.select(events.c.stream, events.c.position)
            .order_by(events.c.position.desc())
            .limit(RECENT_EVENTS)
            .subquery()
        )
        last = (
            sa.select(newest.c.stream, sa.func.max(newest.c.position).label("position"))
            .group_by(newest.c.stream)
            .subquery()
        )
        query = (
            _listed(prefix, active=active)
            .join(last, last.c.stream == streams.c.id)
            .order_by(None)
            .order_by(last.c.position.desc())
            .limit(limit)
        )
        return list(self._opened(self._rows(query)))

    @property
    def _text(self) -> sa.ColumnElement[str]:
        if self._reader.dialect.name == "postgresql":
            return sa.func.convert_from(streams.c.summary, "UTF8")
        return sa.cast(streams.c.summary, sa.String)

    def _rows(self, query: "sa.Select[Row]") -> Sequence[sa.Row[Row]]:
        with translated_errors(), self._reader.connect() as connection:
            return connection.execute(query).all()

    def _opened(self, found: Sequence[sa.Row[Row]]) -> Iterator[Listed]:
        for each in found:
            body: bytes | None = each.body
            if self._vault is not None:
                body = self._vault.open(each.stream_id, each.body)
            if body is not None:
                yield Listed(each.id, each.stream_id, each.owner, each.active, body)

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


def _listed(prefix: str, *, active: bool | None) -> "sa.Select[Row]":
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
    )
    return query if active is None else query.where(columns.active == active)
