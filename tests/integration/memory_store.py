"""Memory streams in a database, written and searched as a gateway does it."""

import abc
import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from msgspec.structs import astuple

from persistence.engine import parse_url, read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.memories import Hit, SqlMemories
from persistence.migration import ensure_schema
from persistence.records import Append, Claim, Head, Reproject, Row, Summary, Write
from persistence.words import pieces, spelling
from tests.postgres.plans import plan_of

SUMMARY = Summary(listed=False, active=False, body=b"{}")
INDEXES = ("memory_index", "episode_index")
DATABASES = ("sqlite", "postgresql")


class MemoryStore(abc.ABC):
    """One database, with as many streams as are asked for."""

    def __init__(self, url: sa.URL) -> None:
        self._names = itertools.count()
        self._writer, self._reader = write_engine(url), read_engine(url)
        ensure_schema(self._writer)
        self.log = SqlEventLog(self._writer, self._reader)
        self.memories = SqlMemories(self._reader)

    def new_stream(self) -> "MemoryStream":
        return MemoryStream(self, f"memory:{next(self._names)}")

    def stored(self, row: Row) -> Row:
        """Return the row as the database gives it back."""
        return row

    def run(self, statement: str) -> list[Any]:
        """Carry out a statement past the store."""
        with self._reader.connect() as connection:
            found = connection.exec_driver_sql(statement)
            return list(found) if found.returns_rows else []

    def count(self, table: str) -> int:
        ((count,),) = self.run(f"SELECT count(*) FROM {table}")
        return int(count)

    @abc.abstractmethod
    def check_index(self) -> None:
        """Compare each index with the rows that it is of."""

    def close(self) -> None:
        self.log.close()


class SqliteMemoryStore(MemoryStore):
    """One file."""

    def __init__(self, path: Path) -> None:
        super().__init__(parse_url(f"sqlite:///{path}"))
        self._path = path

    @contextlib.contextmanager
    def raw(self) -> Iterator[sqlite3.Connection]:
        """A connection past the store."""
        with contextlib.closing(sqlite3.connect(self._path)) as connection, connection:
            yield connection

    def plan_of(self, read: Callable[[], object]) -> str:
        """How SQLite carries out what is read."""
        asked: list[tuple[str, Any]] = []

        def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            asked.append((f"EXPLAIN QUERY PLAN {statement}", parameters))

        sa.event.listen(self._reader, "before_cursor_execute", note)
        read()
        sa.event.remove(self._reader, "before_cursor_execute", note)
        with self.raw() as connection:
            return "\n".join(line for each in asked for *_, line in connection.execute(*each))

    def check_index(self) -> None:
        """Have FTS5 compare each index with the text that it keeps."""
        with self.raw() as connection:
            for name in INDEXES:
                connection.execute(f"INSERT INTO {name} ({name}) VALUES ('integrity-check')")


class PostgresMemoryStore(MemoryStore):
    """One database of a server."""

    def stored(self, row: Row) -> Row:
        """Return the row without U+0000, which PostgreSQL can't hold."""
        fields = (
            each.replace("\0", "\ufffd") if isinstance(each, str) else each for each in astuple(row)
        )
        return type(row)(*fields)

    def plan_of(self, read: Callable[[], object]) -> str:
        """How PostgreSQL carries out what is read."""
        return plan_of(self._reader, read)

    def check_index(self) -> None:
        """Compare each index with what words.py says of the rows."""
        texts = {
            "memory_index": "SELECT row, stream, memory_key || ' ' || content FROM memories"
            " WHERE active ORDER BY row",
            "episode_index": "SELECT row, stream, text FROM episodes ORDER BY row",
        }
        for name, query in texts.items():
            expected = [
                (row, spelling(text), [f"|{stream}", *pieces(text)])
                for row, stream, text in self.run(query)
            ]
            found = [
                tuple(row) for row in self.run(f"SELECT row, text, pieces FROM {name} ORDER BY row")
            ]
            assert found == expected


class MemoryStream:
    """One stream of a store."""

    def __init__(self, store: MemoryStore, stream_id: str) -> None:
        self._store = store
        self.head = self._carry_out(Claim(stream_id, "me"))

    def write(self, *rows: Row) -> None:
        assert self._carry_out(Append(self.head, (), SUMMARY, None, rows)) == self.head

    def rebuild(self, *rows: Row) -> None:
        assert self._carry_out(Reproject(self.head, rows)) == self.head

    def _carry_out(self, write: Write) -> Head:
        (outcome,) = self._store.log.write([write])
        assert isinstance(outcome, Head), outcome
        return outcome

    def rows(self) -> list[Row]:
        return self._store.memories.rows(self.head.row)

    def search(
        self, query: str, *, limit: int = 4, now_ms: int = 0, secrets: bool = True
    ) -> list[Hit]:
        return self._store.memories.search(
            self.head.row, query, limit=limit, now_ms=now_ms, secrets=secrets
        )
