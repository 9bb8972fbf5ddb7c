from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.engine import parse_url, read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.in_memory import InMemoryEventLog, InMemoryTree
from persistence.migration import ensure_schema
from persistence.records import Claim
from persistence.tree import WINDOW_STREAMS, SqlTree
from tests.contracts.event_log_contract import append, claim
from tests.contracts.tree_contract import Opened, TreeContract


def opened_at(url: sa.URL) -> Iterator[Opened]:
    writer, reader = write_engine(url), read_engine(url)
    ensure_schema(writer)
    log = SqlEventLog(writer, reader)
    yield log, SqlTree(reader)
    log.close()


class TestInMemoryTree(TreeContract):
    @pytest.fixture
    def opened(self) -> Opened:
        log = InMemoryEventLog()
        return log, InMemoryTree(log)


class TestSqliteTree(TreeContract):
    @pytest.fixture
    def opened(self, tmp_path: Path) -> Iterator[Opened]:
        yield from opened_at(parse_url(f"sqlite:///{tmp_path / 'log.db'}"))

    def test_a_stream_is_found_behind_more_than_a_statement_compares(self, opened: Opened) -> None:
        log, tree = opened
        log.write([Claim(f"stream {number}", "me") for number in range(WINDOW_STREAMS)])
        first, last = (append(log, claim(log, name)) for name in ("stream 0", "the last"))
        assert tree.moved(limit=10) == [first, last]
        assert tree.moved(after_row=first.row, limit=10) == [last]


class TestPostgresTree(TreeContract):
    @pytest.fixture
    def opened(self, postgres_url: sa.URL) -> Iterator[Opened]:
        yield from opened_at(postgres_url)
