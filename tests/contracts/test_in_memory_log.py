import pytest

from persistence.in_memory import InMemoryEventLog
from tests.contracts.event_log_contract import EventLogContract, OpenLog


class TestInMemoryLog(EventLogContract):
    @pytest.fixture
    def open_log(self) -> OpenLog:
        return InMemoryEventLog
