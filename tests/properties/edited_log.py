"""A small log with a bit of everything, and every way in which one row of it can be edited."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from actors.erasures import erasures_of
from actors.gateway_state import CODEC as GATEWAY_CODEC
from actors.gateway_state import STREAM, ConfigPatched
from actors.memory.events import CODEC as MEMORY_CODEC
from actors.memory.rules import Episode, Forget, Remember, episode, forget, projected, remember
from actors.replay import CODEC, entry_of, stream_of
from actors.session import commands as c
from actors.session.codec import Codec, encode_state
from actors.session.decide import decide
from actors.session.events import Event, Request, TextDelta, attributed
from actors.session.evolve import fold
from actors.session.messages import AssistantMessage, Text, Usage
from actors.session.record_events import StreamErased
from actors.session.state import STATE_VERSION, SessionState
from persistence.event_log import SqlEventLog
from persistence.raw_rows import RawRows
from persistence.records import (
    Append,
    Claim,
    Head,
    MemoryRow,
    NewEvent,
    Snapshot,
    Summary,
)

UNLISTED = Summary(listed=False, active=False, body=b"")
SESSIONS = ("a", "b")
MEMORY = "memory:someone"

INTEGERS = {
    "position": 8,
    "xid": 8,
    "stream": 8,
    "seq": 8,
    "epoch": 8,
    "schema_version": 2,
    "recorded_at": 8,
    "causation_seq": 8,
    "version": 8,
    "id": 8,
}
"""The columns that hold integers, by how many bytes they take."""

NEAR = 10_000
"""A distance within which a small log's places and transactions lie."""

NULLABLE = ("principal", "correlation_id", "causation_seq", "payload", "salt")


class Edit(NamedTuple):
    """One edit: its statements, and which ``(stream's row, seq)`` has to be named, either one.

    Where it is ``of_place`` only all streams together tell; else the stream alone has to.
    """

    what: str
    statements: list[tuple[str, tuple[object, ...]]]
    named: set[tuple[int, int]]
    of_place: bool = False


def fill(log: SqlEventLog) -> None:
    """Write two sessions by two owners, one erased in part, a memory, settings, an empty stream."""
    for key in SESSIONS:
        _fill_session(log, key)
    _fill_memory(log)
    head = _claimed(log, STREAM, "*")
    for at in (1, 2, 3):
        change = ConfigPatched({"queue_max": at}, at=at)
        head = _append(log, head, [change], GATEWAY_CODEC, principal="someone")
    _claimed(log, stream_of("empty"), "first")


def _fill_session(log: SqlEventLog, key: str) -> None:
    head = _claimed(log, stream_of(key), "first")
    state = SessionState(key)
    for number, command in enumerate(_commands(), start=1):
        if number == 5:
            head = _claimed(log, head.stream_id, "second")
        events = attributed(decide(command, state), Request("r-1", address="10.0.0.1"))
        if isinstance(command, c.RenameSession) and key == SESSIONS[0]:
            erased = StreamErased(
                receipt_id="e-1", reason="asked for", ranges=((3, 5),), at=20, state=state
            )
            events = (*events, erased)
        state = fold(state, events)
        snapshot = None
        if number in (4, 7, 9):
            snapshot = Snapshot(state.version, STATE_VERSION, encode_state(state))
        head = _append(
            log, head, events, CODEC, entry=entry_of(state), snapshot=snapshot, principal="someone"
        )


def _commands() -> list[c.Command]:
    usage = Usage(900, 150, cost_usd=0.25)
    answer = AssistantMessage((Text("An answer, at length."),), 13, "demo", "echo", usage=usage)
    commands: list[c.Command] = []
    for prompt in ("p-1", "p-2"):
        commands += [
            c.QueuePrompt(10, "s-1", prompt, "What is it?", "messages", 8, principal="someone"),
            c.StartMessage(11, prompt, (TextDelta(0, "An answer, "),)),
            c.RecordDeltas(12, prompt, (TextDelta(0, "at "), TextDelta(0, "length."))),
            c.CompleteMessage(13, prompt, (), answer),
        ]
    return [*commands, c.RenameSession(21, "A name")]


def _fill_memory(log: SqlEventLog) -> None:
    head = _claimed(log, MEMORY, "*")
    rows: dict[int, MemoryRow] = {}
    asked: list[Sequence[Event]] = [
        remember(Remember(1, "Likes tea", key="drink"), None, 1),
        [episode(Episode(2, "a", "s-1", "user", "What is it?"), 1)],
    ]
    for events in asked:
        changed = projected(events, rows.get)
        rows |= {row.id: row for row in changed if isinstance(row, MemoryRow)}
        head = _append(log, head, events, MEMORY_CODEC, rows=changed)
    for events in (
        remember(Remember(3, "Likes coffee", key="drink"), rows[1], 2),
        [episode(Episode(4, "a", "s-1", "assistant", "An answer, at length."), 2)],
        remember(Remember(5, "Lives in Ghent", key="home"), None, 3),
    ):
        changed = projected(events, rows.get)
        rows |= {row.id: row for row in changed if isinstance(row, MemoryRow)}
        head = _append(log, head, events, MEMORY_CODEC, rows=changed)
    gone = forget(Forget(6, memory_id=3), rows[3])
    _append(log, head, gone, MEMORY_CODEC, rows=projected(gone, rows.get))


def _claimed(log: SqlEventLog, stream_id: str, owner: str) -> Head:
    (head,) = log.write([Claim(stream_id, owner)])
    assert isinstance(head, Head)
    return head


def _append(
    log: SqlEventLog,
    head: Head,
    events: Sequence[Event],
    codec: Codec,
    *,
    entry: Summary = UNLISTED,
    snapshot: Snapshot | None = None,
    principal: str | None = None,
    rows: Sequence[Any] = (),
) -> Head:
    new = tuple(
        NewEvent(
            event.wire_name,
            event.schema_version,
            codec.encode(event),
            principal,
            getattr(event, "prompt_id", None),
            1 if head.version else None,
        )
        for event in events
    )
    append = Append(
        head, new, entry, snapshot, rows=tuple(rows), erasures=erasures_of(head, events)
    )
    (head_after,) = log.write([append])
    assert isinstance(head_after, Head)
    return head_after


class Editor:
    """Thinks up edits of a log; the same ones for the same log."""

    def __init__(self, raw: RawRows, each: int) -> None:
        self._raw = raw
        self._each = each
        self._random = random.Random(11)
        self._columns = (
            "position", "stream", "seq", "epoch", "type", "schema_version", "recorded_at",
            "principal", "correlation_id", "causation_seq", "payload", "salt", "payload_digest",
            "hash",
        )  # fmt: skip

    def edits(self) -> Iterator[Edit]:
        """Yield every edit."""
        yield from self._of_events()
        yield from self._of_rows_of_events()
        yield from self._of_moved_bytes()
        yield from self._of_streams()
        yield from self._of_projections()

    def _of_events(self) -> Iterator[Edit]:
        columns = self._columns if self._raw.is_sqlite else (*self._columns, "xid")
        names = ", ".join("xid::text::bigint" if each == "xid" else each for each in columns)
        for row in self._raw.all(f"SELECT {names} FROM events ORDER BY position"):
            found = dict(zip(columns, row, strict=True))
            for column, value in found.items():
                for new in self._values(column, value):
                    if not self._is_unnoticed(found, column, new):
                        yield self._edit(found, column, new)

    def _is_unnoticed(self, found: dict[str, Any], column: str, new: Any) -> bool:
        """Tell whether an event may stay between its neighbours, and nothing tells of the edit.

        On PostgreSQL an erasure has written the row again, so that says nothing any more.
        """
        erased = found["payload"] is None and not self._raw.is_sqlite
        return erased and column in ("position", "xid") and abs(new - found[column]) < NEAR

    def _edit(self, found: dict[str, Any], column: str, new: object) -> Edit:
        stream, seq = found["stream"], found["seq"]
        named = {(stream, seq)}
        if column in ("position", "xid"):  # then what follows is not behind it any more
            named.add((stream, seq + 1))
        statement = f"UPDATE events SET {column} = {self._place(column)} WHERE position = ?"
        what = f"{column} of {stream}/{seq}: {found[column]!r} -> {new!r}"
        change = (statement, (_shown(column, new), found["position"]))
        return Edit(what, [change], named, column in ("position", "xid"))

    def _place(self, column: str) -> str:
        if column == "xid":
            return "?::text::xid8"
        text = column in ("type", "principal", "correlation_id", "stream_id")
        return "CAST(? AS TEXT)" if text and self._raw.is_sqlite else "?"

    def _values(self, column: str, value: object) -> list[object]:
        """Return values that differ in one byte, and nothing at all where that can be."""
        if value is None and column in INTEGERS:  # JSON has no infinity: it would write null
            return [1, float("inf")] if self._raw.is_sqlite else [1]
        if value is None:
            return [b"x" if column in ("payload", "salt") else "x"]
        others: list[object] = [None] if column in NULLABLE else []
        if isinstance(value, bool):
            return [not value]
        others += {self._changed(column, value) for _ in range(self._each)}
        return others

    def _changed(self, column: str, value: object) -> object:
        if isinstance(value, int):
            size = INTEGERS[column]
            encoded = bytearray(value.to_bytes(size, "big", signed=True))
            encoded[self._random.randrange(size)] ^= self._random.randint(1, 255)
            return int.from_bytes(encoded, "big", signed=True)
        if isinstance(value, str):
            if not value:
                return "x"
            text = bytearray(value.encode())
            place = self._random.randrange(len(text))
            if self._raw.is_sqlite:
                text[place] ^= self._random.randint(1, 255)
                return bytes(text)
            text[place] = self._random.choice(
                [each for each in range(1, 128) if each != text[place]]
            )
            return text.decode()
        assert isinstance(value, bytes)
        if not value:  # a digest that is not stored: a wrong one
            return self._random.randbytes(self._random.choice([1, 32]))
        changed = bytearray(value)
        changed[self._random.randrange(len(changed))] ^= self._random.randint(1, 255)
        return bytes(changed)

    def _of_moved_bytes(self) -> Iterator[Edit]:
        """Move a byte from the salt to the payload: their digest stays the same."""
        rows = self._raw.all("SELECT stream, seq, salt, payload FROM events")
        for stream, seq, salt, payload in rows:
            if payload is not None:
                statement = "UPDATE events SET salt = ?, payload = ? WHERE stream = ? AND seq = ?"
                change = (statement, (salt[:-1], salt[-1:] + payload, stream, seq))
                yield Edit(f"byte moved in {stream}/{seq}", [change], {(stream, seq)})

    def _of_rows_of_events(self) -> Iterator[Edit]:
        """Delete, cut short, double and swap rows, and cut off tails."""
        names = ", ".join(self._columns[3:])
        rows = self._raw.all("SELECT stream, seq FROM events ORDER BY stream, seq")
        last = dict(rows)
        for stream, seq in rows:
            at = "WHERE stream = ? AND seq = ?"
            place, named = (stream, seq), {(stream, seq)}
            yield Edit(f"deleted {place}", [(f"DELETE FROM events {at}", place)], named)
            tail = [("DELETE FROM events WHERE stream = ? AND seq >= ?", place)]
            yield Edit(f"tail cut off at {place}", tail, named)
            for column in ("payload", "salt", "hash"):
                cut = f"substr({column}, 1, length({column}) - 1)"
                whole = f"UPDATE events SET {column} = {cut} {at} AND {column} IS NOT NULL"
                yield Edit(f"{column} cut short at {place}", [(whole, place)], named)
            doubled = (
                f"INSERT INTO events (stream, seq, {names}) SELECT stream, ?, {names} FROM events"
            )
            end = last[stream] + 1
            copied = [(f"{doubled} {at}", (end, *place))]
            yield Edit(f"{place} once more at the end", copied, {(stream, end)})
            for other in range(seq + 1, min(seq + 3, last[stream]) + 1):
                move = f"UPDATE events SET seq = ? {at}"
                swapped = [
                    (move, (-1, *place)),
                    (move, (seq, stream, other)),
                    (move, (other, stream, -1)),
                ]
                yield Edit(f"{place} and {other} swapped", swapped, named)

    def _of_streams(self) -> Iterator[Edit]:
        names = "id, stream_id, version, hash, epoch, listed, active, summary"
        for row in self._raw.all(f"SELECT {names} FROM streams ORDER BY id"):
            found = dict(zip(names.split(", "), row, strict=True))
            if not found["version"]:
                continue  # there is nothing in it
            for column, value in found.items():
                toggled = bool(value) if column in ("listed", "active") else value
                for _ in range(4):
                    for new in self._values(column, toggled):
                        yield from self._edit_of_stream(found, column, new)

    def _edit_of_stream(self, found: dict[str, Any], column: str, new: Any) -> Iterator[Edit]:
        row, version = found["id"], found["version"]
        if column == "epoch" and new >= found["epoch"]:
            return  # see NOT_FOUND
        seq = {"stream_id": 1, "id": 1}.get(column, version)
        if column == "version":
            seq = max(0, min(version, new)) + 1
        named = {(row, seq)}
        statement = f"UPDATE streams SET {column} = {self._place(column)} WHERE id = ?"
        what = f"{column} of stream {row}: {found[column]!r} -> {new!r}"
        yield Edit(what, [(statement, (new, row))], named, column == "id")

    def _of_projections(self) -> Iterator[Edit]:
        """Edit a snapshot, the memories and what they are found by."""
        for stream, seq, state in self._raw.all("SELECT stream, seq, state FROM snapshots"):
            at = "WHERE stream = ? AND seq = ?"
            for _ in range(10):
                new = self._changed("state", state)
                statement = (f"UPDATE snapshots SET state = ? {at}", (new, stream, seq))
                yield Edit(f"snapshot of {stream}/{seq}", [statement], {(stream, seq)})
        ((row, version),) = self._raw.all(
            "SELECT id, version FROM streams WHERE stream_id = ?", MEMORY
        )
        key = "rowid" if self._raw.is_sqlite else "row"
        for statement in (
            "UPDATE memories SET content = content || 'x' WHERE id = 2",
            "UPDATE memories SET active = NOT active WHERE id = 1",
            "UPDATE memories SET superseded_by = 3 WHERE id = 1",
            "DELETE FROM memories WHERE id = 1",
            "UPDATE episodes SET text = text || 'x' WHERE id = 1",
            "DELETE FROM episodes WHERE id = 2",
            f"DELETE FROM episode_index WHERE {key} = (SELECT row FROM episodes WHERE id = 1)",
            f"DELETE FROM memory_index WHERE {key} = (SELECT row FROM memories WHERE id = 2)",
            f"UPDATE episode_index SET text = text || 'x' WHERE {key} > 1",
        ):
            yield Edit(statement, [(statement, ())], {(row, version)})


def _shown(column: str, value: object) -> object:
    return str(value) if column == "xid" else value
