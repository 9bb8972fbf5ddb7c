"""What `sessiond grants` prints, carried out, and a gateway's log used as the role."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from persistence import chain
from persistence.engine import read_engine, write_engine
from persistence.errors import StoreUnavailableError
from persistence.event_log import SqlEventLog
from persistence.memories import EPISODES_KEPT, SqlMemories
from persistence.migration import ensure_schema, migrate
from persistence.postgres import APPENDED, CHANGED, NEVER_DELETED, READ_ONLY
from persistence.records import (
    Answer,
    Append,
    Claim,
    Cursor,
    EpisodeRow,
    Erasure,
    Head,
    Leaf,
    MemoryRow,
    NewEvent,
    Node,
    Release,
    Reproject,
    Restore,
    Snapshot,
    Summary,
    Write,
)
from tests.postgres.server import TABLES, PostgresServer, connected
from web.cli.main import main

COMMAND = Path(sys.executable).with_name("sessiond")
SUMMARY = Summary(listed=True, active=True, body=b"{}")
DELTA = (NewEvent("text.delta", 1, b"{}"),)
MEMORY = MemoryRow(1, "core", "fact", "tea", "likes tea", "manual", True, 1, 1)
ERASING = "payload = NULL, salt = NULL, payload_digest = sha256(salt || payload)"
HOSTILE = 'a"; DROP TABLE events; --'

Grant = Callable[..., sa.URL]


@pytest.fixture
def grant(postgres: PostgresServer, postgres_url: sa.URL) -> Iterator[Grant]:
    """Makes a role of that name, carries out what is printed for it, and returns its URL."""
    with contextlib.ExitStack() as made:

        def grant(role: str, *options: str) -> sa.URL:
            name = '"' + role.replace('"', '""') + '"'
            postgres.execute(f"CREATE ROLE {name} LOGIN")
            made.callback(_drop_role, postgres, postgres_url, name)
            printed = CliRunner().invoke(main, ["grants", role, *options])
            assert printed.exit_code == 0, printed.output
            _run(postgres_url, printed.output)
            return postgres_url.set(username=role)

        yield grant


def _drop_role(postgres: PostgresServer, url: sa.URL, name: str) -> None:
    _run(url, f"DROP OWNED BY {name}")
    postgres.execute(f"DROP ROLE {name}")


def _run(url: sa.URL, statement: str) -> list[tuple[Any, ...]]:
    with connected(url) as connection:
        found = connection.execute(statement)  # type: ignore[arg-type]  # made of constants
        return found.fetchall() if found.description else []


def _refused(url: sa.URL, *statements: str) -> None:
    for statement in statements:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _run(url, statement)


@contextlib.contextmanager
def opened(url: sa.URL) -> Iterator[tuple[SqlEventLog, SqlMemories]]:
    writer, reader = write_engine(url), read_engine(url)
    ensure_schema(writer)
    log = SqlEventLog(writer, reader)
    yield log, SqlMemories(reader)
    log.close()


def _carry_out(log: SqlEventLog, write: Write) -> Head:
    (outcome,) = log.write([write])
    assert isinstance(outcome, Head), outcome
    return outcome


def test_every_table_is_granted_for_what_is_done_to_it() -> None:
    granted = (*READ_ONLY, *APPENDED, *NEVER_DELETED, *CHANGED)
    assert sorted(granted) == sorted({*TABLES, "alembic_version"})


def test_the_role_does_all_that_a_log_does(grant: Grant) -> None:
    url = grant("gateway")
    with opened(url) as (log, memories):
        head = _carry_out(log, Claim("stream", "me"))
        asked = _run(
            url,
            """INSERT INTO inbox (owner, asker, stream_id, message, put_at)
            VALUES ('me', 'other', 'stream', '', 1) RETURNING id""",
        )[0][0]
        for count, seq in ((1, 1), (9, 10), (1, 11)):  # by INSERT, and by COPY
            head = _carry_out(
                log,
                Append(
                    head,
                    DELTA * count,
                    SUMMARY,
                    Snapshot(seq, 1, b"state"),
                    (MEMORY,),
                    answers=(Answer(asked, "other", b"done"),) if seq == 1 else (),
                ),
            )
        head = _carry_out(log, Append(head, DELTA, SUMMARY, Snapshot(11, 1, b"again")))
        assert [each.event.seq for each in log.tail(Cursor(0, 0))] == list(range(1, 13))
        assert log.tail(log.end()) == []
        assert [seq.seq for _, seq in log.read_streams({head.row: 10})] == [11, 12]
        said = [EpisodeRow(n, "k", "s", "user", "tea", n) for n in (1, EPISODES_KEPT + 1)]
        for episode in said:  # the first is deleted for the second
            _carry_out(log, Append(head, (), SUMMARY, None, (episode,)))
        _carry_out(log, Reproject(head, (MEMORY, said[1])))
        assert len(memories.search(head.row, "tea", limit=9, now_ms=1, secrets=True)) == 2
        assert _carry_out(log, Claim("stream", "another")).epoch == 2
        assert log.abandoned("me") == ["stream"]
        head = _carry_out(log, Claim("stream", "me"))
        erasure, leaf = Erasure(head.row, 1, head.version), Leaf(0, head.row, head.version)
        _carry_out(
            log,
            Append(
                head,
                (),
                SUMMARY,
                erasures=(erasure,),
                leaves=(leaf,),
                nodes=(Node(0, 0, head.hash),),
            ),
        )
        assert {event.payload for event in log.read(head)} == {None}
        _carry_out(log, Restore("copy", tuple(log.read(head)), SUMMARY))
        _carry_out(log, Release(head))
        log.reopen()
    assert _run(url, "SELECT answer FROM inbox") == [(b"done",)]


def test_the_role_keeps_leases_and_an_inbox(grant: Grant) -> None:
    url = grant("gateway")
    for table, columns in (
        ("workers", "(name, started_at, renewed_at) VALUES ('me', 1, 1)"),
        (
            "inbox",
            "(owner, asker, stream_id, message, put_at) VALUES ('me', 'me', 'stream', '', 1)",
        ),
    ):
        _run(url, f"INSERT INTO {table} {columns}")
        assert _run(url, f"UPDATE {table} SET id = id RETURNING 1") == [(1,)]
        assert _run(url, f"DELETE FROM {table} RETURNING 1") == [(1,)]
    _run(url, "LISTEN sessiond")
    _run(url, "SELECT pg_notify('sessiond', '{}'), pg_try_advisory_lock(1, 1)")
    _run(url, "SELECT nextval(pg_get_serial_sequence('workers', 'id'))")


def test_the_role_changes_no_event_whatever_the_triggers_say(
    grant: Grant, postgres_url: sa.URL
) -> None:
    url = grant("gateway")
    with opened(url) as (log, _):
        _carry_out(log, Append(_carry_out(log, Claim("stream", "me")), DELTA, SUMMARY))
    _refused(
        url,
        "UPDATE events SET seq = seq",
        f"UPDATE events SET {ERASING}, hash = ''",
        "INSERT INTO events SELECT * FROM events ON CONFLICT (stream, seq) DO UPDATE SET seq = 9",
        "DELETE FROM events",
        "TRUNCATE events",
        "DELETE FROM streams",
        "TRUNCATE streams CASCADE",
        "ALTER TABLE events DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "DROP TRIGGER events_no_update ON events",
        "DROP TABLE events",
        "UPDATE alembic_version SET version_num = '9999'",
        "CREATE TABLE mine (id integer)",
    )
    for change in ("payload = 'forged'", "payload = NULL, salt = NULL", "payload_digest = hash"):
        with pytest.raises(psycopg.IntegrityError, match="append-only"):
            _run(url, f"UPDATE events SET {change}")
    ((kept,),) = _run(postgres_url, "SELECT count(*) FROM events WHERE payload IS NOT NULL")
    assert kept == 1


def test_what_was_granted_before_is_taken_back(grant: Grant, postgres_url: sa.URL) -> None:
    url = grant("gateway")
    _run(postgres_url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO gateway")
    printed = CliRunner().invoke(main, ["grants", "gateway"])
    _run(postgres_url, printed.output)
    _refused(url, "DELETE FROM events", "TRUNCATE snapshots")


def test_the_eraser_erases_and_does_nothing_else(grant: Grant) -> None:
    with opened(grant("gateway")) as (log, _):
        head = _carry_out(log, Append(_carry_out(log, Claim("stream", "me")), DELTA * 2, SUMMARY))
        url = grant("eraser", "--erase")
        erased = _run(
            url,
            f"UPDATE events SET {ERASING} WHERE seq = 1 AND stream ="
            " (SELECT id FROM streams WHERE stream_id = 'stream') RETURNING seq",
        )
        assert erased == [(1,)]
        stored = list(log.read(head))
        assert [event.payload for event in stored] == [None, b"{}"]
        assert chain.verify("stream", stored) == (head.version, head.hash)
    with pytest.raises(psycopg.IntegrityError, match="append-only"):
        _run(url, "UPDATE events SET payload = 'forged'")
    _refused(
        url,
        "UPDATE events SET hash = ''",
        "DELETE FROM events",
        "INSERT INTO streams SELECT * FROM streams",
        "UPDATE streams SET version = 0",
        "SELECT * FROM memories",
    )


def test_a_schema_cannot_be_migrated_by_the_role(grant: Grant, postgres_url: sa.URL) -> None:
    engine = write_engine(grant("gateway"))
    assert migrate(engine) == "0004"  # there is nothing to do
    _run(postgres_url, "UPDATE alembic_version SET version_num = '0003'")
    with pytest.raises(StoreUnavailableError, match=r"must be owner|permission denied"):
        migrate(engine)
    _run(postgres_url, "UPDATE alembic_version SET version_num = '0004'")
    engine.dispose()


# Names


def test_a_roles_name_is_never_sql(grant: Grant) -> None:
    with opened(grant(HOSTILE)) as (log, _):
        assert _carry_out(log, Claim("stream", "me")).version == 0


@pytest.mark.parametrize("role", ["", "public", "none", "x" * 64, "ü" * 32])
@pytest.mark.parametrize("options", [(), ("--erase",)])
def test_a_name_that_means_somebody_else_is_refused(role: str, options: tuple[str, ...]) -> None:
    refused = CliRunner().invoke(main, ["grants", *options, "--", role])
    assert refused.exit_code == 1
    assert refused.output.startswith("Error: ")


def test_the_command_prints_sql_and_needs_no_database() -> None:
    done = subprocess.run(
        [COMMAND, "grants", "gateway"],
        env={"PATH": os.environ.get("PATH", "")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert 'GRANT UPDATE (payload, salt, payload_digest) ON events TO "gateway";' in lines
    assert all(line.endswith(";") and '"gateway"' in line for line in lines)
