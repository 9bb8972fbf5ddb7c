import contextlib
from collections.abc import Callable, Iterator

import pytest

from persistence.engine import read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.memories import SqlMemories
from tests.contracts.event_log_contract import EventLogContract, OpenLog
from tests.contracts.projection_contract import ProjectionContract, ReadRows
from tests.postgres.server import PostgresServer


@pytest.fixture
def projections() -> dict[EventLog, SqlMemories]:
    return {}


@pytest.fixture
def open_log(
    postgres: PostgresServer, projections: dict[EventLog, SqlMemories]
) -> Iterator[OpenLog]:
    with contextlib.ExitStack() as opened:

        def open_one(
            *, clock_us: Callable[[], int], random_bytes: Callable[[int], bytes]
        ) -> EventLog:
            url = opened.enter_context(postgres.database())
            writer, reader = write_engine(url), read_engine(url)
            log = SqlEventLog(writer, reader, clock_us=clock_us, random_bytes=random_bytes)
            opened.callback(log.close)
            projections[log] = SqlMemories(reader)
            return log

        yield open_one


@pytest.fixture
def read_rows(projections: dict[EventLog, SqlMemories]) -> ReadRows:
    return lambda log, head: projections[log].rows(head.row)


class TestPostgresLog(EventLogContract):
    pass


class TestPostgresProjection(ProjectionContract):
    pass
