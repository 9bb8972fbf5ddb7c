from collections.abc import Callable
from functools import partial

import pytest

from persistence.event_log import EventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import Head, Leaf, Node, Row
from tests.contracts.event_log_contract import EventLogContract, OpenLog, OwnedLogContract
from tests.contracts.projection_contract import ProjectionContract, ReadRows
from tests.contracts.record_contract import ReadTree, RecordContract


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


@pytest.fixture
def read_tree() -> ReadTree:
    def read(log: EventLog) -> tuple[list[Leaf], list[Node]]:
        assert isinstance(log, InMemoryEventLog)
        nodes = [Node(*place, found) for place, found in sorted(log._nodes.items())]
        return list(log._leaves), nodes

    return read


class TestInMemoryLog(EventLogContract):
    pass


class TestInMemoryOwners(OwnedLogContract):
    pass


class TestInMemoryRecord(RecordContract):
    pass


class TestInMemoryProjection(ProjectionContract):
    pass
