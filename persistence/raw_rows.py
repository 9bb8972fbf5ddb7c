"""The log's rows as they lie in the database, for who checks them: nothing is taken for granted.

A connection may be in a transaction or not: everything is read by statements that need none.
"""

import contextlib
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from msgspec import Struct
from msgspec.structs import astuple

from persistence._statements import STORED, TEXT_DAMAGE
from persistence.chain import FIELDS, RawRow
from persistence.engine import translated_errors
from persistence.errors import CorruptLogError
from persistence.memories import found_by, indexes_of, storable_row
from persistence.ranking import RANKED_EPISODES, RANKED_MEMORIES, Ranked
from persistence.records import EpisodeRow, MemoryRow, Row, StoredEvent
from persistence.vault import SEALED_SALT, VERSION, Vault, VaultError

CHUNK_ROWS = 250
"""Rows that are read at once: more of them leave the processor's cache before they are checked."""

STREAMS_CHUNK = 1_000
NO_TEXT = ""
"""Stands for a stream's name where the database holds no text."""


_TRANSACTION = (
    "CASE WHEN xid < '9223372036854775807' THEN xid::text::bigint ELSE 9223372036854775807 END"
)
"""A transaction's number has 64 bits without a sign; only in a damaged row are all of them used."""

IndexEntry = tuple[type[Row], int, tuple[object, ...]]
"""What a projected row is found by: the row's kind and id, and the columns of its index."""


NEEDS_KEY = "name the key's file by encryption_key_file."

_SALT = itemgetter(StoredEvent.__struct_fields__.index("salt"))


class StreamRow(Struct, frozen=True, gc=False):
    """A stream's row; in a damaged one a column may hold what its type does not say."""

    row: int
    stream_id: str
    version: int
    hash: bytes
    epoch: int
    listed: bool
    active: bool
    summary: bytes


class Place(Struct, frozen=True, gc=False):
    """An event's hash and epoch, and its place among all: transaction and position."""

    hash: bytes
    epoch: int
    transaction: int
    position: int


class RawRows:
    """Reads rows by one connection, and decrypts by ``vault`` what is encrypted.

    Raises StoreUnavailableError, and VaultError where something is encrypted without a vault.
    """

    def __init__(self, connection: sa.Connection, vault: Vault | None = None) -> None:
        self._vault = vault
        self.is_sqlite = connection.dialect.name == "sqlite"
        dbapi = connection.connection
        self._cursor = dbapi.cursor() if self.is_sqlite else dbapi.cursor(binary=True)
        assert connection.dialect.loaded_dbapi is not None
        self._driver_error: type[Exception] = connection.dialect.loaded_dbapi.Error
        memory_index, episode_index = indexes_of(connection.dialect)
        self._indexes = ((MemoryRow, memory_index), (EpisodeRow, episode_index))
        transaction = "0" if self.is_sqlite else _TRANSACTION
        # A name that is not UTF-8 must not end the reading of all the others.
        name = "stream_id"
        if self.is_sqlite:
            name = "CASE typeof(stream_id) WHEN 'text' THEN CAST(stream_id AS BLOB) END"
        self._of_streams = (
            f"SELECT id, {name}, version, hash, epoch, listed, active, summary FROM streams"  # noqa: S608 - made of constants
        )
        self._of_events = f"SELECT {STORED}, {transaction}, position FROM events WHERE stream = ?"  # noqa: S608
        self._place = f"SELECT hash, epoch, {transaction}, position FROM events"  # noqa: S608

    def all(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Return all rows of a statement, whose parameters are question marks."""
        text = statement if self.is_sqlite else statement.replace("?", "%s")
        with translated_errors(self._driver_error):
            self._cursor.execute(text, parameters)
            return list(self._cursor.fetchall())

    def streams(self, after_row: int) -> list[StreamRow]:
        """Return the streams that follow by their rows, STREAMS_CHUNK at most."""
        chosen = f"WHERE id > ? ORDER BY id LIMIT {STREAMS_CHUNK}"
        return [_stream_row(*row) for row in self.all(f"{self._of_streams} {chosen}", after_row)]

    def stream(self, stream_id: str) -> StreamRow | None:
        """Return a stream by its name."""
        found = self.all(f"{self._of_streams} WHERE stream_id = ?", stream_id)
        return _stream_row(*found[0]) if found else None

    def stream_of_row(self, row: int) -> StreamRow | None:
        """Return a stream by its row."""
        found = self.all(f"{self._of_streams} WHERE id = ?", row)
        return _stream_row(*found[0]) if found else None

    def count(self, row: int) -> int:
        """Return how many events name the stream."""
        ((count,),) = self.all("SELECT count(*) FROM events WHERE stream = ?", row)
        return int(count)

    def strays(self, row: int, version: int) -> list[Any]:
        """Return the seqs of events that lie before a stream's first or behind a version."""
        before = self.all("SELECT min(seq) FROM events WHERE stream = ? AND seq < 1", row)
        behind = self.all("SELECT min(seq) FROM events WHERE stream = ? AND seq > ?", row, version)
        return [seq for ((seq,),) in (before, behind) if seq is not None]

    def seqs_of_type(self, row: int, kind: str) -> list[int]:
        """Return the seqs of a stream's events of one type."""
        statement = "SELECT seq FROM events WHERE stream = ? AND type = ? ORDER BY seq"
        return [seq for (seq,) in self.all(statement, row, kind)]

    def place(self, row: int, seq: int) -> Place | None:
        """Return where an event lies."""
        found = self.all(f"{self._place} WHERE stream = ? AND seq = ?", row, seq)
        return Place(*found[0]) if found else None

    def chunks(
        self, stream: StreamRow, after: int, upto: int, size: int = CHUNK_ROWS
    ) -> Iterator[list[RawRow]]:
        """Yield the rows with ``after < seq <= upto`` in order; at a gap they go on behind it.

        Raises CorruptLogError at text that is none.
        """
        statement = f"{self._of_events} AND seq > ? AND seq <= ? ORDER BY seq LIMIT {size}"
        while after < upto:
            try:
                rows = self._events(statement, stream.row, after, upto)
            except _TextDamage:
                yield from self._one_by_one(stream, after, upto)
                return
            if rows:
                yield from self._opened(stream.stream_id, rows)
            if len(rows) < size:
                return
            after = rows[-1][0]

    def _one_by_one(self, stream: StreamRow, after: int, upto: int) -> Iterator[list[RawRow]]:
        """Yield the rows before the first one that can't be read: the driver doesn't say which."""
        for seq in range(after + 1, upto + 1):
            try:
                rows = self._events(self._of_events + " AND seq = ?", stream.row, seq)
            except _TextDamage:
                raise CorruptLogError(stream.stream_id, seq, "text that is not UTF-8") from None
            if rows:
                yield from self._opened(stream.stream_id, rows)

    def _opened(self, stream_id: str, rows: list[RawRow]) -> Iterator[list[RawRow]]:
        """Yield the rows as they were written, up to one that can't be decrypted."""
        if SEALED_SALT not in map(_SALT, rows):
            yield rows
            return
        opened: list[RawRow] = []
        for row in rows:
            try:
                opened.append(self._opened_row(stream_id, row))
            except CorruptLogError:
                if opened:
                    yield opened
                raise
        yield opened

    def _opened_row(self, stream_id: str, row: RawRow) -> RawRow:
        event = StoredEvent(*row[:FIELDS])
        if self._vault is not None:
            return (*astuple(self._vault.open_event(stream_id, event)), *row[FIELDS:])
        if event.salt == SEALED_SALT and (event.payload or b"")[:1] == VERSION:
            raise VaultError(f"{stream_id} is encrypted at seq {event.seq}: {NEEDS_KEY}")
        return row

    def opened(self, stream_id: str, stored: bytes) -> bytes | None:
        """Return a state or summary as it was written, None where its key is destroyed."""
        return stored if self._vault is None else self._vault.open(stream_id, stored)

    def _events(self, statement: str, *parameters: object) -> list[RawRow]:
        text = statement if self.is_sqlite else statement.replace("?", "%s")
        with translated_errors(self._driver_error):
            try:
                self._cursor.execute(text, parameters)
                return self._cursor.fetchall()  # type: ignore[return-value]  # tuples
            except self._driver_error as error:
                if TEXT_DAMAGE in str(error):
                    raise _TextDamage from error
                raise

    def snapshots(self, row: int) -> list[tuple[int, int]]:
        """Return the seqs of a stream's snapshots in order, each with its state's version."""
        statement = "SELECT seq, state_version FROM snapshots WHERE stream = ? ORDER BY seq"
        return [(seq, version) for seq, version in self.all(statement, row)]

    def snapshot(self, stream: StreamRow, seq: int) -> bytes | None:
        """Return a stored state, None where it has been dropped meanwhile, or its key has."""
        statement = "SELECT state FROM snapshots WHERE stream = ? AND seq = ?"
        found = self.all(statement, stream.row, seq)
        return self.opened(stream.stream_id, found[0][0]) if found else None

    def projected(self, row: int) -> list[Row]:
        """Return a stream's projected rows by id, the memories first."""
        return [
            *[MemoryRow(*each) for each in self._projected(RANKED_MEMORIES, row)],
            *[EpisodeRow(*each) for each in self._projected(RANKED_EPISODES, row)],
        ]

    def _projected(self, ranked: Ranked, row: int) -> list[tuple[Any, ...]]:
        names = ", ".join([column.name for column in ranked.columns])
        statement = f"SELECT {names} FROM {ranked.table.name} WHERE stream = ? ORDER BY id"  # noqa: S608
        return self.all(statement, row)

    def index_entries(self, row: int) -> list[IndexEntry]:
        """Return what a stream's rows are found by."""
        return [
            (kind, row_id, tuple(entry))
            for kind, index in self._indexes
            for row_id, *entry in self.all(index.entries(), row)
        ]

    def index_entries_of(self, row: int, rows: Sequence[Row]) -> list[IndexEntry]:
        """Return what ``index_entries`` should return where a stream has these rows."""
        (_, memories), (_, episodes) = self._indexes
        return [
            (type(each), each.id, index.entry(row, text))
            for each in rows
            for index in [memories if isinstance(each, MemoryRow) else episodes]
            if (text := found_by(each)) is not None
        ]

    def stored(self, rows: Sequence[Row]) -> list[Row]:
        """Return rows as this database can hold them."""
        if self.is_sqlite:
            return list(rows)
        kinds: dict[type[Row], Any] = {MemoryRow: MemoryRow, EpisodeRow: EpisodeRow}
        return [kinds[type(row)](*storable_row(row)) for row in rows]


@contextlib.contextmanager
def opened_rows(engine: sa.Engine, vault: Vault | None = None) -> Iterator[RawRows]:
    """Lend a connection to read rows by. Raises StoreUnavailableError."""
    with translated_errors():
        connection = engine.connect()
    with connection:
        yield RawRows(connection, vault)


class _TextDamage(Exception):
    """SQLite's driver met text that is not UTF-8."""


def _stream_row(row: int, name: object, *fields: Any) -> StreamRow:  # noqa: ANN401 - any column
    if isinstance(name, bytes):
        name = name.decode("utf-8", "backslashreplace")
    return StreamRow(row, NO_TEXT if name is None else str(name), *fields)
