"""Event logs in temporary SQLite files, and sessions made by the pure core."""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from actors.replay import CODEC, stream_of
from actors.session import commands as c
from actors.session.codec import encode_state
from actors.session.decide import decide
from actors.session.events import Event, MessageCompleted
from actors.session.evolve import fold
from actors.session.messages import AssistantMessage, Text, UserMessage
from actors.session.state import STATE_VERSION, SessionState
from actors.session.summary import summary_of
from persistence.engine import parse_url, read_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.migration import ensure_schema
from persistence.native import native_caller
from persistence.records import Append, Claim, Head, NewEvent, Snapshot, Summary

APPEND_EVENTS = 1_000
OWNER = "benchmark"


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sessiond-benchmark-") as name:
        yield Path(name)


def url_of(database: Path) -> str:
    """Return the database URL of an SQLite file."""
    return f"sqlite:///{database}"


@contextlib.contextmanager
def open_log(database: Path) -> Iterator[SqlEventLog]:
    """Yield the log in an SQLite file, migrated, as a gateway opens it."""
    url = parse_url(url_of(database))
    writer = write_engine(url)
    ensure_schema(writer)
    log = SqlEventLog(writer, read_engine(url), commit_in=native_caller())
    try:
        yield log
    finally:
        log.close()


def claim(log: EventLog, stream_ids: Sequence[str]) -> list[Head]:
    """Make the streams exist and return their heads."""
    heads = log.write([Claim(stream_id, OWNER) for stream_id in stream_ids])
    return [_written(head) for head in heads]


class Builder:
    """Writes one session's events to a log, many in an append."""

    def __init__(self, log: EventLog, key: str) -> None:
        self.state = SessionState(key)
        self._log = log
        self._head = claim(log, [stream_of(key)])[0]
        self._waiting: list[Event] = []
        self.now_ms = time.time_ns() // 1_000_000

    def carry_out(self, command: c.Command) -> None:
        """Decide, fold, and write once enough has gathered."""
        events = decide(command, self.state)
        self.state = fold(self.state, events)
        self._waiting.extend(events)
        if len(self._waiting) >= APPEND_EVENTS:
            self.flush()

    def flush(self, *, snapshot: SessionState | None = None) -> Head:
        """Write what has gathered; return the stream's head."""
        for first in range(0, len(self._waiting), APPEND_EVENTS):
            chunk = self._waiting[first : first + APPEND_EVENTS]
            self._append(tuple([_new_event(event) for event in chunk]), None)
        self._waiting = []
        if snapshot is not None:
            stored = Snapshot(snapshot.version, STATE_VERSION, encode_state(snapshot))
            self._append((), stored)
        return self._head

    def _append(self, events: tuple[NewEvent, ...], snapshot: Snapshot | None) -> None:
        body = msgspec.json.encode(summary_of(self.state))
        summary = Summary(listed=True, active=not self.state.idle, body=body)
        append = Append(self._head, events, summary, snapshot)
        self._head = _written(self._log.write([append])[0])


def import_messages(log: EventLog, key: str, messages: int, *, tail: int) -> Head:
    """Make a session of imported messages, its snapshot ``tail`` events before the end."""
    builder = Builder(log, key)
    recorded = tuple([_message(index, builder.now_ms) for index in range(messages)])
    command = c.ImportSession(builder.now_ms, key, "benchmark", key, recorded)
    before = fold(builder.state, decide(command, builder.state)[:-tail])
    builder.carry_out(command)
    return builder.flush(snapshot=before)


def _message(index: int, at: int) -> MessageCompleted:
    content = (Text(f"Message {index} of a long conversation about many things. " * 3),)
    if index % 2 == 0:
        return MessageCompleted(UserMessage(content, at + index))
    return MessageCompleted(AssistantMessage(content, at + index, "demo", "echo"))


def _new_event(event: Event) -> NewEvent:
    return NewEvent(event.wire_name, event.schema_version, CODEC.encode(event))


def _written(outcome: Head | Exception) -> Head:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
