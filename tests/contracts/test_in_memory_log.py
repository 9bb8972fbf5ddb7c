import pytest

from persistence.event_log import EventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import Head, Row
from tests.contracts.event_log_contract import EventLogContract, OpenLog
from tests.contracts.projection_contract import ProjectionContract, ReadRows


@pytest.fixture
def open_log() -> OpenLog:
    return InMemoryEventLog


@pytest.fixture
def read_rows() -> ReadRows:
    def read(log: EventLog, head: Head) -> list[Row]:
        assert isinstance(log, InMemoryEventLog)
        return log.rows(head.stream_id)

    return read


class TestInMemoryLog(EventLogContract):
    pass


class TestInMemoryProjection(ProjectionContract):
    pass
