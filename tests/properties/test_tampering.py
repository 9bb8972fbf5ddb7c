"""Any single edit of a stored stream is named, at the first seq that it touches."""

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from persistence import chain
from persistence.engine import read_engine, write_engine
from persistence.errors import CorruptLogError
from persistence.event_log import SqlEventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Claim, Head, NewEvent, StoredEvent, Summary
from tests.postgres.server import PostgresServer, connected

STREAM = "session:a"
INTEGER_MAX = 2**62
MANY = settings(max_examples=60, deadline=None)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
integers = st.integers(0, INTEGER_MAX)
blobs = st.binary(max_size=40)
new_events = st.builds(
    NewEvent,
    st.sampled_from(["text.delta", "run.started"]),
    st.integers(0, 9),
    blobs,
    st.none() | texts,
    st.none() | texts,
    st.none() | integers,
)
values: dict[str, st.SearchStrategy[Any]] = {
    "seq": integers,
    "epoch": integers,
    "type": texts,
    "schema_version": integers,
    "recorded_at": integers,
    "principal": st.none() | texts,
    "correlation_id": st.none() | texts,
    "causation_seq": st.none() | integers,
    "payload": st.none() | blobs,
    "salt": st.none() | st.binary(min_size=16, max_size=16),
    "payload_digest": blobs | st.binary(min_size=32, max_size=32),
    "hash": blobs | st.binary(min_size=32, max_size=32),
}


def sql_events() -> st.SearchStrategy[tuple[NewEvent, ...]]:
    """What is appended at once, without the character that PostgreSQL's texts can't hold."""
    held = st.none() | texts.filter(lambda text: "\0" not in text)
    each = st.builds(
        NewEvent,
        st.sampled_from(["text.delta", "run.started"]),
        st.integers(0, 9),
        blobs,
        held,
        held,
        st.none() | integers,
    )
    return st.lists(each, min_size=1, max_size=5).map(tuple)


NUMBERS = itertools.count()


@st.composite
def streams(draw: st.DrawFn) -> tuple[Head, list[StoredEvent]]:
    """A stream as the log wrote it: appends of one to three events, by one owner or another."""
    log = InMemoryEventLog(
        clock_us=itertools.count(draw(integers)).__next__, random_bytes=random.Random(7).randbytes
    )
    for owner in draw(st.lists(st.sampled_from("ab"), min_size=1, max_size=4)):
        (head,) = log.write([Claim(STREAM, owner)])
        assert isinstance(head, Head)
        events = tuple(draw(st.lists(new_events, min_size=1, max_size=3)))
        (head,) = log.write([Append(head, events, Summary(listed=True, active=False, body=b""))])
        assert isinstance(head, Head)
    return head, list(log.read(head))


def first_bad_seq(head: Head, events: Iterable[StoredEvent]) -> int | None:
    """Return what an audit names: the first bad event, or the one missing before the head."""
    try:
        seq, last_hash = chain.verify(STREAM, events)
    except CorruptLogError as error:
        return error.seq
    return None if (seq, last_hash) == (head.version, head.hash) else seq + 1


def test_every_column_is_edited() -> None:
    assert tuple(values) == StoredEvent.__struct_fields__


@MANY
@given(streams())
def test_an_untouched_stream_is_sound(stream: tuple[Head, list[StoredEvent]]) -> None:
    assert first_bad_seq(*stream) is None


@settings(MANY, max_examples=300)
@given(streams(), st.data())
def test_an_edit_of_any_column_is_named(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    index = data.draw(st.integers(0, len(events) - 1))
    field = data.draw(st.sampled_from(list(values)))
    value = data.draw(values[field])
    assume(value != getattr(events[index], field))
    events[index] = replace(events[index], **{field: value})
    assert first_bad_seq(head, events) == index + 1


@MANY
@given(streams(), st.data())
def test_a_flipped_bit_of_any_bytes_is_named(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    index = data.draw(st.integers(0, len(events) - 1))
    field = data.draw(st.sampled_from(["payload", "salt", "payload_digest", "hash"]))
    flipped = bytearray(getattr(events[index], field))
    assume(flipped)
    flipped[data.draw(st.integers(0, len(flipped) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    events[index] = replace(events[index], **{field: bytes(flipped)})
    assert first_bad_seq(head, events) == index + 1


@MANY
@given(streams(), st.data())
def test_a_forged_event_that_fits_in_itself_is_named_by_it_or_the_next(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    """The forger knows the formula and writes digest and hash anew, for one event."""
    head, events = stream
    index = data.draw(st.integers(0, len(events) - 1))
    previous = events[index - 1].hash if index else bytes(32)
    forged = replace(events[index], payload=data.draw(blobs))
    assume(forged.payload != events[index].payload)
    assert forged.salt is not None
    assert forged.payload is not None
    digest = chain.digest_of(forged.salt, forged.payload)
    seq, epoch, recorded_at = forged.seq, forged.epoch, forged.recorded_at
    linked = chain.link(previous, STREAM, seq, epoch, recorded_at, forged, digest)
    events[index] = replace(forged, payload_digest=digest, hash=linked)
    assert first_bad_seq(head, events) == index + 2


@MANY
@given(streams(), st.data())
def test_a_deleted_event_is_named(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    index = data.draw(st.integers(0, len(events) - 1))
    del events[index]
    assert first_bad_seq(head, events) == index + 1


@MANY
@given(streams(), st.data())
def test_a_cut_off_tail_is_named_by_its_first_event(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    kept = data.draw(st.integers(0, len(events) - 1))
    assert first_bad_seq(head, events[:kept]) == kept + 1


@MANY
@given(streams(), st.data())
def test_swapped_events_are_named_by_the_first_place(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    assume(len(events) > 1)
    first = data.draw(st.integers(0, len(events) - 2))
    second = data.draw(st.integers(first + 1, len(events) - 1))
    events[first], events[second] = events[second], events[first]
    assert first_bad_seq(head, events) == first + 1
    renumbered = [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]
    assert first_bad_seq(head, renumbered) == first + 1


@MANY
@given(streams(), st.data())
def test_a_duplicated_event_is_named_where_it_was_put(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    copied = data.draw(st.integers(0, len(events) - 1))
    place = data.draw(st.integers(copied + 1, len(events)))
    events.insert(place, events[copied])
    assert first_bad_seq(head, events) == place + 1
    renumbered = [replace(event, seq=seq) for seq, event in enumerate(events, start=1)]
    assert first_bad_seq(head, renumbered) == place + 1


@MANY
@given(streams(), st.data())
def test_erased_payloads_are_no_damage(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    erased = data.draw(st.sets(st.integers(0, len(events) - 1)))
    for index in erased:
        events[index] = replace(events[index], payload=None, salt=None)
    assert first_bad_seq(head, events) is None


# The same in PostgreSQL, behind its triggers' back. What its columns' types refuse can't be edited.

SQL_VALUES: dict[str, st.SearchStrategy[Any]] = values | {
    "seq": st.integers(-(2**63), -1) | st.integers(100, INTEGER_MAX),  # another's place is taken
    "type": texts.filter(lambda text: "\0" not in text),
    "schema_version": st.integers(-(2**15), 2**15 - 1),
    "principal": st.none() | texts.filter(lambda text: "\0" not in text),
    "correlation_id": st.none() | texts.filter(lambda text: "\0" not in text),
}
EDITS = [*SQL_VALUES, "deleted", "duplicated", "erased", "swapped"]


@pytest.fixture(scope="module")
def sql_log(postgres: PostgresServer) -> Iterator[tuple[SqlEventLog, psycopg.Connection]]:
    with postgres.database() as url, connected(url) as intruder:
        log = SqlEventLog(write_engine(url), read_engine(url))
        intruder.execute("SET session_replication_role = replica")
        yield log, intruder
        log.close()


@settings(MANY, max_examples=40)
@given(st.lists(st.tuples(sql_events(), st.sampled_from("ab")), min_size=1, max_size=4), st.data())
def test_an_edit_of_a_stored_row_is_named(
    sql_log: tuple[SqlEventLog, psycopg.Connection],
    appends: list[tuple[tuple[NewEvent, ...], str]],
    data: st.DataObject,
) -> None:
    log, intruder = sql_log
    head = _written(log, f"{STREAM}{next(NUMBERS)}", appends)
    events = list(log.read(head))
    assert _named(log, head) is None
    seq = data.draw(st.integers(1, len(events)))
    field = data.draw(st.sampled_from(EDITS))
    named = _edit(intruder, head, events[seq - 1], field, data)
    assert _named(log, head) == named


def _written(
    log: SqlEventLog, stream_id: str, appends: list[tuple[tuple[NewEvent, ...], str]]
) -> Head:
    for events, owner in appends:
        (head,) = log.write([Claim(stream_id, owner)])
        assert isinstance(head, Head)
        (head,) = log.write([Append(head, events, Summary(listed=True, active=False, body=b""))])
        assert isinstance(head, Head)
    return head


def _named(log: SqlEventLog, head: Head) -> int | None:
    """Return what an audit names that reads all there is of the stream."""
    stored = log.read(head, after=-(2**63) + 1, before=2**63 - 1)
    try:
        seq, last_hash = chain.verify(head.stream_id, stored)
    except CorruptLogError as error:
        return error.seq
    return None if (seq, last_hash) == (head.version, head.hash) else seq + 1


def _edit(
    intruder: psycopg.Connection, head: Head, event: StoredEvent, field: str, data: st.DataObject
) -> int | None:
    """Edit the row and return the seq that must be named."""
    place = (head.row, event.seq)
    at = "WHERE stream = %s AND seq = %s"
    if field == "deleted":
        intruder.execute(f"DELETE FROM events {at}", place)
        return event.seq
    if field == "erased":
        intruder.execute(f"UPDATE events SET payload = NULL, salt = NULL {at}", place)
        return None
    if field == "duplicated":
        names = ", ".join(StoredEvent.__struct_fields__[1:])
        intruder.execute(
            f"INSERT INTO events (stream, seq, {names}) SELECT stream, %s, {names}"
            f" FROM events {at}",
            (head.version + 1, *place),
        )
        return head.version + 1
    if field == "swapped":
        assume(event.seq > 1)
        for new, old in ((0, event.seq), (event.seq, event.seq - 1), (event.seq - 1, 0)):
            intruder.execute(f"UPDATE events SET seq = %s {at}", (new, head.row, old))
        return event.seq - 1
    value = data.draw(SQL_VALUES[field])
    assume(value != getattr(event, field))
    intruder.execute(f"UPDATE events SET {field} = %s {at}", (value, *place))
    return 1 if field == "seq" and value < 0 else event.seq
