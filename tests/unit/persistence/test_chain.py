from collections.abc import Callable

import pytest
from msgspec.structs import replace

from persistence import chain
from persistence.errors import CorruptLogError
from persistence.in_memory import InMemoryEventLog
from persistence.records import (
    GENESIS_HASH,
    Append,
    Claim,
    Head,
    NewEvent,
    StoredEvent,
    Summary,
)

STREAM = "session:a"
SUMMARY = Summary(listed=True, active=False, body=b"{}")

Events = list[StoredEvent]


@pytest.fixture
def stored() -> Events:
    """Five events, the last two of epoch 2."""
    log = InMemoryEventLog(clock_us=lambda: 1_000_000)
    for owner, count in (("first", 3), ("second", 2)):
        (head,) = log.write([Claim(STREAM, owner)])
        assert isinstance(head, Head)
        events = tuple(
            NewEvent("prompt.queued", 1, b'{"n":%d}' % n, "alice", "prompt 1", 1)
            for n in range(count)
        )
        log.write([Append(head, events, SUMMARY)])
    head = log.head(STREAM)
    assert head is not None
    return list(log.read(head))


def first_bad_seq(events: Events) -> int:
    with pytest.raises(CorruptLogError) as caught:
        chain.verify(STREAM, events)
    assert caught.value.stream_id == STREAM
    assert str(caught.value).startswith(f"{STREAM} is damaged at seq {caught.value.seq}: ")
    return caught.value.seq


def relinked(events: Events, start: int, **changes: object) -> Events:
    """Change an event and give it and all after it new hashes, as a forger would."""
    events = list(events)
    events[start] = replace(events[start], **changes)
    previous = events[start - 1].hash if start else GENESIS_HASH
    for index in range(start, len(events)):
        event = events[index]
        previous = chain.link(
            previous,
            STREAM,
            event.seq,
            event.epoch,
            event.recorded_at,
            event,
            chain.digest_of(event.salt or b"", event.payload or b""),
        )
        events[index] = replace(event, hash=previous)
    return events


def test_an_untouched_stream_verifies_and_ends_at_its_last_hash(stored: Events) -> None:
    assert chain.verify(STREAM, stored) == (5, stored[-1].hash)


def test_no_events_end_where_they_begin() -> None:
    assert chain.verify(STREAM, []) == (0, GENESIS_HASH)
    assert chain.verify(STREAM, [], after=7, previous=b"h" * 32) == (7, b"h" * 32)


def test_a_tail_verifies_from_the_hash_before_it(stored: Events) -> None:
    end = chain.verify(STREAM, stored[2:], after=2, previous=stored[1].hash)
    assert end == (5, stored[-1].hash)


def test_a_tail_does_not_verify_from_another_hash(stored: Events) -> None:
    with pytest.raises(CorruptLogError) as caught:
        chain.verify(STREAM, stored[2:], after=2, previous=stored[0].hash)
    assert caught.value.seq == 3


def test_events_do_not_verify_as_another_stream(stored: Events) -> None:
    with pytest.raises(CorruptLogError) as caught:
        chain.verify("session:b", stored)
    assert (caught.value.stream_id, caught.value.seq) == ("session:b", 1)


@pytest.mark.parametrize("index", [0, 2, 4])
@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("payload", lambda old: old + b" "),
        ("payload", lambda _: b""),
        ("payload", lambda _: None),
        ("salt", lambda old: bytes(16) if old != bytes(16) else b"1" * 16),
        ("salt", lambda _: None),
        ("payload_digest", lambda _: b"x" * 32),
        ("payload_digest", lambda _: b"x"),
        ("hash", lambda old: bytes([old[0] ^ 1]) + old[1:]),
        ("type", lambda _: "prompt.cancelled"),
        ("schema_version", lambda old: old + 1),
        ("recorded_at", lambda old: old - 1),
        ("principal", lambda _: "mallory"),
        ("principal", lambda _: None),
        ("correlation_id", lambda _: "prompt 2"),
        ("correlation_id", lambda _: None),
        ("causation_seq", lambda old: old + 1),
        ("causation_seq", lambda _: None),
        ("epoch", lambda old: old + 1),
        ("epoch", lambda old: old - 1),
        ("seq", lambda old: old + 1),
    ],
)
def test_a_changed_field_is_named_by_its_seq(
    stored: Events, index: int, field: str, change: Callable[[object], object]
) -> None:
    changed = replace(stored[index], **{field: change(getattr(stored[index], field))})
    assert first_bad_seq([*stored[:index], changed, *stored[index + 1 :]]) == index + 1


def test_a_payload_with_a_digest_to_match_breaks_the_chain(stored: Events) -> None:
    salt = b"0" * 16
    stored[2] = replace(
        stored[2], payload=b"{}", salt=salt, payload_digest=chain.digest_of(salt, b"{}")
    )
    assert first_bad_seq(stored) == 3


def test_a_changed_event_with_a_hash_to_match_is_named_by_the_next(stored: Events) -> None:
    forged = relinked(stored, 1, principal="mallory")
    assert first_bad_seq([*stored[:1], forged[1], *stored[2:]]) == 3


def test_a_salt_that_takes_bytes_from_its_payload_is_named(stored: Events) -> None:
    salt, payload = stored[2].salt, stored[2].payload
    assert salt is not None
    assert payload is not None
    stored[2] = replace(stored[2], salt=salt + payload[:1], payload=payload[1:])
    assert first_bad_seq(stored) == 3


@pytest.mark.parametrize("index", [0, 1, 3])
def test_a_missing_event_is_named(stored: Events, index: int) -> None:
    del stored[index]
    assert first_bad_seq(stored) == index + 1


def test_a_missing_event_stays_missing_when_the_others_move_up(stored: Events) -> None:
    moved = [replace(event, seq=event.seq - 1) for event in stored[2:]]
    assert first_bad_seq([stored[0], *moved]) == 2


def test_a_cut_off_tail_shows_in_where_the_chain_ends(stored: Events) -> None:
    assert chain.verify(STREAM, stored[:3]) == (3, stored[2].hash)


def test_swapped_events_are_named_by_the_first(stored: Events) -> None:
    assert first_bad_seq([stored[0], stored[2], stored[1], *stored[3:]]) == 2


def test_events_whose_contents_are_swapped_are_named_by_the_first(stored: Events) -> None:
    swapped = [replace(stored[3], seq=2), stored[2], replace(stored[1], seq=4)]
    assert first_bad_seq([stored[0], *swapped, stored[4]]) == 2


def test_a_duplicated_event_is_named_where_it_does_not_belong(stored: Events) -> None:
    assert first_bad_seq([*stored[:2], stored[1], *stored[2:]]) == 3


def test_an_epoch_that_falls_is_named_even_when_every_hash_fits(stored: Events) -> None:
    forged = relinked(stored, 4, epoch=1)
    with pytest.raises(CorruptLogError, match="epoch 1 follows epoch 2") as caught:
        chain.verify(STREAM, forged)
    assert caught.value.seq == 5


def erased(event: StoredEvent) -> StoredEvent:
    assert event.salt is not None
    assert event.payload is not None
    digest = chain.digest_of(event.salt, event.payload)
    return replace(event, payload=None, salt=None, payload_digest=digest)


def test_an_erased_payload_still_verifies(stored: Events) -> None:
    end = (5, stored[-1].hash)
    for index in (0, 4, 2):
        stored[index] = erased(stored[index])
        assert chain.verify(STREAM, stored) == end


def test_a_digest_that_is_stored_beside_its_payload_verifies(stored: Events) -> None:
    """Before 0004 all were stored."""
    digest = erased(stored[2]).payload_digest
    stored[2] = replace(stored[2], payload_digest=digest)
    assert chain.verify(STREAM, stored) == (5, stored[-1].hash)


@pytest.mark.parametrize("field", ["payload_digest", "hash"])
def test_an_erased_event_is_still_bound_by_its_digest_and_hash(stored: Events, field: str) -> None:
    stored[2] = replace(erased(stored[2]), **{field: b"x" * 32})
    assert first_bad_seq(stored) == 3


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33])
def test_a_payload_that_is_gone_without_a_digest_is_named(stored: Events, digest: bytes) -> None:
    stored[2] = replace(stored[2], payload=None, salt=None, payload_digest=digest)
    with pytest.raises(CorruptLogError, match="gone without a digest") as caught:
        chain.verify(STREAM, stored)
    assert caught.value.seq == 3


@pytest.mark.parametrize("gone", ["payload", "salt"])
def test_payload_and_salt_are_only_gone_together(stored: Events, gone: str) -> None:
    half = replace(stored[2], payload_digest=erased(stored[2]).payload_digest)
    stored[2] = replace(half, **{gone: None})
    assert first_bad_seq(stored) == 3
