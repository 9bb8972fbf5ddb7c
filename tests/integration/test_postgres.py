"""What only a real PostgreSQL shows: triggers, locks, damage, cut connections, other owners."""

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from actors.replay import CODEC, state_at, stream_of
from actors.session.codec import encode_state
from actors.session.events import PromptQueued, RunStarted, SessionCreated
from actors.session.evolve import evolve
from actors.session.state import STATE_VERSION, SessionState
from persistence import chain
from persistence.engine import read_engine, side_engine, write_engine
from persistence.errors import (
    CorruptLogError,
    LeaseLostError,
    OwnedElsewhereError,
    PersistenceError,
    StoreUnavailableError,
)
from persistence.event_log import RETRIES_MAX, SqlEventLog, now_us
from persistence.group_commit import GroupCommit
from persistence.migration import migrate
from persistence.native import Caller, call_here
from persistence.postgres import LEASE_S
from persistence.records import (
    SHARED,
    Append,
    Claim,
    EpisodeRow,
    Erasure,
    Head,
    NewEvent,
    Release,
    Snapshot,
    Summary,
    Write,
)
from persistence.schema import events
from tests.postgres.proxy import CommitProxy, Cut
from tests.postgres.server import PostgresServer, connected, stoppable_server

T = TypeVar("T")

DEADLINE_S = 60.0
SUMMARY = Summary(listed=True, active=False, body=b"{}")
DELTA = (NewEvent("text.delta", 1, b"{}"),)

SESSION = (
    SessionCreated("id", 1),
    PromptQueued("p1", "hello", "http", 2),
    RunStarted("p1", 3),
)

OTHER_VALUES = {
    "position": "99",
    "xid": "'99'",
    "stream": "2",
    "seq": "99",
    "epoch": "epoch + 1",
    "type": "'forged'",
    "schema_version": "9",
    "recorded_at": "recorded_at - 1",
    "principal": "'mallory'",
    "correlation_id": "NULL",
    "causation_seq": "1",
    "payload": "'{}'",
    "salt": r"decode(repeat('00', 16), 'hex')",
    "payload_digest": r"decode(repeat('00', 32), 'hex')",
    "hash": r"decode(repeat('00', 32), 'hex')",
}
ERASED_COLUMNS = ("payload", "salt", "payload_digest")
WRITTEN = [name for name in OTHER_VALUES if name not in ERASED_COLUMNS]
ERASING = "payload = NULL, salt = NULL, payload_digest = "
DIGEST = "sha256(salt || payload)"
ZEROS = OTHER_VALUES["hash"]


class Store:
    """A log of two sessions, and its database for those who go behind its back."""

    def __init__(self, url: sa.URL, commit_in: Caller = call_here) -> None:
        self.url = url
        self._opened = contextlib.ExitStack()
        self.log = self.open(commit_in)
        for key in ("a", "b"):
            self.append(self.claim(key), *(_new(event) for event in SESSION))

    def open(
        self,
        commit_in: Caller = call_here,
        clock_us: Callable[[], int] = now_us,
        url: sa.URL | None = None,
    ) -> SqlEventLog:
        """Open another log of the same database, as another process does."""
        url = url or self.url
        log = SqlEventLog(
            write_engine(url), read_engine(url), commit_in=commit_in, clock_us=clock_us
        )
        self._opened.callback(log.close)
        return log

    def claim(self, key: str, owner: str = "me") -> Head:
        return _head(self.log.write([Claim(stream_of(key), owner)])[0])

    def append(self, head: Head, *new: NewEvent, snapshot: Snapshot | None = None) -> Head:
        return _head(self.log.write([Append(head, new, SUMMARY, snapshot)])[0])

    def head(self, key: str) -> Head:
        head = self.log.head(stream_of(key))
        assert head is not None
        return head

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Carry out a statement as another program would."""
        with connected(self.url) as connection:
            found = connection.execute(statement)  # type: ignore[arg-type]  # made of constants
            return found.fetchall() if found.description else []

    def change(self, statement: str) -> None:
        """Change rows as an intruder would, without the triggers."""
        with connected(self.url) as connection:
            connection.execute("SET session_replication_role = replica")
            assert connection.execute(statement).rowcount > 0  # type: ignore[arg-type]  # a constant

    def live(self, *workers: str, age_s: float = 0) -> None:
        """Have workers that were heard of so long ago, by the database's clock."""
        now = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
        for name in workers:
            self.run(
                "INSERT INTO workers (name, started_at, renewed_at)"
                f" VALUES ('{name}', 0, {now} - {int(age_s * 1_000_000)})"
            )

    def writing_backend(self) -> int:
        """Return the process of the log's writing connection, which it has kept open."""
        ((pid,),) = self.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND application_name = 'sessiond' AND query ILIKE 'COMMIT%'"
        )
        return int(pid)

    def wait_for_waiting(self, count: int = 1) -> None:
        """Wait until so many connections to the database wait for a lock."""
        query = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        wait_until(lambda: self.run(query) == [(count,)])

    def rows(self) -> list[tuple[Any, ...]]:
        return self.run("SELECT * FROM events ORDER BY position")

    def close(self) -> None:
        self._opened.close()


def _new(event: SessionCreated | PromptQueued | RunStarted) -> NewEvent:
    payload = CODEC.encode(event)
    return NewEvent(event.wire_name, event.schema_version, payload, "alice", "p1", None)


def _head(outcome: Head | PersistenceError) -> Head:
    assert isinstance(outcome, Head), outcome
    return outcome


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def store(postgres_url: sa.URL) -> Iterator[Store]:
    store = Store(postgres_url)
    yield store
    store.close()


@pytest.fixture
def own_store(postgres: PostgresServer) -> Iterator[Store]:
    """One whose database nobody uses afterwards."""
    url = postgres.new_database(migrated=True)
    store = Store(url)
    yield store
    store.close()
    assert url.database is not None
    postgres.drop(url.database)


@contextlib.contextmanager
def started(log: SqlEventLog) -> Iterator[GroupCommit]:
    writer = GroupCommit(log)
    writer.start()
    yield writer
    writer.close()


# Append-only


def _refused(store: Store, statement: str) -> None:
    before = store.rows()
    with pytest.raises(psycopg.IntegrityError, match="append-only"):
        store.run(statement)
    assert store.rows() == before


def test_every_column_is_tried(store: Store) -> None:
    found = store.run(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'events'"
    )
    assert {name for (name,) in found} == set(OTHER_VALUES)
    assert {column.name for column in events.c} == set(OTHER_VALUES) - {"xid"}


def test_no_column_of_an_event_can_be_updated(store: Store) -> None:
    for column, value in OTHER_VALUES.items():
        _refused(store, f"UPDATE events SET {column} = {value} WHERE seq = 2")


def test_erasing_a_payload_can_change_nothing_else(store: Store) -> None:
    for column in WRITTEN:
        change = f"{ERASING} {DIGEST}, {column} = {OTHER_VALUES[column]}"
        _refused(store, f"UPDATE events SET {change} WHERE seq = 2")


@pytest.mark.parametrize("column", ["payload", "salt"])
def test_payload_and_salt_can_only_be_erased_together(store: Store, column: str) -> None:
    _refused(store, f"UPDATE events SET {column} = NULL, payload_digest = {DIGEST} WHERE seq = 2")


def test_a_payload_is_erased_only_for_its_own_digest(store: Store) -> None:
    for digest in ("''", ZEROS, "sha256(payload)", "payload_digest"):
        _refused(store, f"UPDATE events SET {ERASING} {digest} WHERE seq = 2")
    store.run(f"UPDATE events SET {ERASING} {DIGEST} WHERE seq = 2")
    for key in ("a", "b"):
        head = store.head(key)
        assert chain.verify(head.stream_id, store.log.read(head)) == (head.version, head.hash)


def test_an_erased_payload_stays_erased_and_the_chain_verifies(store: Store) -> None:
    head = store.head("a")
    erasure = Erasure(head.row, 2, 2)
    assert store.log.write([Append(head, (), SUMMARY, erasures=(erasure,))]) == [head]
    for change in (
        "payload = '{}'",
        f"payload = '{{}}', salt = {ZEROS}",
        "payload_digest = ''",
        f"payload_digest = {ZEROS}",
    ):
        _refused(store, f"UPDATE events SET {change} WHERE seq = 2 AND payload IS NULL")
    stored = list(store.log.read(head))
    assert (stored[1].payload, stored[1].salt) == (None, None)
    assert stored[2].payload is not None
    assert chain.verify(head.stream_id, stored) == (head.version, head.hash)


@pytest.mark.parametrize("table", ["events", "streams"])
def test_nothing_can_be_deleted(store: Store, table: str) -> None:
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        _refused(store, statement)


def test_no_event_can_be_replaced(store: Store) -> None:
    copied = ", ".join(
        column.name for column in events.c if column.name not in ("position", "stream", "seq")
    )
    for place, name in (("99, stream, seq", "stream, seq"), ("position, stream, 99", "position")):
        columns = f"position, stream, seq, {copied}"
        insertion = f"INSERT INTO events ({columns}) SELECT {place}, {copied} FROM events WHERE"
        with pytest.raises(psycopg.errors.UniqueViolation):
            store.run(f"{insertion} seq = 2")
        _refused(
            store,
            f"{insertion} seq = 2 ON CONFLICT ({name}) DO UPDATE SET principal = 'mallory'",
        )


# Connections


@pytest.mark.parametrize(
    ("engine_for", "setting"),
    [(write_engine, "on"), (read_engine, "on"), (side_engine, "off")],
)
def test_a_writing_connection_survives_power_loss_by_its_setting(
    store: Store, engine_for: Callable[[sa.URL], sa.Engine], setting: str
) -> None:
    database = store.url.database
    store.run(f'ALTER DATABASE "{database}" SET synchronous_commit = local')
    engine = engine_for(store.url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == setting
    engine.dispose()
    store.run(f'ALTER DATABASE "{database}" RESET synchronous_commit')


def test_reads_go_on_while_a_write_is_open(store: Store) -> None:
    with connected(store.url) as other, other.transaction(force_rollback=True):
        other.execute("UPDATE streams SET version = 99")
        assert store.head("a").version == 3
        assert state_at(store.log, store.head("a")).version == 3
    assert store.head("a").version == 3


def test_a_head_that_somebody_else_moves_meanwhile_is_a_conflict_after_the_wait(
    store: Store,
) -> None:
    a, b = store.head("a"), store.head("b")
    with ThreadPoolExecutor() as pool, connected(store.url) as other:
        with other.transaction():
            other.execute("UPDATE streams SET epoch = 9 WHERE id = %s", (a.row,))
            writing = pool.submit(
                store.log.write, [Append(a, DELTA, SUMMARY), Append(b, DELTA, SUMMARY)]
            )
            store.wait_for_waiting()
        refused, written = writing.result(DEADLINE_S)
    assert type(refused) is LeaseLostError
    assert store.head("b") == written
    assert store.head("a") == replace(a, epoch=9)


# Damage


def test_a_session_is_loaded_from_its_events(store: Store) -> None:
    state = state_at(store.log, store.head("a"))
    assert state.version == 3
    assert state.run is not None
    assert state.run.prompt_id == "p1"


@pytest.mark.parametrize(
    "change",
    [
        "payload = overlay(payload placing 'X' from 4)",
        "payload = NULL",
        f"salt = {OTHER_VALUES['salt']}",
        f"payload_digest = {ZEROS}",
        f"hash = {ZEROS}",
        "epoch = 2",
        "epoch = -1",
        "type = 'prompt.cancelled'",
        "schema_version = 0",
        "recorded_at = recorded_at + 1",
        "principal = 'mallory'",
        "principal = NULL",
        "correlation_id = 'p2'",
        "causation_seq = 1",
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
        ("DELETE FROM events WHERE stream = 1 AND seq = 3", 3),
        ("DELETE FROM events WHERE stream = 1", 1),
        ("UPDATE events SET seq = -seq WHERE stream = 1 AND seq > 1", 2),
        ("UPDATE streams SET version = 2 WHERE id = 1", 3),
        (f"UPDATE streams SET hash = {ZEROS} WHERE id = 1", 4),
    ],
)
def test_a_session_whose_head_and_events_disagree_neither_loads_nor_reopens(
    store: Store, change: str, seq: int
) -> None:
    store.log.reopen()
    store.change(change)
    with pytest.raises(CorruptLogError) as caught:
        state_at(store.log, store.head("a"))
    assert (caught.value.stream_id, caught.value.seq) == (stream_of("a"), seq)
    assert state_at(store.log, store.head("b")).version == 3
    if "seq = 1" not in change:  # of a stream's events the last is looked at
        with pytest.raises(CorruptLogError, match=stream_of("a")):
            store.log.reopen()


@pytest.mark.parametrize(("changed_seq", "named_seq"), [(3, 4), (4, 4)])
def test_damage_at_or_after_a_snapshot_is_named(
    store: Store, changed_seq: int, named_seq: int
) -> None:
    state = state_at(store.log, store.head("a"))
    head = store.append(store.head("a"), snapshot=Snapshot(3, STATE_VERSION, encode_state(state)))
    queued = PromptQueued("p2", "again", "http", 4)
    store.append(head, _new(queued))
    store.change(f"UPDATE events SET hash = {ZEROS} WHERE stream = 1 AND seq < 3")
    folded = SessionState("a")
    for event in (*SESSION, queued):
        folded = evolve(folded, event)
    assert state_at(store.log, store.head("a")) == folded
    store.change(f"UPDATE events SET hash = {ZEROS} WHERE stream = 1 AND seq = {changed_seq}")
    with pytest.raises(CorruptLogError) as caught:
        state_at(store.log, store.head("a"))
    assert caught.value.seq == named_seq


# Connections that are cut


def _there_once(store: Store, head: Head, payload: bytes) -> bool:
    """Tell whether an append that nobody acknowledged is there; never twice, or in parts."""
    found = store.head("a")
    stored = list(store.log.read(found, after=head.version))
    assert [event.payload for event in stored] in ([], [payload] * 5)
    assert chain.verify(found.stream_id, store.log.read(found)) == (found.version, found.hash)
    return bool(stored)


def _append(payload: bytes, head: Head) -> Append:
    return Append(head, (NewEvent("text.delta", 1, payload),) * 5, SUMMARY)


def test_a_connection_that_was_cut_between_writes_costs_one_write(store: Store) -> None:
    with started(store.log) as writer:
        head = writer.submit(_append(b"first", store.head("a"))).result()
        store.run(f"SELECT pg_terminate_backend({store.writing_backend()}, 10000)")
        with pytest.raises(StoreUnavailableError):
            writer.submit(_append(b"lost", head)).result()
        assert not _there_once(store, head, b"lost")
        head = writer.submit(_append(b"next", head)).result()
        assert store.head("a") == head


def test_a_connection_that_is_cut_before_the_commit_leaves_nothing(store: Store) -> None:
    def cut_first(commit: Callable[[], T]) -> T:
        ((pid,),) = store.run(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND state = 'idle in transaction'"
        )
        store.run(f"SELECT pg_terminate_backend({pid}, 10000)")
        return commit()

    head = store.head("a")
    log = store.open(cut_first)
    with pytest.raises(StoreUnavailableError):
        log.write([_append(b"lost", head)])
    assert not _there_once(store, head, b"lost")


@pytest.fixture
def proxy(postgres: PostgresServer) -> Iterator[CommitProxy]:
    assert postgres.url.host is not None
    assert postgres.url.port is not None
    proxy = CommitProxy(postgres.url.host, postgres.url.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize(("cut", "is_there"), [("before", False), ("after", True)])
def test_a_commit_without_an_answer_is_not_acknowledged_and_there_once_or_not_at_all(
    store: Store, proxy: CommitProxy, cut: Cut, is_there: bool
) -> None:
    log = store.open(url=store.url.set(host="127.0.0.1", port=proxy.port))
    with started(log) as writer:
        head = writer.submit(_append(b"first", store.head("a"))).result()
        proxy.cut = cut
        with pytest.raises(StoreUnavailableError):
            writer.submit(_append(b"lost?", head)).result()
        assert proxy.cuts == 1
        proxy.cut = "nowhere"
        wait_until(lambda: not _in_transaction(store))
        assert _there_once(store, head, b"lost?") == is_there
        head = writer.submit(_append(b"next", store.head("a"))).result()
        assert store.head("a") == head


def _in_transaction(store: Store) -> bool:
    query = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'idle in transaction'"
    )
    return bool(store.run(query))


def test_a_server_that_was_away_is_found_again_with_all_that_it_acknowledged() -> None:
    with stoppable_server() as server:
        engine = write_engine(server.url)
        migrate(engine)
        engine.dispose()
        store = Store(server.url)
        with started(store.log) as writer:
            head = writer.submit(_append(b"first", store.head("a"))).result()
            server.stop()
            for _ in range(3):
                with pytest.raises(StoreUnavailableError):
                    writer.submit(_append(b"lost", head)).result()
            with pytest.raises(StoreUnavailableError):
                store.head("a")
            server.start()
            head = _until_written(writer, _append(b"next", head))
            assert store.head("a") == head
        stored = [event.payload for event in store.log.read(head, after=3)]
        assert stored == [b"first"] * 5 + [b"next"] * 5
        assert state_at(store.log, store.head("b")).version == 3
        store.close()


def _until_written(writer: GroupCommit, write: Write) -> Head:
    """Write it as soon as the writer takes it; it waits longer and longer before it tries."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return writer.submit(write).result()
        except StoreUnavailableError:
            assert time.monotonic() < deadline
            time.sleep(0.005)


# Transactions that the database undoes


def _undo(store: Store, code: str, times: int) -> None:
    """Have the database undo the next transactions that insert an event."""
    store.run("CREATE SEQUENCE undone; SELECT setval('undone', 1, false)")
    store.run(
        f"""CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF nextval('undone') <= {times} THEN RAISE EXCEPTION 'undone' USING ERRCODE = '{code}';
        END IF; RETURN NEW; END $$"""
    )
    store.run("CREATE TRIGGER undo BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION undo()")


@pytest.fixture
def undoing(store: Store) -> Iterator[Store]:
    yield store
    store.run("DROP TRIGGER undo ON events; DROP FUNCTION undo; DROP SEQUENCE undone")


@pytest.mark.parametrize("code", ["40001", "40P01"])
@pytest.mark.parametrize("count", [1, 5])  # a statement for each event, and COPY
def test_what_the_database_undoes_is_written_again(undoing: Store, code: str, count: int) -> None:
    head = undoing.head("a")
    _undo(undoing, code, RETRIES_MAX - 1)
    moved = undoing.append(head, *DELTA * count)
    assert undoing.head("a") == moved
    assert moved.version == head.version + count
    assert chain.verify(head.stream_id, undoing.log.read(moved)) == (moved.version, moved.hash)


def test_what_the_database_undoes_again_and_again_is_given_up(undoing: Store) -> None:
    head = undoing.head("a")
    _undo(undoing, "40001", RETRIES_MAX)
    with started(undoing.log) as writer:
        with pytest.raises(StoreUnavailableError, match="again and again"):
            writer.submit(Append(head, DELTA, SUMMARY)).result()
        assert undoing.head("a") == head
        assert writer.submit(Append(head, DELTA, SUMMARY)).result() == undoing.head("a")


def test_another_failure_is_not_tried_again(undoing: Store) -> None:
    _undo(undoing, "23514", 1)
    with pytest.raises(StoreUnavailableError, match="undone"):
        undoing.log.write([Append(undoing.head("a"), DELTA, SUMMARY)])
    assert undoing.run("SELECT last_value FROM undone") == [(1,)]


def test_a_deadlock_costs_nobody_a_write(own_store: Store) -> None:
    """The log holds stream a and wants b, somebody else the other way round."""
    a, b = own_store.head("a"), own_store.head("b")
    tries = itertools.count(1)
    log = own_store.open(clock_us=tries.__next__)
    own_store.run(
        """CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$"""
    )
    own_store.run("CREATE TRIGGER pause BEFORE INSERT ON episodes EXECUTE FUNCTION pause()")
    own_store.run(f"ALTER DATABASE \"{own_store.url.database}\" SET deadlock_timeout = '10ms'")
    with (
        ThreadPoolExecutor() as pool,
        connected(own_store.url) as gate,
        connected(own_store.url) as other,
    ):
        other.execute("SET deadlock_timeout = '1min'")
        gate.execute("SELECT pg_advisory_lock(1)")
        said = (EpisodeRow(1, "web:main", "id", "user", "text", 1),)
        writing = pool.submit(
            log.write, [Append(a, DELTA, SUMMARY, None, said), Append(b, DELTA, SUMMARY)]
        )
        own_store.wait_for_waiting(1)
        other.execute("BEGIN")
        other.execute("UPDATE streams SET listed = true WHERE id = %s", (b.row,))
        pending = pool.submit(_finish, other, a)
        own_store.wait_for_waiting(2)
        gate.execute("SELECT pg_advisory_unlock(1)")
        pending.result(DEADLINE_S)
        heads = [_head(outcome) for outcome in writing.result(DEADLINE_S)]
    assert next(tries) > 2
    assert heads == [own_store.head("a"), own_store.head("b")]
    assert [head.version for head in heads] == [4, 4]


def _finish(connection: psycopg.Connection, head: Head) -> None:
    connection.execute("UPDATE streams SET listed = true WHERE id = %s", (head.row,))
    connection.execute("COMMIT")


# Who owns a stream


def _held_up(reached: threading.Event, go_on: threading.Event) -> Caller:
    """A commit that waits for somebody, once all that it commits is written."""

    def commit_in(commit: Callable[[], T]) -> T:
        reached.set()
        assert go_on.wait(DEADLINE_S)
        return commit()

    return commit_in


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.parametrize("stream_id", ["new", stream_of("a")])
def test_of_two_claims_at_once_one_is_first(store: Store, stream_id: str, alive: bool) -> None:
    """The second owns the stream after it only if the first owner is not alive."""
    if alive:
        store.live("first", "second")
    before = store.log.head(stream_id)
    epoch = before.epoch if before else 0
    written, go_on = threading.Event(), threading.Event()
    one, other = store.open(_held_up(written, go_on)), store.open()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(one.write, [Claim(stream_id, "first")])
        assert written.wait(DEADLINE_S)
        second = pool.submit(other.write, [Claim(stream_id, "second")])
        store.wait_for_waiting()
        go_on.set()
        head = _head(first.result(DEADLINE_S)[0])
        (outcome,) = second.result(DEADLINE_S)
    assert head.epoch == epoch + 1
    if alive:
        assert isinstance(outcome, OwnedElsewhereError)
        assert outcome.owner == "first"
        assert store.log.owner(stream_id) == "first"
        one.write([Append(head, DELTA, SUMMARY)])
    else:
        assert _head(outcome).epoch == head.epoch + 1
        (late,) = one.write([Append(head, DELTA, SUMMARY)])
        assert type(late) is LeaseLostError


def test_a_worker_is_alive_while_the_databases_clock_says_so(store: Store) -> None:
    store.live("fresh", age_s=LEASE_S - 5)
    store.live("old", age_s=LEASE_S + 0.001)
    store.live("ahead", age_s=-3600)
    for owner, is_alive in (("fresh", True), ("ahead", True), ("old", False), ("gone", False)):
        store.run("UPDATE streams SET owner = NULL")
        head = store.claim("a", owner)
        assert store.log.owner(head.stream_id) == (owner if is_alive else None)
        (outcome,) = store.log.write([Claim(head.stream_id, "another")])
        assert isinstance(outcome, OwnedElsewhereError) == is_alive, owner
        if not is_alive:
            assert _head(outcome).epoch == head.epoch + 1


def test_a_claim_that_is_refused_disturbs_no_other_write_of_its_batch(store: Store) -> None:
    store.live("elsewhere")
    a = store.claim("a", "elsewhere")
    b = store.head("b")
    outcomes = store.log.write(
        [Claim(a.stream_id, "me"), Append(b, DELTA, SUMMARY), Claim("new", "me")]
    )
    assert isinstance(outcomes[0], OwnedElsewhereError)
    assert outcomes[1:] == [store.head("b"), store.log.head("new")]
    assert store.head("a") == a


def test_the_streams_of_a_worker_are_anybodys_once_its_row_is_gone(store: Store) -> None:
    store.live("elsewhere")
    active = replace(SUMMARY, active=True)
    heads = [store.claim(key, "elsewhere") for key in ("a", "b")]
    store.log.write([Append(head, DELTA, active) for head in heads])
    assert store.log.abandoned("me") == []
    assert store.log.abandoned("elsewhere") == [head.stream_id for head in heads]
    store.run("DELETE FROM workers")
    assert store.log.abandoned("me") == [head.stream_id for head in heads]
    assert store.log.disowned("elsewhere", [head.row for head in heads]) == []
    store.claim("a", "me")
    assert store.log.disowned("elsewhere", [head.row for head in heads]) == [heads[0].row]


def test_a_shared_stream_is_everybodys(store: Store) -> None:
    store.live("one", "two")
    first = _head(store.log.write([Claim("gateway", SHARED)])[0])
    second = _head(store.open().write([Claim("gateway", SHARED)])[0])
    assert first == second
    assert store.log.owner("gateway") is None


def test_a_stale_owner_cannot_release_what_another_took(store: Store) -> None:
    old = store.claim("a", "gone")
    store.live("me")
    store.claim("a", "me")
    (outcome,) = store.log.write([Release(old)])
    assert type(outcome) is LeaseLostError
    assert store.log.owner(old.stream_id) == "me"
