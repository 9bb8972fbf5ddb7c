"""Databases of an earlier schema, with something in them."""

import contextlib

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from msgspec import Struct
from msgspec.structs import replace

from persistence import chain
from persistence.engine import read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import (
    Append,
    Claim,
    Erasure,
    Head,
    NewEvent,
    Restore,
    Row,
    Snapshot,
    StoredEvent,
    Summary,
)

SUMMARY = Summary(listed=True, active=True, body=b"{}")
SNAPSHOT = Snapshot(2, 1, b"state")
STREAMS = ("one", "two", "digested")


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
    """Write to two streams by turns, as the log of any schema takes it, and an earlier one."""
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        heads = [_head(log, Claim(name, "me")) for name in ("one", "two")]
        for number in range(6):
            index = number % 2
            new = (NewEvent("text.delta", 1, f"{number}".encode(), "alice", "p1"),) * 5
            heads[index] = _head(log, Append(heads[index], new, SUMMARY, SNAPSHOT, rows))
        _head(log, Restore("digested", _with_digests("digested"), SUMMARY, rows))
    return kept(url)


def _with_digests(stream_id: str) -> tuple[StoredEvent, ...]:
    """Return events as every event was stored before 0004: the digest beside the payload."""
    log = InMemoryEventLog()
    new = (NewEvent("text.delta", 1, b"old"), NewEvent("text.delta", 1, b"older"))
    head = _head(log, Append(_head(log, Claim(stream_id, "me")), new, SUMMARY))
    return tuple(
        replace(event, payload_digest=chain.digest_of(event.salt or b"", event.payload or b""))
        for event in log.read(head)
    )


def kept(url: sa.URL) -> Kept:
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        log.reopen()  # checks the heads against the events
        heads = tuple(head for name in STREAMS if (head := log.head(name)))
        assert [log.snapshot(head, 1) for head in heads] == [SNAPSHOT, SNAPSHOT, None]
        assert log.active() == list(STREAMS)
        for head in heads:
            assert chain.verify(head.stream_id, log.read(head)) == (head.version, head.hash)
        return Kept(heads, tuple(event for head in heads for event in log.read(head)))


def erase_all(url: sa.URL) -> Kept:
    """Erase all payloads and return what is left."""
    with contextlib.closing(SqlEventLog(write_engine(url), read_engine(url))) as log:
        for name in STREAMS:
            head = _head(log, Claim(name, "eraser"))
            erasure = Erasure(head.row, 1, head.version, snapshots=False)
            _head(log, Append(head, (), SUMMARY, erasures=(erasure,)))
    return kept(url)


def without_payloads(events: tuple[StoredEvent, ...]) -> tuple[StoredEvent, ...]:
    """Return the events as they are once erased, whether their digests were stored or not."""
    return tuple(
        replace(
            event,
            payload=None,
            salt=None,
            payload_digest=chain.digest_of(event.salt or b"", event.payload or b""),
        )
        for event in events
    )


def _head(log: EventLog, write: Claim | Append | Restore) -> Head:
    (outcome,) = log.write([write])
    assert isinstance(outcome, Head), outcome
    return outcome
