"""The contract of the event log where all that is stored is encrypted."""

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence.engine import read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.memories import SqlMemories
from persistence.stream_keys import KeyStore
from persistence.vault import Vault
from tests.contracts.event_log_contract import EventLogContract, OpenLog
from tests.contracts.projection_contract import ReadRows
from tests.contracts.record_contract import ReadTree, RecordContract
from tests.contracts.tree import stored_tree
from tests.sqlite import make_database

MASTER_KEY = bytes(range(32))


@pytest.fixture
def projections() -> dict[EventLog, SqlMemories]:
    return {}


@pytest.fixture
def urls() -> list[sa.URL]:
    """The databases that were opened."""
    return []


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KeyStore]:
    """One for all the logs: each new key is synced to the disk."""
    store = KeyStore(sa.make_url(f"sqlite:///{tmp_path_factory.mktemp('keys') / 'keys'}"))
    yield store
    store.close()


@pytest.fixture
def open_log(
    tmp_path: Path, keys: KeyStore, projections: dict[EventLog, SqlMemories], urls: list[sa.URL]
) -> Iterator[OpenLog]:
    names = itertools.count()
    with contextlib.ExitStack() as opened:

        def open_one(
            *, clock_us: Callable[[], int], random_bytes: Callable[[int], bytes]
        ) -> EventLog:
            url = make_database(tmp_path / f"{next(names)}.db")
            urls.append(url)
            writer, reader = write_engine(url), read_engine(url)
            vault = Vault(MASTER_KEY, keys)
            log = SqlEventLog(
                writer, reader, clock_us=clock_us, random_bytes=random_bytes, vault=vault
            )
            opened.callback(log.close)
            projections[log] = SqlMemories(reader)
            return log

        yield open_one


@pytest.fixture
def read_rows(projections: dict[EventLog, SqlMemories]) -> ReadRows:
    return lambda log, head: projections[log].rows(head.row)


@pytest.fixture
def read_tree(urls: list[sa.URL]) -> ReadTree:
    return lambda _log: stored_tree(urls[-1])


class TestEncryptedLog(EventLogContract):
    pass


class TestEncryptedRecord(RecordContract):
    pass
