"""What only a real SQLite file shows: triggers, pragmas, locks, damage and full disks."""

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from actors.replay import CODEC, state_at, stream_of
from actors.session.codec import encode_state
from actors.session.events import PromptQueued, RunStarted, SessionCreated
from actors.session.evolve import evolve
from actors.session.state import STATE_VERSION, SessionState
from persistence import chain
from persistence.engine import DatabaseUrlError, parse_url, read_engine, write_engine
from persistence.errors import (
    CorruptLogError,
    PersistenceError,
    StoreLockedError,
    StoreUnavailableError,
)
from persistence.event_log import SqlEventLog
from persistence.group_commit import GroupCommit
from persistence.records import Append, Claim, Erasure, Head, NewEvent, Snapshot, Summary
from persistence.schema import events
from persistence.single_process import SingleProcessLock
from tests.sqlite import make_database

DEADLINE_S = 60.0
SUMMARY = Summary(listed=True, active=False, body=b"{}")

SESSION = (
    SessionCreated("id", 1),
    PromptQueued("p1", "hello", "http", 2),
    RunStarted("p1", 3),
)

ERASED_COLUMNS = ("payload", "salt", "payload_digest")
IDENTITY_COLUMNS = [column.name for column in events.c if column.name not in ERASED_COLUMNS]
ERASING = "payload = NULL, salt = NULL, payload_digest = "

OTHER_VALUES = {
    "position": "99",
    "stream": "99",
    "seq": "99",
    "epoch": "epoch + 1",
    "type": "'forged'",
    "schema_version": "9",
    "recorded_at": "recorded_at - 1",
    "principal": "'mallory'",
    "correlation_id": "NULL",
    "causation_seq": "1",
    "payload": "x'7b7d'",
    "salt": "zeroblob(16)",
    "payload_digest": "zeroblob(32)",
    "hash": "zeroblob(32)",
}


class Store:
    """An SQLite log of two sessions, and its file for those who go behind its back."""

    def __init__(
        self, path: Path, on_connect: Callable[[sqlite3.Connection], None] | None = None
    ) -> None:
        self.path = path
        url = make_database(path)
        self.writer, self.reader = write_engine(url), read_engine(url)
        if on_connect is not None:
            sa.event.listen(self.writer, "connect", lambda made, _record: on_connect(made))
        self.log = SqlEventLog(self.writer, self.reader)
        for key in ("a", "b"):
            self.append(self.claim(key), *(_new(event) for event in SESSION))

    def claim(self, key: str) -> Head:
        return _head(self.log.write([Claim(stream_of(key), "me")])[0])

    def append(self, head: Head, *new: NewEvent, snapshot: Snapshot | None = None) -> Head:
        return _head(self.log.write([Append(head, new, SUMMARY, snapshot)])[0])

    def head(self, key: str) -> Head:
        head = self.log.head(stream_of(key))
        assert head is not None
        return head

    @contextlib.contextmanager
    def raw(self) -> Iterator[sqlite3.Connection]:
        """A connection with none of our settings, as another program would open it."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def change(self, statement: str) -> None:
        """Change rows as an intruder would, without the triggers."""
        with self.raw() as connection:
            for trigger in ("update", "delete", "replace"):
                connection.execute(f"DROP TRIGGER events_no_{trigger}")
            assert connection.execute(statement).rowcount > 0

    def rows(self) -> list[tuple[object, ...]]:
        with self.raw() as connection:
            return connection.execute("SELECT * FROM events ORDER BY position").fetchall()


def _new(event: SessionCreated | PromptQueued | RunStarted) -> NewEvent:
    payload = CODEC.encode(event)
    return NewEvent(event.wire_name, event.schema_version, payload, "alice", "p1", None)


def _head(outcome: Head | PersistenceError) -> Head:
    assert isinstance(outcome, Head), outcome
    return outcome


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "log.db")
    yield store
    store.log.close()


# Append-only


def _refused(store: Store, statement: str) -> None:
    before = store.rows()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), store.raw() as connection:
        connection.execute(statement)
    assert store.rows() == before


def test_every_column_is_tried() -> None:
    assert set(OTHER_VALUES) == {column.name for column in events.c}


@pytest.mark.parametrize("column", OTHER_VALUES)
def test_no_column_of_an_event_can_be_updated(store: Store, column: str) -> None:
    value = OTHER_VALUES[column]
    _refused(store, f"UPDATE events SET {column} = {value} WHERE position = 2")
    _refused(store, f"UPDATE OR REPLACE events SET {column} = {value} WHERE position = 2")


@pytest.mark.parametrize("column", IDENTITY_COLUMNS)
def test_erasing_a_payload_can_change_nothing_else(store: Store, column: str) -> None:
    change = f"{ERASING} zeroblob(32), {column} = {OTHER_VALUES[column]}"
    _refused(store, f"UPDATE events SET {change} WHERE position = 2")


@pytest.mark.parametrize("column", ["payload", "salt"])
def test_payload_and_salt_can_only_be_erased_together(store: Store, column: str) -> None:
    change = f"{column} = NULL, payload_digest = zeroblob(32)"
    _refused(store, f"UPDATE events SET {change} WHERE position = 2")


@pytest.mark.parametrize("digest", ["x''", "zeroblob(31)", "zeroblob(33)", f"'{'x' * 32}'"])
def test_a_payload_is_erased_only_for_a_digest(store: Store, digest: str) -> None:
    _refused(store, f"UPDATE events SET {ERASING} {digest} WHERE position = 2")
    _refused(store, "UPDATE events SET payload = NULL, salt = NULL WHERE position = 2")


def test_an_erased_payload_stays_erased_and_the_chain_verifies(store: Store) -> None:
    head = store.head("a")
    erasure = Erasure(head.row, 2, 2)
    assert store.log.write([Append(head, (), SUMMARY, erasures=(erasure,))]) == [head]
    for change in (
        "payload = x'7b7d'",
        "payload = x'7b7d', salt = zeroblob(16)",
        "payload_digest = x''",
        "payload_digest = zeroblob(32)",
    ):
        _refused(store, f"UPDATE events SET {change} WHERE position = 2")
    stored = list(store.log.read(head))
    assert (stored[1].payload, stored[1].salt) == (None, None)
    assert stored[2].payload is not None
    assert chain.verify(head.stream_id, stored) == (head.version, head.hash)


def test_no_event_can_be_deleted(store: Store) -> None:
    _refused(store, "DELETE FROM events WHERE position = 6")
    _refused(store, "DELETE FROM events")


COPIED = ", ".join(
    column.name for column in events.c if column.name not in ("position", "stream", "seq")
)


@pytest.mark.parametrize(
    "place",
    ["NULL, stream, seq", "99, stream, seq", "position, stream, 99"],
    ids=["same seq", "same seq, other position", "same position"],
)
def test_no_event_can_be_replaced(store: Store, place: str) -> None:
    columns = f"position, stream, seq, {COPIED}"
    source = f"SELECT {place}, {COPIED} FROM events WHERE position = 2"
    _refused(store, f"INSERT OR REPLACE INTO events ({columns}) {source}")
    _refused(store, f"INSERT OR IGNORE INTO events ({columns}) {source}")
    _refused(
        store,
        f"INSERT INTO events ({columns}) {source} ON CONFLICT DO UPDATE SET principal = 'mallory'",
    )


def test_no_stream_can_be_deleted(store: Store) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="never deleted"), store.raw() as connection:
        connection.execute("DELETE FROM streams")


# Connections


def _pragmas(engine: sa.Engine, names: Iterable[str]) -> dict[str, object]:
    with contextlib.closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        return {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in names}


def test_a_writing_connection_survives_power_loss_by_its_pragmas(tmp_path: Path) -> None:
    expected = {
        "journal_mode": "wal",
        "synchronous": 2,  # FULL
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "busy_timeout": 5_000,
        "query_only": 0,
    }
    engine = write_engine(parse_url(f"sqlite:///{tmp_path / 'log.db'}"))
    assert _pragmas(engine, expected) == expected
    engine.dispose()  # as reopening does
    assert _pragmas(engine, expected) == expected
    engine.dispose()


def test_the_log_writes_by_such_a_connection(tmp_path: Path) -> None:
    made: list[sqlite3.Connection] = []
    store = Store(tmp_path / "log.db", on_connect=made.append)
    (connection,) = made
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.log.close()


def test_reading_connections_cannot_write(store: Store) -> None:
    assert _pragmas(store.reader, ["query_only"]) == {"query_only": 1}
    for statement in (
        "UPDATE streams SET owner = 'mallory'",
        "DELETE FROM snapshots",
        "CREATE TABLE mine (id INTEGER)",
    ):
        with (
            pytest.raises(sa.exc.OperationalError, match="readonly"),
            store.reader.begin() as connection,
        ):
            connection.exec_driver_sql(statement)


def test_reads_go_on_while_a_write_is_open(store: Store) -> None:
    with store.raw() as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE streams SET version = 99")
        assert store.head("a").version == 3
        other.rollback()


def test_a_busy_database_is_unavailable_and_nothing_of_the_batch_is_written(
    store: Store,
) -> None:
    @sa.event.listens_for(store.writer, "connect")
    def _impatient(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 10")

    store.log.reopen()
    a, b = store.head("a"), store.head("b")
    new = (NewEvent("text.delta", 1, b"{}"),)
    with store.raw() as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            store.log.write([Append(a, new, SUMMARY), Append(b, new, SUMMARY)])
        assert (store.head("a"), store.head("b")) == (a, b)
    outcomes = store.log.write([Append(a, new, SUMMARY), Append(b, new, SUMMARY)])
    assert [_head(outcome).version for outcome in outcomes] == [4, 4]


# One process


CONTENDER = """
import sys
from persistence.errors import StoreLockedError
from persistence.single_process import SingleProcessLock
from tests.sqlite import make_database

class Talking(SingleProcessLock):
    def _try(self):
        took = super()._try()
        print("took" if took else "waits", flush=True)
        return took

try:
    Talking(sys.argv[1]).acquire(sibling_wait_s=float(sys.argv[2]))
except StoreLockedError as refusal:
    sys.exit(f"refused: {refusal}")
print("serves", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def contend(tmp_path: Path) -> Iterator[Callable[[float], subprocess.Popen[str]]]:
    """Start a process that takes the lock and keeps it until it reads a line, or is killed."""
    with contextlib.ExitStack() as started:

        def start(sibling_wait_s: float) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", CONTENDER, str(tmp_path / "log.db"), str(sibling_wait_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _first_line_but(process: subprocess.Popen[str], skipped: str) -> str:
    while (line := _line(process)) == skipped:
        pass
    return line


def test_a_second_process_is_refused_at_once_and_served_after_release(
    tmp_path: Path, contend: Callable[[float], subprocess.Popen[str]]
) -> None:
    lock = SingleProcessLock(str(tmp_path / "log.db"))
    lock.acquire(sibling_wait_s=0)
    second = contend(3_600)  # not a sibling: this time is not for it
    _, refusal = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert f"Process {os.getpid()} already serves {tmp_path / 'log.db'}." in refusal
    assert "PostgreSQL" in refusal
    lock.release()
    third = contend(0)
    assert [_line(third), _line(third)] == ["took", "serves"]
    with pytest.raises(StoreLockedError, match=f"Process {third.pid} already"):
        lock.acquire(sibling_wait_s=3_600)
    third.communicate("\n", timeout=DEADLINE_S)
    lock.acquire(sibling_wait_s=0)
    lock.release()


def test_a_sibling_waits_until_the_one_before_it_is_gone(
    contend: Callable[[float], subprocess.Popen[str]],
) -> None:
    first = contend(0)
    assert [_line(first), _line(first)] == ["took", "serves"]
    second = contend(DEADLINE_S)
    assert [_line(second), _line(second)] == ["waits", "waits"]
    first.kill()
    assert _first_line_but(second, "waits") == "took"
    assert _line(second) == "serves"


def test_a_sibling_is_refused_when_its_time_is_up(
    contend: Callable[[float], subprocess.Popen[str]],
) -> None:
    first = contend(0)
    assert [_line(first), _line(first)] == ["took", "serves"]
    second = contend(0.1)
    _, refusal = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert f"Process {first.pid} already serves" in refusal


# Damage


def test_a_session_is_loaded_from_its_events(store: Store) -> None:
    state = state_at(store.log, store.head("a"))
    assert state.version == 3
    assert state.run is not None
    assert state.run.prompt_id == "p1"


@pytest.mark.parametrize(
    "change",
    [
        "payload = CAST(substr(payload, 1, 3) || 'X' || substr(payload, 5) AS BLOB)",
        "payload = NULL",
        "salt = zeroblob(16)",
        "payload_digest = zeroblob(32)",
        "hash = zeroblob(32)",
        "epoch = 2",
        "type = 'prompt.cancelled'",
        "schema_version = 0",
        "recorded_at = recorded_at + 1",
        "principal = 'mallory'",
        "correlation_id = 'p2'",
        "causation_seq = 1",
        "recorded_at = 'yesterday'",
        "type = CAST(type AS BLOB)",
        "type = CAST(x'ff' AS TEXT)",
        "principal = CAST(x'616cff' AS TEXT)",
        "payload = CAST(payload AS TEXT)",
        "epoch = 'one'",
    ],
)
def test_a_corrupt_row_is_named_and_other_sessions_still_load(store: Store, change: str) -> None:
    store.change(f"UPDATE events SET {change} WHERE stream = 1 AND seq = 2")
    with pytest.raises(CorruptLogError) as caught:
        state_at(store.log, store.head("a"))
    assert (caught.value.stream_id, caught.value.seq) == (stream_of("a"), 2)
    assert state_at(store.log, store.head("b")).version == 3


@pytest.mark.parametrize(
    ("change", "seq"),
    [
        ("DELETE FROM events WHERE stream = 1 AND seq = 1", 1),
        ("DELETE FROM events WHERE stream = 1 AND seq = 2", 2),
        ("DELETE FROM events WHERE stream = 1 AND seq = 3", 3),
        ("DELETE FROM events WHERE stream = 1", 1),
        ("UPDATE events SET seq = -seq WHERE stream = 1 AND seq > 1", 2),
        ("UPDATE streams SET version = 2 WHERE id = 1", 3),
        ("UPDATE streams SET hash = zeroblob(32) WHERE id = 1", 4),
    ],
)
def test_a_session_whose_head_and_events_disagree_does_not_load(
    store: Store, change: str, seq: int
) -> None:
    store.change(change)
    with pytest.raises(CorruptLogError) as caught:
        state_at(store.log, store.head("a"))
    assert (caught.value.stream_id, caught.value.seq) == (stream_of("a"), seq)
    assert state_at(store.log, store.head("b")).version == 3


def _with_snapshot(store: Store) -> None:
    """Give session a a snapshot at seq 3 and one event after it."""
    state = state_at(store.log, store.head("a"))
    head = store.append(store.head("a"), snapshot=Snapshot(3, STATE_VERSION, encode_state(state)))
    store.append(head, _new(PromptQueued("p2", "again", "http", 4)))


def test_a_session_loads_from_a_snapshot_and_the_events_after_it(store: Store) -> None:
    _with_snapshot(store)
    folded = SessionState("a")
    for event in (*SESSION, PromptQueued("p2", "again", "http", 4)):
        folded = evolve(folded, event)
    store.change("UPDATE events SET hash = zeroblob(32) WHERE stream = 1 AND seq < 3")
    assert state_at(store.log, store.head("a")) == folded


@pytest.mark.parametrize(("changed_seq", "named_seq"), [(3, 4), (4, 4)])
def test_damage_at_or_after_a_snapshot_is_named(
    store: Store, changed_seq: int, named_seq: int
) -> None:
    _with_snapshot(store)
    change = "UPDATE events SET hash = zeroblob(32) WHERE stream = 1 AND seq ="
    store.change(f"{change} {changed_seq}")
    with pytest.raises(CorruptLogError) as caught:
        state_at(store.log, store.head("a"))
    assert caught.value.seq == named_seq


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE streams SET version = version + 1 WHERE id = 1",
        "UPDATE streams SET version = version - 1 WHERE id = 1",
        "UPDATE streams SET version = 0 WHERE id = 1",
        "UPDATE streams SET hash = zeroblob(32) WHERE id = 1",
        "DELETE FROM events WHERE stream = 1 AND seq = 3",
        "UPDATE events SET hash = zeroblob(32) WHERE stream = 1 AND seq = 3",
    ],
)
def test_a_log_whose_heads_and_events_disagree_does_not_reopen(store: Store, change: str) -> None:
    store.log.reopen()
    store.change(change)
    with pytest.raises(CorruptLogError) as caught:
        store.log.reopen()
    assert caught.value.stream_id == stream_of("a")


# A full disk


def test_a_full_disk_stops_appends_but_not_reads_until_there_is_room_again(store: Store) -> None:
    with store.raw() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
    room = [pages + 10]

    @sa.event.listens_for(store.writer, "connect")
    def _limited(connection: sqlite3.Connection, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {room[0]}")

    store.log.reopen()
    writer = GroupCommit(store.log)
    writer.start()
    head, other = store.head("a"), store.head("b")
    large = (NewEvent("text.delta", 1, bytes(1_000_000)),)
    for _ in range(2):  # the second time after reopening
        with pytest.raises(StoreUnavailableError, match="full"):
            writer.submit(Append(head, large, SUMMARY)).result()
        assert store.head("a") == head
        assert state_at(store.log, store.head("a")).version == 3
        assert len(store.log.entries()) == 2
    small = (NewEvent("text.delta", 1, b"{}"),)
    other = writer.submit(Append(other, small, SUMMARY)).result()
    assert store.head("b") == other
    with pytest.raises(StoreUnavailableError, match="full"):
        writer.submit(Append(head, large, SUMMARY)).result()
    room[0] = pages + 10_000
    head = writer.submit(Append(head, large, SUMMARY)).result()
    writer.close()
    assert head.version == 4
    assert chain.verify(head.stream_id, store.log.read(head)) == (4, head.hash)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("nonsense", "can't be parsed"),
        ("mysql://host/database", "'mysql' is no database for an event log"),
        ("sqlite://", "An SQLite database needs a file"),
        ("sqlite:///:memory:", "An SQLite database needs a file"),
    ],
)
def test_a_url_of_no_database_for_a_log_is_refused(url: str, reason: str) -> None:
    with pytest.raises(DatabaseUrlError, match=reason):
        parse_url(url)
