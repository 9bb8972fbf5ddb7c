import contextlib
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sa

from persistence.engine import read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.memories import SqlMemories
from tests.contracts.event_log_contract import (
    AnswerContract,
    EventLogContract,
    OpenLog,
    OwnedLogContract,
)
from tests.contracts.inbox import given_answers, put_message
from tests.contracts.projection_contract import ProjectionContract, ReadRows
from tests.contracts.record_contract import ReadTree, RecordContract
from tests.contracts.tree import stored_tree
from tests.postgres.server import PostgresServer, connected


@pytest.fixture
def projections() -> dict[EventLog, SqlMemories]:
    return {}


@pytest.fixture
def urls() -> list[sa.URL]:
    """The databases that were opened."""
    return []


@pytest.fixture
def live(urls: list[sa.URL]) -> Callable[[str], object]:
    def live(name: str) -> None:
        with connected(urls[-1]) as connection:
            connection.execute(
                "INSERT INTO workers (name, started_at, renewed_at)"
                " VALUES (%s, 0, extract(epoch FROM clock_timestamp()) * 1000000)",
                (name,),
            )

    return live


@pytest.fixture
def open_log(
    postgres: PostgresServer, projections: dict[EventLog, SqlMemories], urls: list[sa.URL]
) -> Iterator[OpenLog]:
    with contextlib.ExitStack() as opened:

        def open_one(
            *, clock_us: Callable[[], int], random_bytes: Callable[[int], bytes]
        ) -> EventLog:
            url = opened.enter_context(postgres.database())
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


class TestPostgresLog(EventLogContract):
    pass


class TestPostgresOwners(OwnedLogContract):
    pass


class TestPostgresAnswers(AnswerContract):
    pass


class TestPostgresRecord(RecordContract):
    pass


class TestPostgresProjection(ProjectionContract):
    pass
