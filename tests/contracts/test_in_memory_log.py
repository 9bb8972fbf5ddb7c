from collections.abc import Callable
from functools import partial

import pytest

from persistence.event_log import EventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import Head, Row
from tests.contracts.event_log_contract import EventLogContract, OpenLog, OwnedLogContract
from tests.contracts.projection_contract import ProjectionContract, ReadRows


@pytest.fixture
def alive() -> set[str]:
    return set()


@pytest.fixture
def live(alive: set[str]) -> Callable[[str], object]:
    return alive.add


@pytest.fixture
def open_log(alive: set[str]) -> OpenLog:
    return partial(InMemoryEventLog, is_alive=alive.__contains__)


@pytest.fixture
def read_rows() -> ReadRows:
    def read(log: EventLog, head: Head) -> list[Row]:
        assert isinstance(log, InMemoryEventLog)
        return log.rows(head.stream_id)

    return read


class TestInMemoryLog(EventLogContract):
    pass


class TestInMemoryOwners(OwnedLogContract):
    pass


class TestInMemoryProjection(ProjectionContract):
    pass
