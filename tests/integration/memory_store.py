"""Memory streams in an SQLite file, written and searched as a gateway does it."""

import contextlib
import itertools
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from persistence.engine import parse_url, read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.memories import Hit, SqlMemories
from persistence.migration import ensure_schema
from persistence.records import Append, Claim, Head, Reproject, Row, Summary, Write

SUMMARY = Summary(listed=False, active=False, body=b"{}")
INDEXES = ("memory_index", "episode_index")


class MemoryStore:
    """One file, with as many streams as are asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = itertools.count()
        url = parse_url(f"sqlite:///{path}")
        writer, reader = write_engine(url), read_engine(url)
        ensure_schema(writer)
        self.log = SqlEventLog(writer, reader)
        self.memories = SqlMemories(reader)
        self._reader = reader

    def new_stream(self) -> "MemoryStream":
        return MemoryStream(self, f"memory:{next(self._names)}")

    @contextlib.contextmanager
    def raw(self) -> Iterator[sqlite3.Connection]:
        """A connection past the store."""
        with contextlib.closing(sqlite3.connect(self._path)) as connection, connection:
            yield connection

    def count(self, table: str) -> int:
        with self.raw() as connection:
            return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

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

    def close(self) -> None:
        self.log.close()


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
