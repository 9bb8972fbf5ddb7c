"""The schema in PostgreSQL: never changed unasked, changed wholly or not at all, by one at once."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from persistence.engine import read_engine, write_engine
from persistence.errors import SchemaMismatchError, StoreUnavailableError
from persistence.event_log import SqlEventLog
from persistence.migration import MIGRATE_COMMAND, ensure_schema, migrate
from persistence.records import Cursor
from persistence.schema import metadata
from tests.migrations.upgrades import erase_all, fill, kept, upgrade_to, without_payloads
from tests.postgres.server import PostgresServer, connected

NEWEST = "0004"
DEADLINE_S = 60.0
COMMAND = Path(sys.executable).with_name("sessiond")

INDEX_TABLES = {"memory_index", "episode_index"}
OWN = INDEX_TABLES | {"xid", "ix_events_tail"}
"""What only PostgreSQL has: schema.py doesn't declare it."""

TRIGGERS = {
    "events_no_delete",
    "events_no_truncate",
    "events_no_update",
    "streams_no_delete",
    "streams_no_truncate",
}

RELATIONS = """
    SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
    UNION SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"""

COLUMNS = """
    SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default
    FROM information_schema.columns WHERE table_schema = 'public'"""
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace"""
INDEXES = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"


@pytest.fixture
def url(postgres: PostgresServer) -> Iterator[sa.URL]:
    """An empty database."""
    url = postgres.new_database()
    yield url
    assert url.database is not None
    postgres.drop(url.database)


@pytest.fixture
def engine(url: sa.URL) -> Iterator[sa.Engine]:
    engine = write_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def migrated(postgres_url: sa.URL) -> Iterator[sa.Engine]:
    engine = write_engine(postgres_url)
    yield engine
    engine.dispose()


def run(url: sa.URL, statement: str) -> list[tuple[Any, ...]]:
    with connected(url) as connection:
        found = connection.execute(statement)  # type: ignore[arg-type]  # made of constants
        return found.fetchall() if found.description else []


def names(url: sa.URL) -> set[str]:
    return {name for (name,) in run(url, RELATIONS)}


def start_migrating(url: sa.URL) -> subprocess.Popen[str]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return subprocess.Popen(
        [COMMAND, "migrate", "--database-url", plain],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", "")},
        text=True,
    )


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def sessions(url: sa.URL, waiting_for: str = "%") -> int:
    """Count the connections to the database, apart from the one that asks."""
    ((count,),) = run(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
        f" AND coalesce(wait_event, '') LIKE '{waiting_for}'",
    )
    return int(count)


# When it is migrated


def test_it_is_never_migrated_unasked(engine: sa.Engine, url: sa.URL) -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        ensure_schema(engine)
    assert "not there yet" in str(caught.value)
    assert NEWEST in str(caught.value)
    assert f"Run: {MIGRATE_COMMAND}" in str(caught.value)
    assert names(url) == set()


def test_an_old_schema_is_refused_and_left_alone(engine: sa.Engine, url: sa.URL) -> None:
    upgrade_to(engine, "0002")
    before = names(url)
    with pytest.raises(SchemaMismatchError, match=f"schema is 0002; this program needs {NEWEST}"):
        ensure_schema(engine)
    assert names(url) == before


def test_it_is_used_once_the_command_has_migrated_it(engine: sa.Engine, url: sa.URL) -> None:
    process = start_migrating(url)
    assert process.communicate(timeout=DEADLINE_S) == (f"The schema is at {NEWEST}.\n", "")
    ensure_schema(engine)
    before = fill(url)
    assert migrate(engine) == NEWEST  # there is nothing left to do
    assert kept(url) == before


@pytest.mark.parametrize("use", [ensure_schema, migrate])
def test_a_newer_schema_is_refused_and_left_alone(
    migrated: sa.Engine, postgres_url: sa.URL, use: Callable[[sa.Engine], object]
) -> None:
    run(postgres_url, "UPDATE alembic_version SET version_num = '9999'")
    try:
        with pytest.raises(SchemaMismatchError, match=f"9999 is newer .* knows up to {NEWEST}"):
            use(migrated)
        assert run(postgres_url, "SELECT version_num FROM alembic_version") == [("9999",)]
    finally:
        run(postgres_url, f"UPDATE alembic_version SET version_num = '{NEWEST}'")


# What it becomes


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")  # SQLAlchemy has none such
def test_it_has_no_difference_that_alembic_sees(migrated: sa.Engine) -> None:
    options: dict[str, Any] = {
        "compare_type": True,
        "compare_server_default": True,
        "include_name": lambda name, _kind, _parents: name not in OWN,
    }
    with migrated.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("query", [COLUMNS, CONSTRAINTS, INDEXES])
def test_it_is_the_declared_one_in_postgresqls_own_words(
    postgres_url: sa.URL, engine: sa.Engine, query: str
) -> None:
    """Alembic looks past an index's WHERE, constraint names and primary keys."""
    metadata.create_all(engine)
    migrated = {row for row in run(postgres_url, query) if not _is_own(row)}
    assert migrated == set(run(engine.url, query))
    assert migrated


def _is_own(row: tuple[Any, ...]) -> bool:
    """Tell what only PostgreSQL has, and Alembic's own, by its table or by its name."""
    table, name = row[:2]
    return table in (*INDEX_TABLES, "alembic_version") or name in OWN or "_xid_" in name


def test_events_have_their_transaction_and_are_read_on_by_it(postgres_url: sa.URL) -> None:
    assert [row[3:] for row in run(postgres_url, COLUMNS) if row[:2] == ("events", "xid")] == [
        ("xid8", "NO", "pg_current_xact_id()")
    ]
    definitions = {name: text for _, name, text in run(postgres_url, INDEXES)}
    assert definitions["ix_events_tail"].endswith('ON public.events USING btree (xid, "position")')


def test_texts_are_indexed_by_their_pieces(postgres_url: sa.URL) -> None:
    definitions = {name: text for _, name, text in run(postgres_url, INDEXES)}
    for table in INDEX_TABLES:
        columns = [row[1:5] for row in run(postgres_url, COLUMNS) if row[0] == table]
        assert sorted(columns) == [
            ("pieces", 3, "ARRAY", "NO"),
            ("row", 1, "bigint", "NO"),
            ("text", 2, "text", "NO"),
        ]
        assert definitions[f"ix_{table}_pieces"].endswith("USING gin (pieces)")
        assert definitions[f"pk_{table}"].endswith('USING btree ("row")')


def test_the_triggers_are_there_and_on(postgres_url: sa.URL) -> None:
    found = run(postgres_url, "SELECT tgname, tgenabled FROM pg_trigger WHERE NOT tgisinternal")
    assert set(found) == {(name, "O") for name in TRIGGERS}


@pytest.mark.parametrize("revision", ["0002", "0003"])
def test_a_log_of_a_schema_before_keeps_all_and_is_read_on_in_its_order(
    engine: sa.Engine, url: sa.URL, revision: str
) -> None:
    upgrade_to(engine, revision)
    before = fill(url)
    order = run(url, "SELECT payload FROM events ORDER BY position")
    assert migrate(engine) == NEWEST
    ensure_schema(engine)
    assert kept(url) == before
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        tailed = log.tail(Cursor(0, 0))
    assert [(each.event.payload,) for each in tailed] == order
    assert erase_all(url).events == without_payloads(before.events)
    for change in ("DELETE FROM events", "UPDATE events SET payload_digest = sha256('')"):
        with pytest.raises(psycopg.IntegrityError, match="append-only"):
            run(url, change)


# Half a migration


@pytest.mark.parametrize("obstacle", ["events", "episode_index", "nodes"])
def test_a_migration_that_fails_leaves_nothing(
    engine: sa.Engine, url: sa.URL, obstacle: str
) -> None:
    run(url, f"CREATE TABLE {obstacle} (id integer)")
    with pytest.raises(StoreUnavailableError, match=f'"{obstacle}" already exists'):
        migrate(engine)
    assert names(url) == {obstacle}


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.faults)])
def test_a_connection_that_is_cut_between_two_statements_leaves_nothing(
    url: sa.URL, step: int
) -> None:
    """And one that isn't cut leaves the whole schema: it was tried up to the last."""
    number = 1
    while not _migrates(url, cut_before=number):
        assert names(url) == set()
        number += step
    assert number > len(metadata.tables) + len(TRIGGERS)
    assert run(url, "SELECT version_num FROM alembic_version") == [(NEWEST,)]


def _migrates(url: sa.URL, *, cut_before: int) -> bool:
    """Migrate, and cut the connection before the statement of that number, if there is one."""
    engine, seen = write_engine(url), [0]

    @sa.event.listens_for(engine, "before_cursor_execute")
    def _counted(connection: sa.Connection, *_: object) -> None:
        seen[0] += 1
        if seen[0] == cut_before:
            held: Any = connection.connection.driver_connection
            pid = held.info.backend_pid
            run(url, f"SELECT pg_terminate_backend({pid}, 10000)")

    try:
        migrate(engine)
    except StoreUnavailableError:
        return False
    finally:
        engine.dispose()
    return True


def test_a_process_killed_in_the_middle_leaves_nothing(engine: sa.Engine, url: sa.URL) -> None:
    with connected(url) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        holder.execute(
            """CREATE FUNCTION pause() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
            IF EXISTS (SELECT FROM pg_event_trigger_ddl_commands()
                       WHERE object_identity = 'public.inbox') THEN
                PERFORM pg_advisory_lock(1); END IF; END $$"""
        )
        holder.execute("CREATE EVENT TRIGGER paused ON ddl_command_end EXECUTE FUNCTION pause()")
        before = names(url)
        process = start_migrating(url)
        wait_until(lambda: sessions(url, "advisory") == 1)
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    wait_until(lambda: sessions(url) == 0)
    assert names(url) == before
    run(url, "DROP EVENT TRIGGER paused")
    assert migrate(engine) == NEWEST


# Several at once


def test_two_processes_may_migrate_at_once(url: sa.URL) -> None:
    """Held up until both have begun, so that neither comes too late."""
    with connected(url) as holder, holder.transaction():
        holder.execute("LOCK TABLE pg_class IN SHARE MODE")
        processes = [start_migrating(url) for _ in range(2)]
        wait_until(lambda: sessions(url, "advisory") + sessions(url, "relation") == 2)
    for process in processes:
        assert process.communicate(timeout=DEADLINE_S) == (f"The schema is at {NEWEST}.\n", "")
