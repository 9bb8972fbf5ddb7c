"""Any single edit of a stored stream is named, at the first seq that it touches."""

import itertools
import random
from collections.abc import Iterable
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from persistence import chain
from persistence.errors import CorruptLogError
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Claim, Head, NewEvent, StoredEvent, Summary

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


def digest_of(event: StoredEvent) -> bytes:
    assert event.salt is not None
    assert event.payload is not None
    return chain.digest_of(event.salt, event.payload)


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
    events[index] = replace(events[index], payload_digest=digest_of(events[index]))
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
        events[index] = replace(
            events[index], payload=None, salt=None, payload_digest=digest_of(events[index])
        )
    assert first_bad_seq(head, events) is None
    for index in erased:
        events[index] = replace(events[index], payload_digest=b"")
    assert first_bad_seq(head, events) == (min(erased) + 1 if erased else None)


@MANY
@given(streams(), st.data())
def test_a_stored_digest_is_no_damage(
    stream: tuple[Head, list[StoredEvent]], data: st.DataObject
) -> None:
    head, events = stream
    index = data.draw(st.integers(0, len(events) - 1))
    events[index] = replace(events[index], payload_digest=digest_of(events[index]))
    assert first_bad_seq(head, events) is None
