"""Databases of an earlier schema, with something in them."""

import contextlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from msgspec import Struct

from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.records import Append, Claim, Head, NewEvent, Row, Snapshot, StoredEvent, Summary

SUMMARY = Summary(listed=True, active=True, body=b"{}")
SNAPSHOT = Snapshot(2, 1, b"state")


class Kept(Struct, frozen=True):
    """What a migration must leave as it is."""

    heads: tuple[Head, ...]
    events: tuple[StoredEvent, ...]


def upgrade_to(engine: sa.Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "migrations:")
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def fill(url: sa.URL, rows: tuple[Row, ...] = ()) -> Kept:
    """Write to two streams by turns, as the log of any schema takes it."""
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        heads = [_head(log, Claim(name, "me")) for name in ("one", "two")]
        for number in range(6):
            index = number % 2
            new = (NewEvent("text.delta", 1, f"{number}".encode(), "alice", "p1"),) * 5
            heads[index] = _head(log, Append(heads[index], new, SUMMARY, SNAPSHOT, rows))
    return kept(url)


def kept(url: sa.URL) -> Kept:
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        log.reopen()  # checks the heads against the events
        heads = tuple(head for name in ("one", "two") if (head := log.head(name)))
        assert [log.snapshot(head, 1) for head in heads] == [SNAPSHOT, SNAPSHOT]
        assert log.active() == ["one", "two"]
        return Kept(heads, tuple(event for head in heads for event in log.read(head)))


def _head(log: SqlEventLog, write: Claim | Append) -> Head:
    (outcome,) = log.write([write])
    assert isinstance(outcome, Head), outcome
    return outcome
