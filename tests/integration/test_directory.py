import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from persistence import directory
from persistence.directory import Directory, Listed, Owned
from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.records import SHARED, Append, Claim, Head, NewEvent, Summary, Write
from tests.postgres.server import connected
from tests.sqlite import make_database

BACKENDS = ("sqlite", "postgresql")


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> sa.URL:
    if request.param == "sqlite":
        return make_database(tmp_path / "log.db")
    found: sa.URL = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def log(url: sa.URL) -> Iterator[SqlEventLog]:
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        yield log


@pytest.fixture
def looked(url: sa.URL) -> Iterator[Directory]:
    reader = read_engine(url)
    yield Directory(reader)
    reader.dispose()


def appended(log: SqlEventLog, stream_id: str, owner: str, summary: Summary) -> None:
    (head,) = log.write([Claim(stream_id, owner)])
    assert isinstance(head, Head)
    event = NewEvent("a.happened", 1, b"{}")
    write: Write = Append(head, (event,), summary)
    (outcome,) = log.write([write])
    assert isinstance(outcome, Head)


def fill(log: SqlEventLog) -> None:
    appended(log, "session:a", "me", Summary(True, False, b'{"n":1}'))
    appended(log, "session:b", "me", Summary(True, True, b'{"n":2}'))
    appended(log, "session:gone", "me", Summary(False, False, b"{}"))
    appended(log, "gateway", SHARED, Summary(True, False, b"{}"))
    appended(log, "session:c", "you", Summary(True, False, b'{"n":3}'))


def names(found: Iterable[Listed]) -> list[str]:
    return [each.stream_id for each in found]


def test_streams_come_newest_first_with_owner_and_summary(
    log: SqlEventLog, looked: Directory
) -> None:
    fill(log)
    found = list(looked.newest(prefix="session:"))
    assert [(each.stream_id, each.owner, each.active, each.body) for each in found] == [
        ("session:c", "you", False, b'{"n":3}'),
        ("session:b", "me", True, b'{"n":2}'),
        ("session:a", "me", False, b'{"n":1}'),
    ]
    assert names(looked.newest(prefix="session:", before_row=found[0].row)) == [
        "session:b",
        "session:a",
    ]
    assert names(looked.newest(prefix="session:", active=True)) == ["session:b"]
    assert names(looked.newest(prefix="session:A")) == []


def test_chunks_follow_one_another_without_gaps(
    log: SqlEventLog, looked: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log)
    for rows in (1, 2, 3):
        monkeypatch.setattr(directory, "SCAN_ROWS", rows)
        assert names(looked.newest(prefix="session:")) == ["session:c", "session:b", "session:a"]


def test_owners_are_counted_with_what_has_work(log: SqlEventLog, looked: Directory) -> None:
    fill(log)
    assert looked.owned("session:") == {"me": Owned(2, 1), "you": Owned(1, 0)}


def test_processes_with_a_lease_are_listed(url: sa.URL, looked: Directory) -> None:
    assert looked.workers() == []
    if url.drivername.startswith("postgresql"):
        with connected(url) as connection:
            connection.execute(
                "INSERT INTO workers (name, started_at, renewed_at) VALUES ('h:1:x', 1, 2)"
            )
        ((worker),) = looked.workers()
        assert (worker.name, worker.started_at, worker.renewed_at) == ("h:1:x", 1, 2)


@pytest.mark.parametrize("searched_rows", [1, 2, 5_000])
def test_a_search_finds_each_stream_that_has_a_text_once(
    log: SqlEventLog, looked: Directory, monkeypatch: pytest.MonkeyPatch, searched_rows: int
) -> None:
    monkeypatch.setattr(directory, "SEARCHED_ROWS", searched_rows)
    fill(log)
    appended(log, "session:d", "me", Summary(True, True, b'{"n":"50%_OFF Caf\xc3\xa9"}'))
    assert names(looked.search("%_off", prefix="session:")) == ["session:d"]
    assert names(looked.search("N", prefix="session:")) == [f"session:{each}" for each in "dcba"]
    assert names(looked.search("n", prefix="session:", active=True)) == ["session:d", "session:b"]
    rows = {each.stream_id: each.row for each in looked.newest(prefix="session:")}
    older = looked.search("n", prefix="session:", before_row=rows["session:c"])
    assert names(older) == ["session:b", "session:a"]
    assert names(looked.search("%", prefix="session:")) == ["session:d"]
    assert names(looked.search("nowhere", prefix="session:")) == []


def test_what_the_database_can_not_compare_is_not_its_to_search(looked: Directory) -> None:
    assert looked.searches("plain words: 100%")
    for text in ("", "caf\u00e9", 'a "quote"', "back\\slash", "two\nlines"):
        assert not looked.searches(text), text


def test_recent_streams_come_by_their_newest_event(
    log: SqlEventLog, looked: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(log)
    assert names(looked.recent(prefix="session:", limit=9)) == [
        "session:c",
        "session:b",
        "session:a",
    ]
    appended(log, "session:a", "me", Summary(True, True, b'{"n":4}'))
    newest = looked.recent(prefix="session:", limit=2)
    assert names(newest) == ["session:a", "session:c"]
    assert newest[0].body == b'{"n":4}'
    assert names(looked.recent(prefix="session:", limit=9, active=True)) == [
        "session:a",
        "session:b",
    ]
    monkeypatch.setattr(directory, "RECENT_EVENTS", 1)
    assert names(looked.recent(prefix="session:", limit=9)) == ["session:a"]
