import contextlib
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from persistence.engine import parse_url, read_engine, write_engine
from persistence.errors import SchemaMismatchError, StoreUnavailableError
from persistence.event_log import SqlEventLog
from persistence.memories import SqlMemories
from persistence.migration import ensure_schema, migrate, revisions
from persistence.records import Append, Claim, Head, MemoryRow, NewEvent, Summary
from persistence.schema import metadata
from tests.migrations.upgrades import erase_all, fill, kept, upgrade_to, without_payloads

NEWEST = "0004"
TABLES = {
    "events",
    "episodes",
    "inbox",
    "leaves",
    "memories",
    "nodes",
    "snapshots",
    "streams",
    "workers",
}
INDEXES = {
    "ix_events_paged",
    "ix_inbox_unanswered",
    "ix_leaves_stream",
    "ix_memories_active_key",
    "ix_memories_core",
    "ix_streams_active",
    "ix_streams_owner",
}
FULL_TEXT = ("memory_index", "episode_index")
TRIGGERS = {"events_no_delete", "events_no_replace", "events_no_update", "streams_no_delete"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.db"


@pytest.fixture
def engine(path: Path) -> Iterator[sa.Engine]:
    engine = write_engine(parse_url(f"sqlite:///{path}"))
    yield engine
    engine.dispose()


def run(path: Path, statement: str) -> list[tuple[str, ...]]:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement).fetchall()


def names(path: Path) -> set[str]:
    return {name for (name,) in run(path, "SELECT name FROM sqlite_master")}


def is_full_text(name: str | None) -> bool:
    """Tell FTS5's tables, with those that it keeps beside each, from the declared ones."""
    return name is not None and name.startswith(FULL_TEXT)


def definitions(path: Path, kind: str) -> dict[str, list[str]]:
    """Return what sqlite_master says, in lines without order or white space."""
    found = run(
        path,
        f"SELECT name, sql FROM sqlite_master WHERE type = '{kind}' AND sql IS NOT NULL"
        " AND name != 'alembic_version'",
    )
    return {
        name: sorted(re.sub(r"\s+", " ", line).strip(" ,") for line in sql.split("\n"))
        for name, sql in found
        if not is_full_text(name)
    }


def test_a_new_database_gets_the_newest_schema(engine: sa.Engine, path: Path) -> None:
    ensure_schema(engine)
    assert run(path, "SELECT version_num FROM alembic_version") == [(NEWEST,)]
    assert run(path, "PRAGMA integrity_check") == [("ok",)]


def test_the_revisions_are_alembics() -> None:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert revisions() == [each.revision for each in scripts.walk_revisions()][::-1]
    assert scripts.get_current_head() == revisions()[-1] == NEWEST


def test_the_migrated_schema_has_no_difference_that_alembic_sees(engine: sa.Engine) -> None:
    ensure_schema(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, _kind, _parents: not is_full_text(name),
            },
        )
        assert compare_metadata(context, metadata) == []


@pytest.mark.parametrize("kind", ["table", "index"])
def test_the_migrated_schema_is_the_declared_one_in_sqlites_own_words(
    engine: sa.Engine, path: Path, tmp_path: Path, kind: str
) -> None:
    """Alembic looks past an index's WHERE, constraint names and primary keys."""
    ensure_schema(engine)
    declared = write_engine(parse_url(f"sqlite:///{tmp_path / 'declared.db'}"))
    metadata.create_all(declared)
    declared.dispose()
    found = definitions(path, kind)
    assert found == definitions(tmp_path / "declared.db", kind)
    assert set(found) == {"table": TABLES, "index": INDEXES}[kind]


def test_the_full_text_indexes_leave_the_splitting_to_us(engine: sa.Engine, path: Path) -> None:
    ensure_schema(engine)
    found = run(path, "SELECT name, sql FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE%'")
    assert {name for name, _ in found} == set(FULL_TEXT)
    for _, sql in found:
        assert sql.endswith("USING fts5(stream, text, tokenize = 'ascii', columnsize = 0)")


def test_the_indexes_are_partial(engine: sa.Engine, path: Path) -> None:
    ensure_schema(engine)
    indexes = {name: line for name, (line,) in definitions(path, "index").items()}
    assert " WHERE type IN (" in indexes["ix_events_paged"]
    assert indexes["ix_memories_active_key"].endswith(" WHERE active = 1")
    assert indexes["ix_memories_active_key"].startswith("CREATE UNIQUE INDEX")
    assert indexes["ix_memories_core"].endswith(" WHERE active = 1 AND bucket = 'core'")


def test_the_triggers_are_there(engine: sa.Engine, path: Path) -> None:
    ensure_schema(engine)
    assert set(definitions(path, "trigger")) == TRIGGERS


def test_migrating_again_changes_nothing(engine: sa.Engine, path: Path) -> None:
    assert migrate(engine) == NEWEST
    before = names(path)
    url = engine.url
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        (head,) = log.write([Claim("stream", "me")])
        assert migrate(engine) == NEWEST
        ensure_schema(engine)
        assert isinstance(head, Head)
        assert log.head("stream") == head
    assert names(path) == before
    assert run(path, "SELECT version_num FROM alembic_version") == [(NEWEST,)]


def test_a_log_without_memories_keeps_its_events_and_gets_them(
    engine: sa.Engine, path: Path
) -> None:
    upgrade_to(engine, "0001")
    assert "memories" not in names(path)
    summary = Summary(listed=True, active=False, body=b"{}")
    url = engine.url
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        (head,) = log.write([Claim("stream", "me")])
        assert isinstance(head, Head)
        (head,) = log.write([Append(head, (NewEvent("text.delta", 1, b"{}"),) * 3, summary)])
        assert isinstance(head, Head)
        before = list(log.read(head))

    ensure_schema(engine)
    assert run(path, "SELECT version_num FROM alembic_version") == [(NEWEST,)]
    reader = read_engine(url)
    row = MemoryRow(1, "core", "fact", "tea", "likes tea", "manual", True, 1, 1)
    with contextlib.closing(SqlEventLog(write_engine(url), reader)) as log:
        log.reopen()
        assert log.head("stream") == head
        assert list(log.read(head)) == before
        assert SqlMemories(reader).rows(head.row) == []
        (moved,) = log.write([Append(head, (), summary, None, (row,))])
        assert moved == head
        (hit,) = SqlMemories(reader).search(head.row, "tea", limit=4, now_ms=1, secrets=True)
        assert hit.row == row


def test_memories_and_their_index_outlive_the_schema_for_several_processes(
    engine: sa.Engine, path: Path
) -> None:
    upgrade_to(engine, "0002")
    row = MemoryRow(1, "core", "fact", "tea", "likes tea", "manual", True, 1, 1)
    before = fill(engine.url, (row,))
    ensure_schema(engine)
    assert run(path, "SELECT version_num FROM alembic_version") == [(NEWEST,)]
    assert kept(engine.url) == before
    reader = read_engine(engine.url)
    for head in before.heads:
        (hit,) = SqlMemories(reader).search(head.row, "tea", limit=4, now_ms=1, secrets=True)
        assert hit.row == row
    reader.dispose()
    assert run(path, "SELECT count(*) FROM workers") == run(path, "SELECT count(*) FROM inbox")


def test_a_digest_that_was_stored_stays_and_every_payload_can_be_erased(
    engine: sa.Engine, path: Path
) -> None:
    upgrade_to(engine, "0003")
    before = fill(engine.url)
    assert [len(event.payload_digest) for event in before.events] == [0] * 30 + [32] * 2
    ensure_schema(engine)
    assert kept(engine.url) == before
    assert erase_all(engine.url).events == without_payloads(before.events)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        run(path, "UPDATE events SET payload_digest = zeroblob(32)")


def test_a_migration_that_fails_leaves_the_schema_before_it(engine: sa.Engine, path: Path) -> None:
    upgrade_to(engine, "0003")
    before = fill(engine.url)
    triggers = definitions(path, "trigger")
    run(path, "CREATE TABLE nodes (id INTEGER)")
    with pytest.raises(StoreUnavailableError, match="nodes already exists"):
        ensure_schema(engine)
    assert run(path, "SELECT version_num FROM alembic_version") == [("0003",)]
    assert definitions(path, "trigger") == triggers
    assert "leaves" not in names(path)
    run(path, "DROP TABLE nodes")
    ensure_schema(engine)
    assert kept(engine.url) == before


@pytest.mark.parametrize("use", [ensure_schema, migrate])
def test_a_newer_schema_is_refused_and_left_alone(
    engine: sa.Engine, path: Path, use: type[object]
) -> None:
    ensure_schema(engine)
    run(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaMismatchError, match=f"9999 is newer .* knows up to {NEWEST}"):
        use(engine)
    assert run(path, "SELECT version_num FROM alembic_version") == [("9999",)]


@pytest.mark.parametrize("obstacle", sorted(TABLES | set(FULL_TEXT)))
def test_half_a_migration_leaves_nothing(engine: sa.Engine, path: Path, obstacle: str) -> None:
    run(path, f"CREATE TABLE {obstacle} (id INTEGER)")
    with pytest.raises(StoreUnavailableError, match=f"{obstacle} already exists"):
        ensure_schema(engine)
    assert names(path) == {obstacle}
    run(path, f"DROP TABLE {obstacle}")
    ensure_schema(engine)
    assert set(definitions(path, "table")) == TABLES
    assert set(definitions(path, "trigger")) == TRIGGERS


def test_a_migration_that_fails_at_its_last_statement_leaves_nothing(
    engine: sa.Engine, path: Path
) -> None:
    run(path, "CREATE TABLE mine (id INTEGER)")
    run(
        path,
        "CREATE TRIGGER streams_no_delete BEFORE DELETE ON mine BEGIN SELECT 1; END",
    )
    with pytest.raises(StoreUnavailableError, match="streams_no_delete already exists"):
        ensure_schema(engine)
    assert names(path) == {"mine", "streams_no_delete"}
