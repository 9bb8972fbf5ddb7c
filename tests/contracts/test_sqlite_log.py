import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.engine import read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.memories import SqlMemories
from tests.contracts.event_log_contract import AnswerContract, EventLogContract, OpenLog
from tests.contracts.inbox import given_answers, put_message
from tests.contracts.projection_contract import ProjectionContract, ReadRows
from tests.contracts.record_contract import ReadTree, RecordContract
from tests.contracts.tree import stored_tree
from tests.sqlite import make_database


@pytest.fixture
def projections() -> dict[EventLog, SqlMemories]:
    return {}


@pytest.fixture
def urls() -> list[sa.URL]:
    """The databases that were opened."""
    return []


@pytest.fixture
def open_log(
    tmp_path: Path, projections: dict[EventLog, SqlMemories], urls: list[sa.URL]
) -> Iterator[OpenLog]:
    names = itertools.count()
    with contextlib.ExitStack() as opened:

        def open_one(
            *, clock_us: Callable[[], int], random_bytes: Callable[[int], bytes]
        ) -> EventLog:
            url = make_database(tmp_path / f"{next(names)}.db")
            urls.append(url)
            writer, reader = write_engine(url), read_engine(url)
            log = SqlEventLog(writer, reader, clock_us=clock_us, random_bytes=random_bytes)
            opened.callback(log.close)
            projections[log] = SqlMemories(reader)
            return log

        yield open_one


@pytest.fixture
def ask(urls: list[sa.URL]) -> Callable[[], int]:
    return lambda: put_message(urls[-1])


@pytest.fixture
def answers(urls: list[sa.URL]) -> Callable[[], dict[int, bytes | None]]:
    return lambda: given_answers(urls[-1])


@pytest.fixture
def read_rows(projections: dict[EventLog, SqlMemories]) -> ReadRows:
    return lambda log, head: projections[log].rows(head.row)


@pytest.fixture
def read_tree(urls: list[sa.URL]) -> ReadTree:
    return lambda _log: stored_tree(urls[-1])


class TestSqliteLog(EventLogContract):
    pass


class TestSqliteAnswers(AnswerContract):
    pass


class TestSqliteRecord(RecordContract):
    pass


class TestSqliteProjection(ProjectionContract):
    pass
