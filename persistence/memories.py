"""Memories and episodes: rows that follow from a stream's events, written with them and searched.

The events are the truth. A row is what its stream's events leave of it, so a rebuild from the log
(records.Reproject) gives the same rows.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import astuple

from persistence import postgres_index, sqlite_index
from persistence.engine import translated_errors
from persistence.ranking import (
    RANKED_EPISODES,
    RANKED_MEMORIES,
    Asked,
    Ranked,
    asked,
    best,
    newest,
)
from persistence.records import EpisodeRow, MemoryRow, Row, RowKey
from persistence.schema import episodes, memories

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPICursor

EPISODES_KEPT = 5_000
"""An episode leaves the projection when its id is this far behind its stream's last."""

ID_MAX = 2**63 - 1


class MemoryHit(Struct, frozen=True, gc=False):
    """A memory that was found, and how well it answers: its score by ranking.py."""

    row: MemoryRow
    score: float


class EpisodeHit(Struct, frozen=True, gc=False):
    """An episode that was found, and how well it answers: its score by ranking.py."""

    row: EpisodeRow
    score: float


Hit = MemoryHit | EpisodeHit


class MemoryCounts(Struct, frozen=True, gc=False):
    """How much a stream's projection holds, and how far its ids have got.

    ``core`` and ``archival`` count the active memories, ``memory_rows`` all. Times are in
    milliseconds, None where there is no row. The last ids are 0 then; they don't fall when
    old episodes leave.
    """

    core: int
    archival: int
    memory_rows: int
    last_memory_write_at: int | None
    last_memory_id: int
    episode_rows: int
    last_episode_at: int | None
    last_episode_id: int


class Memories(Protocol):
    """The projections of streams; ``stream_row`` is the ``row`` of a stream's head.

    Every method may block on the database and raises StoreUnavailableError when it can't be
    reached.
    """

    def by_key(self, stream_row: int, key: str) -> MemoryRow | None:
        """Return the active memory of that key."""

    def by_id(self, stream_row: int, memory_id: int) -> MemoryRow | None:
        """Return the memory of that id, active or not."""

    def core(self, stream_row: int) -> list[MemoryRow]:
        """Return the active memories of the core bucket, newest update first."""

    def counts(self, stream_row: int) -> MemoryCounts:
        """Return how much there is."""

    def rows(self, stream_row: int) -> list[Row]:
        """Return everything by id, the memories first."""

    def search(
        self, stream_row: int, query: str, *, limit: int, now_ms: int, secrets: bool
    ) -> list[Hit]:
        """Return the active rows that answer best, of all there are; ``limit`` at most.

        A query without a word asks for the newest rows. Without ``secrets`` those of that kind
        are left out altogether, so that a search confirms no guess.
        """


class TextIndex(Protocol):
    """The index beside a table that is searched; each database has its own."""

    found: sa.CTE
    """What it finds: row, points and words, as ranking.best takes them; ``asked`` is given."""

    def entries(self) -> str:
        """Return the statement for what a stream's rows are found by: stream -> id, two columns."""

    def entry(self, stream: int, text: str) -> tuple[object, ...]:
        """Return the two columns that ``entries`` has for a row with this text."""

    def put(self, cursor: "DBAPICursor", row: int, stream: int, text: str | None) -> None:
        """Index the text for the row, or nothing."""

    def fill(self, cursor: "DBAPICursor", stream: int, texts: Sequence[tuple[int, str]]) -> None:
        """Index the texts for their rows, of which none is indexed."""

    def drop(self, cursor: "DBAPICursor", stream: int, last_id: int) -> None:
        """Forget the stream's rows up to an id, while the table still has them."""

    def scrub(self, cursor: "DBAPICursor") -> None:
        """Keep no word of what is not indexed any more."""

    def asked_for(self, stream: int, asked: Asked) -> str:
        """Return ``found``'s parameter ``asked``."""


def indexes_of(dialect: sa.Dialect) -> tuple[TextIndex, TextIndex]:
    """Return a database's indexes of memories and of episodes."""
    if dialect.name == "postgresql":
        return postgres_index.MEMORY_INDEX, postgres_index.EPISODE_INDEX
    return sqlite_index.MEMORY_INDEX, sqlite_index.EPISODE_INDEX


class Projection:
    """Writes streams' rows, inside the transactions of the log."""

    def __init__(self, dialect: sa.Dialect) -> None:
        memory_index, episode_index = indexes_of(dialect)
        self._memories = _TableWriter(dialect, RANKED_MEMORIES, memory_index)
        self._episodes = _TableWriter(dialect, RANKED_EPISODES, episode_index)

    def update(
        self,
        cursor: "DBAPICursor",
        stream: int,
        rows: Sequence[Row],
        dropped: Sequence[RowKey] = (),
    ) -> None:
        """Write rows over those of the same ids; episodes that are now too old leave.

        Of those that are ``dropped`` before that, nothing is left behind.
        """
        for writer, episode in ((self._memories, False), (self._episodes, True)):
            writer.erase(cursor, stream, [key.id for key in dropped if key.episode == episode])
        has_episodes = False
        for row in sorted(latest(rows), key=_is_active):  # a key is given up before it is taken
            if isinstance(row, MemoryRow):
                self._memories.put(cursor, stream, row)
            else:
                self._episodes.put(cursor, stream, row)
                has_episodes = True
        if has_episodes:
            too_old = self._episodes.last_id(cursor, stream) - EPISODES_KEPT
            if too_old > 0:
                self._episodes.drop(cursor, stream, too_old)

    def replace(self, cursor: "DBAPICursor", stream: int, rows: Sequence[Row]) -> None:
        """Write the rows in place of all that the stream has."""
        kept = latest(rows)
        for writer, kind in ((self._memories, MemoryRow), (self._episodes, EpisodeRow)):
            writer.drop(cursor, stream, ID_MAX)
            writer.fill(cursor, stream, [row for row in kept if isinstance(row, kind)])


def latest(rows: Iterable[Row]) -> list[Row]:
    """Return the last row of each id, memories first, without the episodes that are too old."""
    found = {(isinstance(row, EpisodeRow), row.id): row for row in rows}
    last_id = max((row_id for is_episode, row_id in found if is_episode), default=0)
    return [
        found[is_episode, row_id]
        for is_episode, row_id in sorted(found)
        if not is_episode or row_id > last_id - EPISODES_KEPT
    ]


def _is_active(row: Row) -> bool:
    return isinstance(row, MemoryRow) and row.active


def found_by(row: Row) -> str | None:
    """Return the text by which a row is found; None: it isn't."""
    if isinstance(row, EpisodeRow):
        return row.text
    return f"{row.key} {row.content}" if row.active else None


class _TableWriter:
    """Writes one table and its index."""

    def __init__(self, dialect: sa.Dialect, ranked: Ranked, index: TextIndex) -> None:
        stream, row_id = ranked.table.c.stream, ranked.table.c.id
        of_stream = stream == sa.bindparam("stream")
        statements: tuple[sa.ClauseElement, ...] = (
            _upsert(ranked),
            sa.select(ranked.table.c.row).where(of_stream, row_id == sa.bindparam("id")),
            sa.select(row_id, ranked.table.c.row).where(of_stream),
            sa.delete(ranked.table).where(of_stream, row_id <= sa.bindparam("last_id")),
            sa.select(sa.func.max(row_id)).where(of_stream),
            sa.delete(ranked.table).where(of_stream, row_id == sa.bindparam("id")),
        )
        self._put, self._find, self._find_all, self._drop, self._last_id, self._erase = (
            str(statement.compile(dialect=dialect)) for statement in statements
        )
        self._index = index
        self._values = storable_row if dialect.name == "postgresql" else astuple

    def put(self, cursor: "DBAPICursor", stream: int, row: Row) -> None:
        """Write a row over the one of its id."""
        # RETURNING would tell the key, but at the cost of a savepoint, for which FTS5 flushes.
        cursor.execute(self._put, (stream, *self._values(row)))
        cursor.execute(self._find, (stream, row.id))
        self._index.put(cursor, _only(cursor), stream, found_by(row))

    def fill(self, cursor: "DBAPICursor", stream: int, rows: Sequence[Row]) -> None:
        """Write the rows of a stream that has none, in few statements."""
        cursor.executemany(self._put, [(stream, *self._values(row)) for row in rows])
        cursor.execute(self._find_all, (stream,))
        key_of = dict(cursor.fetchall())
        texts = [(key_of[row.id], text) for row in rows if (text := found_by(row)) is not None]
        self._index.fill(cursor, stream, texts)

    def drop(self, cursor: "DBAPICursor", stream: int, last_id: int) -> None:
        """Delete the stream's rows up to an id."""
        self._index.drop(cursor, stream, last_id)
        cursor.execute(self._drop, (stream, last_id))

    def erase(self, cursor: "DBAPICursor", stream: int, ids: Sequence[int]) -> None:
        """Delete rows by their ids, and every word of them."""
        if not ids:
            return
        for row_id in ids:
            cursor.execute(self._find, (stream, row_id))
            for (row,) in cursor.fetchall():
                self._index.put(cursor, row, stream, None)
                cursor.execute(self._erase, (stream, row_id))
        self._index.scrub(cursor)

    def last_id(self, cursor: "DBAPICursor", stream: int) -> int:
        """Return the last id of a stream that has rows."""
        cursor.execute(self._last_id, (stream,))
        return _only(cursor)


def storable_row(row: Row) -> tuple[object, ...]:
    """Return the row's fields as PostgreSQL can hold them."""
    return tuple(
        postgres_index.storable(field) if isinstance(field, str) else field
        for field in astuple(row)
    )


def _upsert(ranked: Ranked) -> sa.TextClause:
    """Return the statement that writes a row over the one of its id: stream, the row's fields."""
    table, fields = ranked.table.name, [column.name for column in ranked.columns]
    names = ["stream", *fields]
    return sa.text(
        f"INSERT INTO {table} ({', '.join(names)})"  # noqa: S608 - made of constants
        f" VALUES ({', '.join(f':{name}' for name in names)}) ON CONFLICT (stream, id)"
        f" DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in fields)}"
    )


def _only(cursor: "DBAPICursor") -> int:
    """Return the one integer that was found."""
    ((found,),) = cursor.fetchall()
    return int(found)


class SqlMemories:
    """The projections in an SQL database, read by the engine by which the log is read.

    Implements Memories.
    """

    def __init__(self, reader: sa.Engine) -> None:
        self._reader = reader
        self._index, episode_index = indexes_of(reader.dialect)
        self._best = (
            best(RANKED_MEMORIES, self._index.found),
            best(RANKED_EPISODES, episode_index.found),
        )

    def by_key(self, stream_row: int, key: str) -> MemoryRow | None:
        """See Memories.by_key."""
        if self._reader.dialect.name == "postgresql":
            key = postgres_index.storable(key)
        active = _memories_of(stream_row).where(memories.c.active)
        return next(iter(self._memories(active.where(memories.c.memory_key == key))), None)

    def by_id(self, stream_row: int, memory_id: int) -> MemoryRow | None:
        """See Memories.by_id."""
        if not 0 < memory_id <= ID_MAX:  # the driver could not even ask for it
            return None
        query = _memories_of(stream_row).where(memories.c.id == memory_id)
        return next(iter(self._memories(query)), None)

    def core(self, stream_row: int) -> list[MemoryRow]:
        """See Memories.core."""
        return self._memories(
            _memories_of(stream_row)
            .where(memories.c.active, memories.c.bucket == sa.literal_column("'core'"))
            .order_by(memories.c.updated_at.desc(), memories.c.id.desc())
        )

    def counts(self, stream_row: int) -> MemoryCounts:
        """See Memories.counts."""
        with translated_errors(), self._reader.connect() as connection:
            row = connection.execute(_COUNTS, {"stream": stream_row}).one()
        return MemoryCounts(*row)

    def rows(self, stream_row: int) -> list[Row]:
        """See Memories.rows."""
        found = self._memories(_memories_of(stream_row).order_by(memories.c.id))
        query = sa.select(*RANKED_EPISODES.columns).where(episodes.c.stream == stream_row)
        with translated_errors(), self._reader.connect() as connection:
            recorded = connection.execute(query.order_by(episodes.c.id)).all()
        return [*found, *(EpisodeRow(*row) for row in recorded)]

    def search(
        self, stream_row: int, query: str, *, limit: int, now_ms: int, secrets: bool
    ) -> list[Hit]:
        """See Memories.search."""
        wanted = asked(query)
        of_memories, of_episodes = self._best if wanted.words else _NEWEST
        parameters = {
            "stream": stream_row,
            "asked": self._index.asked_for(stream_row, wanted),
            "asked_words": len(wanted.words),
            "secrets": secrets,
            "now_ms": now_ms,
            "limit": limit,
        }
        with translated_errors(), self._reader.connect() as connection:
            found: list[Hit] = [
                MemoryHit(MemoryRow(*row), score)
                for *row, score in connection.execute(of_memories, parameters)
            ]
            found += [
                EpisodeHit(EpisodeRow(*row), score)
                for *row, score in connection.execute(of_episodes, parameters)
            ]
        return sorted(found, key=_merit, reverse=True)[:limit]

    def _memories(self, query: sa.Select[Any]) -> list[MemoryRow]:
        with translated_errors(), self._reader.connect() as connection:
            return [MemoryRow(*row) for row in connection.execute(query)]


_NEWEST = (newest(RANKED_MEMORIES), newest(RANKED_EPISODES))


def _merit(hit: Hit) -> tuple[float, int, int]:
    at = hit.row.updated_at if isinstance(hit, MemoryHit) else hit.row.at
    return hit.score, at, hit.row.id


def _memories_of(stream_row: int) -> sa.Select[Any]:
    return sa.select(*RANKED_MEMORIES.columns).where(memories.c.stream == stream_row)


def _counts() -> sa.Select[Any]:
    """Return the query for a stream's MemoryCounts, in their order."""
    count, last = sa.func.count(), sa.func.max
    active, bucket = memories.c.active, memories.c.bucket
    of_memories = sa.select(
        count.filter(active, bucket == "core").label("core"),
        count.filter(active, bucket == "archival").label("archival"),
        count.label("memory_rows"),
        last(memories.c.updated_at).label("last_memory_write_at"),
        sa.func.coalesce(last(memories.c.id), 0).label("last_memory_id"),
    ).where(memories.c.stream == sa.bindparam("stream"))
    of_episodes = sa.select(
        count.label("episode_rows"),
        last(episodes.c.at).label("last_episode_at"),
        sa.func.coalesce(last(episodes.c.id), 0).label("last_episode_id"),
    ).where(episodes.c.stream == sa.bindparam("stream"))
    left, right = of_memories.subquery(), of_episodes.subquery()
    return sa.select(*left.c, *right.c).select_from(left.join(right, sa.true()))


_COUNTS = _counts()
