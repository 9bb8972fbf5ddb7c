"""What every event log keeps to; a store binds it by a fixture that opens empty logs."""

import itertools
import json
import random
from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Protocol

import pytest

from persistence import chain
from persistence.errors import (
    ConflictError,
    LeaseLostError,
    OwnedElsewhereError,
    PersistenceError,
)
from persistence.event_log import EventLog
from persistence.log_reader import READ_CHUNK_ROWS_MAX
from persistence.records import (
    GENESIS_HASH,
    SHARED,
    Answer,
    Append,
    Claim,
    Cursor,
    Head,
    NewEvent,
    Release,
    Snapshot,
    StoredEvent,
    Summary,
)
from persistence.schema import PAGED_TYPES

LISTED = Summary(listed=True, active=False, body=b'{"title": "listed"}')
ACTIVE = Summary(listed=True, active=True, body=b'{"title": "active"}')
HIDDEN = Summary(listed=False, active=False, body=b"")

MANY_EVENTS = 2 * READ_CHUNK_ROWS_MAX + 300


AFTER = (0, 1, 1_001, MANY_EVENTS - 1, MANY_EVENTS + 9)
BEFORE = (None, 0, 2, 1_001, MANY_EVENTS + 9)
LIMIT = (None, 0, 1, 1_000, 1_001, 9_999)


def windows() -> Iterator[tuple[int, int | None, int | None]]:
    """Yield windows of a long stream in which any two bounds meet each other once at least."""
    for (first, after), (second, before), (third, limit) in itertools.product(
        enumerate(AFTER), enumerate(BEFORE), enumerate(LIMIT)
    ):
        if (first + second + third) % 5 == 0:
            yield after, before, limit


class OpenLog(Protocol):
    """Opens an empty log; called again, another one."""

    def __call__(
        self, *, clock_us: Callable[[], int], random_bytes: Callable[[int], bytes]
    ) -> EventLog: ...


def open_seeded(open_log: OpenLog) -> EventLog:
    """Open a log whose times and salts are the same in every run."""
    return open_log(
        clock_us=itertools.count(1_700_000_000_000_000).__next__,
        random_bytes=random.Random(2024).randbytes,
    )


def event(payload: str = "{}", wire_name: str = "text.delta") -> NewEvent:
    return NewEvent(wire_name, 1, payload.encode())


def require_head(outcome: Head | PersistenceError) -> Head:
    assert isinstance(outcome, Head), outcome
    return outcome


def claim(log: EventLog, stream_id: str = "stream", owner: str = "me") -> Head:
    (outcome,) = log.write([Claim(stream_id, owner)])
    return require_head(outcome)


def append(
    log: EventLog,
    head: Head,
    *events: NewEvent,
    summary: Summary = LISTED,
    snapshot: Snapshot | None = None,
) -> Head:
    (outcome,) = log.write([Append(head, events or (event(),), summary, snapshot)])
    return require_head(outcome)


def payloads(log: EventLog, head: Head) -> list[bytes | None]:
    return [stored.payload for stored in log.read(head)]


def traces(log: EventLog, stream_id: str) -> tuple[object, ...]:
    """Everything that a write to a stream could have changed."""
    head = log.head(stream_id)
    assert head is not None
    return head, list(log.read(head, before=1_000)), log.entries(), log.active()


class EventLogContract:
    """Every test gets a log of its own."""

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_seeded(open_log)

    # Claims

    def test_a_stream_that_nobody_claimed_has_no_head(self, log: EventLog) -> None:
        claim(log, "another")
        assert log.head("stream") is None

    def test_a_claim_creates_the_stream_at_version_0_with_the_genesis_hash(
        self, log: EventLog
    ) -> None:
        head = claim(log)
        assert (head.stream_id, head.version, head.hash) == ("stream", 0, GENESIS_HASH)
        assert head.epoch == 1
        assert log.head("stream") == head
        assert list(log.read(head)) == []
        assert log.entries() == []
        assert log.active() == []

    def test_streams_get_rows_of_their_own_that_grow(self, log: EventLog) -> None:
        rows = [claim(log, stream_id).row for stream_id in ("b", "a", "c")]
        assert rows == sorted(set(rows))
        assert min(rows) > 0

    def test_the_same_owner_keeps_its_epoch(self, log: EventLog) -> None:
        head = append(log, claim(log))
        assert claim(log) == head

    def test_another_owner_raises_the_epoch_and_keeps_the_rest(self, log: EventLog) -> None:
        head = append(log, claim(log))
        taken = claim(log, owner="another")
        assert taken == Head(head.row, "stream", head.version, head.hash, head.epoch + 1)
        assert log.head("stream") == taken
        assert claim(log, owner="me").epoch == head.epoch + 2

    def test_a_claim_leaves_the_other_streams_alone(self, log: EventLog) -> None:
        other = claim(log, "other")
        claim(log, owner="another")
        assert log.head("other") == other

    # Appends

    def test_an_append_returns_the_new_head(self, log: EventLog) -> None:
        before = claim(log)
        head = append(log, before, event("1"), event("2"))
        assert (head.row, head.stream_id, head.epoch) == (before.row, "stream", before.epoch)
        assert head.version == 2
        assert head.hash == list(log.read(head))[-1].hash
        assert log.head("stream") == head

    def test_seqs_are_1_to_n_without_gaps(self, log: EventLog) -> None:
        head = claim(log)
        for count in (1, 3, 2, 5):
            head = append(log, head, *(event(str(n)) for n in range(count)))
        assert [stored.seq for stored in log.read(head)] == list(range(1, 12))

    def test_an_event_is_read_back_as_it_was_appended(self, open_log: OpenLog) -> None:
        log = open_log(clock_us=lambda: 1_234_567, random_bytes=random.Random(1).randbytes)
        full = NewEvent("prompt.queued", 32_767, b"\x00\xff{}", "Zoë \u2028'", "prompt 1", 2**53)
        bare = NewEvent("text.delta", 1, b"")
        claim(log, owner="before")
        head = append(log, claim(log), full, bare)
        first, second = log.read(head)
        assert first.salt is not None
        assert second.salt is not None
        assert first == StoredEvent(
            1,
            2,
            "prompt.queued",
            32_767,
            1_234_567,
            "Zoë \u2028'",
            "prompt 1",
            2**53,
            b"\x00\xff{}",
            first.salt,
            chain.DERIVED,
            first.hash,
        )
        assert (second.principal, second.correlation_id, second.causation_seq) == (None,) * 3
        assert second.payload == b""

    def test_an_append_with_a_stale_version_writes_nothing(self, log: EventLog) -> None:
        stale = claim(log)
        append(log, stale, event("first"))
        before = traces(log, "stream")
        (outcome,) = log.write([Append(stale, (event("late"),), ACTIVE, Snapshot(1, 1, b"late"))])
        assert type(outcome) is ConflictError
        assert traces(log, "stream") == before
        head = log.head("stream")
        assert head is not None
        assert log.snapshot(head, 1) is None

    def test_an_append_with_a_version_ahead_writes_nothing(self, log: EventLog) -> None:
        head = append(log, claim(log))
        before = traces(log, "stream")
        ahead = Head(head.row, "stream", 2, head.hash, head.epoch)
        (outcome,) = log.write([Append(ahead, (event(),), LISTED)])
        assert type(outcome) is ConflictError
        assert traces(log, "stream") == before

    def test_an_append_with_an_old_epoch_writes_nothing(self, log: EventLog) -> None:
        old = append(log, claim(log), event("mine"))
        claim(log, owner="another")
        before = traces(log, "stream")
        (outcome,) = log.write([Append(old, (event("late"),), ACTIVE, Snapshot(1, 1, b"late"))])
        assert type(outcome) is LeaseLostError
        assert traces(log, "stream") == before

    def test_an_old_epoch_counts_for_more_than_a_stale_version(self, log: EventLog) -> None:
        old = claim(log)
        append(log, claim(log, owner="another"))
        (outcome,) = log.write([Append(old, (event(),), LISTED)])
        assert type(outcome) is LeaseLostError

    def test_an_append_without_events_replaces_the_summary_only(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"))
        (outcome,) = log.write([Append(head, (), ACTIVE)])
        assert outcome == head
        assert payloads(log, head) == [b"1"]
        assert [entry.summary for entry in log.entries()] == [ACTIVE]

    # Batches

    def test_an_empty_batch_has_no_outcome(self, log: EventLog) -> None:
        assert log.write([]) == []

    def test_a_batch_carries_several_events_of_several_streams(self, log: EventLog) -> None:
        heads = [claim(log, stream_id) for stream_id in "abc"]
        outcomes = log.write(
            [
                Append(head, tuple(event(f"{head.stream_id}{n}") for n in range(count)), LISTED)
                for head, count in zip(heads, (2, 1, 3), strict=True)
            ]
        )
        a, b, c = map(require_head, outcomes)
        assert [head.stream_id for head in (a, b, c)] == ["a", "b", "c"]
        assert payloads(log, a) == [b"a0", b"a1"]
        assert payloads(log, b) == [b"b0"]
        assert payloads(log, c) == [b"c0", b"c1", b"c2"]
        assert [log.head(stream_id) for stream_id in "abc"] == [a, b, c]

    def test_a_batch_carries_claims_and_appends(self, log: EventLog) -> None:
        head = claim(log, "a")
        created, moved, taken = map(
            require_head,
            log.write([Claim("b", "me"), Append(head, (event(),), LISTED), Claim("c", "me")]),
        )
        assert [created.stream_id, moved.stream_id, taken.stream_id] == ["b", "a", "c"]
        assert (created.version, moved.version, taken.version) == (0, 1, 0)

    def test_a_claim_sees_what_was_appended_before_it_in_the_batch(self, log: EventLog) -> None:
        head = claim(log)
        moved, claimed = log.write([Append(head, (event(),), LISTED), Claim("stream", "me")])
        assert claimed == moved == log.head("stream")

    def test_an_append_after_anothers_claim_in_the_batch_is_refused(self, log: EventLog) -> None:
        head = claim(log)
        taken, refused = log.write([Claim("stream", "another"), Append(head, (event(),), LISTED)])
        assert log.head("stream") == taken
        assert type(refused) is LeaseLostError

    def test_an_append_before_anothers_claim_in_the_batch_is_written(self, log: EventLog) -> None:
        head = claim(log)
        outcomes = log.write([Append(head, (event("1"),), LISTED), Claim("stream", "another")])
        moved, taken = map(require_head, outcomes)
        assert taken == Head(head.row, "stream", 1, moved.hash, moved.epoch + 1)
        assert payloads(log, taken) == [b"1"]

    def test_a_conflict_disturbs_no_other_write_of_its_batch(self, log: EventLog) -> None:
        a, stale, c = (claim(log, stream_id) for stream_id in "abc")
        b = append(log, stale, event("b0"))
        outcomes = log.write(
            [
                Append(a, (event("a0"), event("a1")), LISTED),
                Append(stale, (event("late"), event("later")), LISTED),
                Claim("d", "me"),
                Append(c, (event("c0"),), LISTED, Snapshot(1, 1, b"c")),
            ]
        )
        assert type(outcomes[1]) is ConflictError
        a, d, c = (require_head(outcomes[index]) for index in (0, 2, 3))
        assert [log.head(stream_id) for stream_id in "abcd"] == [a, b, c, d]
        assert payloads(log, a) == [b"a0", b"a1"]
        assert payloads(log, b) == [b"b0"]
        assert payloads(log, c) == [b"c0"]
        assert log.snapshot(c, 1) == Snapshot(1, 1, b"c")
        for head in (a, b, c):
            assert chain.verify(head.stream_id, log.read(head)) == (head.version, head.hash)

    def test_a_lost_lease_disturbs_no_other_write_of_its_batch(self, log: EventLog) -> None:
        old, b = claim(log, "a"), claim(log, "b")
        taken = claim(log, "a", owner="another")
        refused, moved = log.write(
            [Append(old, (event("late"),), LISTED), Append(b, (event("b0"),), LISTED)]
        )
        assert type(refused) is LeaseLostError
        assert log.head("a") == taken
        assert payloads(log, require_head(moved)) == [b"b0"]

    def test_of_two_appends_to_one_head_in_a_batch_the_first_is_written(
        self, log: EventLog
    ) -> None:
        head = claim(log)
        moved, refused = log.write(
            [Append(head, (event("first"),), LISTED), Append(head, (event("second"),), LISTED)]
        )
        assert type(refused) is ConflictError
        assert payloads(log, require_head(moved)) == [b"first"]
        assert log.head("stream") == moved

    # Reading

    @pytest.mark.parametrize("paged", [False, True])
    @pytest.mark.parametrize("newest_first", [False, True])
    def test_any_window_of_a_long_stream_is_read_in_order(
        self, log: EventLog, *, newest_first: bool, paged: bool
    ) -> None:
        wire_names = (*PAGED_TYPES, "text.delta", PAGED_TYPES[0], PAGED_TYPES[1])
        written = [event(str(n), wire_names[n % 5]) for n in range(MANY_EVENTS)]
        stored = list(enumerate(written, start=1))
        other, head = claim(log, "other"), claim(log)
        for start in range(0, MANY_EVENTS, 700):
            other = append(log, other, event("other", PAGED_TYPES[0]))
            head = append(log, head, *written[start : start + 700])
        shown = [(seq, new) for seq, new in stored if not paged or new.type in PAGED_TYPES]
        if newest_first:
            shown.reverse()
        for after, before, limit in windows():
            found = log.read(
                head,
                after=after,
                before=before,
                limit=limit,
                newest_first=newest_first,
                paged=paged,
            )
            end = MANY_EVENTS + 1 if before is None else before
            expected = [(seq, new.payload) for seq, new in shown if after < seq < end][:limit]
            assert [(each.seq, each.payload) for each in found] == expected, (after, before, limit)

    def test_a_head_bounds_what_is_read_by_it(self, log: EventLog) -> None:
        early = append(log, claim(log), event("1"), event("2"))
        append(log, early, event("3"))
        assert payloads(log, early) == [b"1", b"2"]

    def test_reading_goes_on_while_the_stream_grows(self, log: EventLog) -> None:
        head = append(log, claim(log), *(event() for _ in range(READ_CHUNK_ROWS_MAX + 10)))
        reading = log.read(head)
        seqs = [next(reading).seq]
        append(log, head, event("later"))
        seqs += [stored.seq for stored in reading]
        assert seqs == list(range(1, head.version + 1))

    # The chain

    def test_what_was_read_verifies_up_to_the_head(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"), event("2"))
        append(log, claim(log, "other"), event("1"))
        head = append(log, claim(log, owner="another"), event("3"))
        assert chain.verify("stream", log.read(head)) == (3, head.hash)
        first, second, third = log.read(head)
        assert [each.epoch for each in (first, second, third)] == [1, 1, 2]
        tail = log.read(head, after=1)
        assert chain.verify("stream", tail, after=1, previous=first.hash) == (3, head.hash)

    def test_every_event_has_its_own_salt(self, log: EventLog) -> None:
        head = append(log, claim(log), *(event("same") for _ in range(3)))
        head = append(log, head, *(event("same") for _ in range(3)))
        salts = set()
        for stored in log.read(head):
            assert stored.salt is not None
            assert len(stored.salt) == chain.SALT_BYTES
            salts.add(stored.salt)
        assert len(salts) == 6

    def test_the_same_writes_give_the_same_hashes_as_the_rules_of_the_chain(
        self, open_log: OpenLog
    ) -> None:
        """Two logs agree, and so does a third way: the published formula, from the inputs only."""
        logs = [open_seeded(open_log) for _ in range(2)]
        for log in logs:
            head = append(log, claim(log), event("1"), event("2"))
            append(log, claim(log, owner="another"), event("3"))
            assert head.version == 2
        first, second = (log.head("stream") for log in logs)
        assert first is not None
        assert first == second
        assert list(logs[0].read(first)) == list(logs[1].read(first))
        assert first.hash == _hash_by_hand(
            ("1", 1, 1_700_000_000_000_001),
            ("2", 1, 1_700_000_000_000_001),
            ("3", 2, 1_700_000_000_000_003),
        )

    # Snapshots

    def test_a_stream_begins_without_a_snapshot(self, log: EventLog) -> None:
        assert log.snapshot(append(log, claim(log)), 1) is None

    def test_the_newest_snapshot_at_or_before_the_seq_is_returned(self, log: EventLog) -> None:
        head = claim(log)
        for seq in (2, 4, 6):
            head = append(
                log, head, event(), event(), snapshot=Snapshot(seq, 1, f"at {seq}".encode())
            )
        head = append(log, head)
        found = {at: log.snapshot(head, 1, at=at) for at in (None, 7, 6, 5, 4, 3, 2, 1, 0)}
        seqs = {at: snapshot.seq if snapshot else None for at, snapshot in found.items()}
        assert seqs == {None: 6, 7: 6, 6: 6, 5: 4, 4: 4, 3: 2, 2: 2, 1: None, 0: None}
        assert found[5] == Snapshot(4, 1, b"at 4")

    def test_a_head_bounds_the_snapshot_as_well(self, log: EventLog) -> None:
        early = append(log, claim(log), snapshot=Snapshot(1, 1, b"early"))
        append(log, early, snapshot=Snapshot(2, 1, b"late"))
        assert log.snapshot(early, 1) == Snapshot(1, 1, b"early")

    def test_snapshots_of_another_shape_are_ignored(self, log: EventLog) -> None:
        head = append(log, claim(log), snapshot=Snapshot(1, 1, b"old shape"))
        head = append(log, head, snapshot=Snapshot(2, 2, b"new shape"))
        assert log.snapshot(head, 1) == Snapshot(1, 1, b"old shape")
        assert log.snapshot(head, 2) == Snapshot(2, 2, b"new shape")
        assert log.snapshot(head, 3) is None

    def test_snapshots_of_another_stream_are_ignored(self, log: EventLog) -> None:
        append(log, claim(log, "other"), snapshot=Snapshot(1, 1, b"other"))
        assert log.snapshot(append(log, claim(log)), 1) is None

    def test_a_snapshot_of_the_same_seq_is_replaced(self, log: EventLog) -> None:
        head = append(log, claim(log), snapshot=Snapshot(1, 1, b"first"))
        (outcome,) = log.write([Append(head, (), LISTED, Snapshot(1, 1, b"second"))])
        assert log.snapshot(require_head(outcome), 1) == Snapshot(1, 1, b"second")
        log.write([Append(head, (), LISTED, Snapshot(1, 2, b"third"))])
        assert log.snapshot(head, 1) is None
        assert log.snapshot(head, 2) == Snapshot(1, 2, b"third")

    # The list of streams

    def test_entries_are_the_listed_streams_oldest_first(self, log: EventLog) -> None:
        heads = [
            append(log, claim(log, stream_id), summary=summary)
            for stream_id, summary in (("c", LISTED), ("a", HIDDEN), ("b", ACTIVE))
        ]
        claim(log, "never appended to")
        assert [(entry.row, entry.stream_id, entry.summary) for entry in log.entries()] == [
            (heads[0].row, "c", LISTED),
            (heads[2].row, "b", ACTIVE),
        ]
        append(log, heads[0], summary=HIDDEN)
        assert [entry.stream_id for entry in log.entries()] == ["b"]
        hidden = {entry.stream_id for entry in log.entries(listed=False)}
        assert hidden & {"a", "b", "c"} == {"a", "c"}

    def test_entries_are_read_page_by_page(self, log: EventLog) -> None:
        for n in range(7):
            append(log, claim(log, f"s{n}"), summary=HIDDEN if n == 3 else LISTED)
        pages, after_row = [], 0
        for _ in range(4):
            page = log.entries(after_row=after_row, limit=2)
            pages.append([entry.stream_id for entry in page])
            after_row = page[-1].row if page else 0
        assert pages == [["s0", "s1"], ["s2", "s4"], ["s5", "s6"], []]

    def test_a_page_has_100_entries_unless_told(self, log: EventLog) -> None:
        log.write([Claim(f"s{n}", "me") for n in range(101)])
        for n in range(101):
            append(log, claim(log, f"s{n}"))
        assert [entry.stream_id for entry in log.entries()] == [f"s{n}" for n in range(100)]

    @pytest.mark.parametrize("prefix", ["", "a", "a%", "a_", "a\\", "a/", "a'", "a%b", "z", "é"])
    def test_a_prefix_is_taken_literally(self, log: EventLog, prefix: str) -> None:
        stream_ids = ["ab", "a%b", "a_b", "a\\b", "a/b", "a'b", "aéb", "éa", "ba", "%", "_"]
        for stream_id in stream_ids:
            append(log, claim(log, stream_id), summary=ACTIVE)
        expected = [each for each in stream_ids if each.startswith(prefix)]
        assert [entry.stream_id for entry in log.entries(prefix=prefix)] == expected
        assert log.active(prefix) == expected

    def test_a_prefix_knows_upper_from_lower_case(self, log: EventLog) -> None:
        for stream_id in ("team-a", "TEAM-a", "Team-a"):
            append(log, claim(log, stream_id), summary=ACTIVE)
        assert [entry.stream_id for entry in log.entries(prefix="TEAM")] == ["TEAM-a"]
        assert log.active("Team") == ["Team-a"]

    def test_active_streams_are_those_with_work_listed_or_not(self, log: EventLog) -> None:
        hidden = Summary(listed=False, active=True, body=b"")
        for stream_id, summary in (("c", ACTIVE), ("a", LISTED), ("b", hidden), ("d", ACTIVE)):
            append(log, claim(log, stream_id), summary=summary)
        assert log.active() == ["c", "b", "d"]
        head = log.head("c")
        assert head is not None
        append(log, head, summary=LISTED)
        assert log.active() == ["b", "d"]

    # Owners

    def test_a_released_stream_is_anybodys_and_keeps_its_epoch_until_it_is_claimed(
        self, log: EventLog
    ) -> None:
        head = append(log, claim(log), summary=ACTIVE)
        assert log.write([Release(head)]) == [head]
        assert log.head("stream") == head
        assert log.disowned("me", [head.row]) == [head.row]
        assert log.abandoned("another") == ["stream"]
        assert claim(log, owner="another").epoch == head.epoch + 1

    def test_who_released_a_stream_and_claims_it_again_has_a_new_epoch(self, log: EventLog) -> None:
        head = claim(log)
        log.write([Release(head)])
        assert claim(log).epoch == head.epoch + 1
        (refused,) = log.write([Append(head, (event("late"),), LISTED)])
        assert type(refused) is LeaseLostError

    def test_a_release_from_a_stale_head_changes_nothing(self, log: EventLog) -> None:
        old = claim(log)
        current = append(log, old)
        (refused,) = log.write([Release(old)])
        assert type(refused) is ConflictError
        assert log.disowned("me", [old.row]) == []
        claim(log, owner="another")
        (refused,) = log.write([Release(current)])
        assert type(refused) is LeaseLostError
        assert log.disowned("another", [old.row]) == []

    def test_a_release_sees_what_was_appended_before_it_in_the_batch(self, log: EventLog) -> None:
        head = claim(log)
        moved, refused = log.write([Append(head, (event(),), LISTED), Release(head)])
        assert log.head("stream") == moved
        assert type(refused) is ConflictError
        assert log.disowned("me", [head.row]) == []

    def test_disowned_are_those_of_the_given_streams_that_the_owner_does_not_own(
        self, log: EventLog
    ) -> None:
        mine, other, free, _ = (claim(log, stream_id) for stream_id in "abcd")
        claim(log, "b", owner="another")
        log.write([Release(free)])
        rows = [mine.row, other.row, free.row]
        assert sorted(log.disowned("me", rows)) == [other.row, free.row]
        assert sorted(log.disowned("another", rows)) == [mine.row, free.row]
        assert log.disowned("me", []) == []

    def test_a_shared_stream_is_everybodys_and_its_epoch_stays(self, log: EventLog) -> None:
        head = claim(log, owner=SHARED)
        assert claim(log, owner=SHARED) == head
        assert log.owner("stream") is None

    def test_a_stream_that_nobody_claimed_has_no_owner(self, log: EventLog) -> None:
        assert log.owner("stream") is None

    # Several streams at once

    def test_several_streams_are_read_on_from_where_each_is_known(self, log: EventLog) -> None:
        a, b, c = (claim(log, stream_id) for stream_id in "abc")
        for n in range(3):
            a = append(log, a, event(f"a{n}"))
            b, c = append(log, b, event(f"b{n}")), append(log, c, event(f"c{n}"))
        found = log.read_streams({a.row: 1, b.row: 0, c.row: 3})
        assert [each.payload for row, each in found if row == a.row] == [b"a1", b"a2"]
        assert [each for row, each in found if row == b.row] == list(log.read(b))
        assert {row for row, _ in found} == {a.row, b.row}

    def test_of_no_streams_and_unknown_ones_nothing_is_read(self, log: EventLog) -> None:
        head = append(log, claim(log))
        assert log.read_streams({}) == []
        assert log.read_streams({head.row + 1: 0, head.row: head.version + 9}) == []

    def test_long_streams_are_read_on_until_there_is_no_more(self, log: EventLog) -> None:
        heads = [claim(log, stream_id) for stream_id in "abc"]
        log.write([Append(head, (event(),) * 700, LISTED) for head in heads])
        known = {head.row: 0 for head in heads}
        for _ in range(4):
            for row, stored in log.read_streams(known):
                assert stored.seq == known[row] + 1
                known[row] = stored.seq
        assert set(known.values()) == {700}

    # All streams

    def test_the_tail_of_an_empty_log_is_empty(self, log: EventLog) -> None:
        claim(log)
        assert log.tail(Cursor(0, 0)) == []
        assert log.tail(log.end()) == []

    def test_the_tail_is_what_was_appended_in_its_order(self, log: EventLog) -> None:
        a, b = claim(log, "a"), claim(log, "b")
        for n in range(4):
            a = append(log, a, event(f"a{n}"))
            b = append(log, b, *(event(f"b{n}{m}") for m in range(n)))
        found = log.tail(Cursor(0, 0))
        assert [each.stream_id for each in found] == list("ab" + "ab" + "abb" + "abbb")
        assert [each.event for each in found if each.stream_id == "a"] == list(log.read(a))
        assert [each.event for each in found if each.stream_id == "b"] == list(log.read(b))
        cursors = [each.cursor for each in found]
        assert cursors == sorted(set(cursors))

    def test_a_batchs_events_are_tailed_each_stream_in_order(self, log: EventLog) -> None:
        heads = [claim(log, stream_id) for stream_id in "abc"]
        log.write([Append(head, (event(), event()), LISTED) for head in heads])
        found = [(each.stream_id, each.event.seq) for each in log.tail(Cursor(0, 0))]
        assert sorted(found) == [(name, seq) for name in "abc" for seq in (1, 2)]
        for name in "abc":
            assert [seq for stream_id, seq in found if stream_id == name] == [1, 2]

    @pytest.mark.parametrize("limit", [1, 2, 7])
    def test_the_tail_is_read_page_by_page_each_event_once(self, log: EventLog, limit: int) -> None:
        heads = [claim(log, stream_id) for stream_id in "abc"]
        log.write([Append(head, (event(),) * 5, LISTED) for head in heads])
        append(log, claim(log, "d"), event())
        pages, after = [], Cursor(0, 0)
        while page := log.tail(after, limit=limit):
            pages.append(page)
            after = page[-1].cursor
        assert [each for page in pages for each in page] == log.tail(Cursor(0, 0))
        assert [len(page) for page in pages] == [limit] * (16 // limit) + [
            left for left in (16 % limit,) if left
        ]

    def test_a_tail_has_1000_events_unless_told(self, log: EventLog) -> None:
        append(log, claim(log), *(event() for _ in range(1_001)))
        assert [each.event.seq for each in log.tail(Cursor(0, 0))] == list(range(1, 1_001))

    def test_a_tail_keeps_to_the_types_that_are_asked_for(self, log: EventLog) -> None:
        names = ("text.delta", "run.started", "text.delta", "run.completed")
        head = append(log, claim(log), *(event(wire_name=name) for name in names))
        seqs = {
            types: [each.event.seq for each in log.tail(Cursor(0, 0), types=types)]
            for types in ((), ("run.started",), ("run.completed", "run.started"), ("x'",))
        }
        assert seqs == {
            (): [1, 2, 3, 4],
            ("run.started",): [2],
            ("run.completed", "run.started"): [2, 4],
            ("x'",): [],
        }
        (first,) = log.tail(Cursor(0, 0), types={"text.delta"}, limit=1)
        (second,) = log.tail(first.cursor, types={"text.delta"}, limit=1)
        assert [each.event for each in (first, second)] == list(log.read(head))[::2]

    def test_after_the_end_there_is_only_what_is_appended_later(self, log: EventLog) -> None:
        head = append(log, claim(log), event("before"))
        end = log.end()
        assert log.tail(end) == []
        head = append(log, head, event("later"))
        (found,) = log.tail(end)
        assert (found.stream_id, found.event.payload) == ("stream", b"later")
        assert found.cursor > end
        assert log.tail(found.cursor) == log.tail(log.end()) == []

    # After an error

    def test_a_sound_log_reopens_and_carries_on(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"))
        claim(log, "empty")
        log.reopen()
        head = append(log, head, event("2"))
        assert payloads(log, head) == [b"1", b"2"]


class OwnedLogContract:
    """What a log keeps to that several processes share; ``live`` makes an owner alive in it."""

    @pytest.fixture
    def log(self, open_log: OpenLog, live: Callable[[str], object]) -> EventLog:
        log = open_seeded(open_log)
        live("elsewhere")
        return log

    def test_a_stream_of_a_living_owner_is_claimed_by_nobody_else(self, log: EventLog) -> None:
        head = append(log, claim(log, owner="elsewhere"), summary=ACTIVE)
        before = traces(log, "stream")
        (outcome,) = log.write([Claim("stream", "me")])
        assert isinstance(outcome, OwnedElsewhereError)
        assert outcome.owner == "elsewhere"
        assert traces(log, "stream") == before
        assert log.owner("stream") == "elsewhere"
        assert claim(log, owner="elsewhere") == head

    def test_a_claim_that_is_refused_disturbs_no_other_write_of_its_batch(
        self, log: EventLog
    ) -> None:
        owned, mine = claim(log, "owned", owner="elsewhere"), claim(log, "mine")
        outcomes = log.write(
            [Claim("owned", "me"), Append(mine, (event(),), LISTED), Claim("new", "me")]
        )
        assert isinstance(outcomes[0], OwnedElsewhereError)
        assert outcomes[1:] == [log.head("mine"), log.head("new")]
        assert log.head("owned") == owned

    def test_a_living_owner_may_let_a_stream_go(self, log: EventLog) -> None:
        head = claim(log, owner="elsewhere")
        log.write([Release(head)])
        assert log.owner("stream") is None
        assert claim(log).epoch == head.epoch + 1

    def test_an_owner_that_is_not_alive_owns_nothing(self, log: EventLog) -> None:
        claim(log, owner="dead")
        assert log.owner("stream") is None
        assert claim(log, owner="elsewhere").epoch == 2
        assert log.owner("stream") == "elsewhere"

    def test_abandoned_is_the_work_of_nobody_else_who_is_alive(
        self, log: EventLog, live: Callable[[str], object]
    ) -> None:
        live("me")
        owners = {"a": "me", "b": "elsewhere", "c": "dead", "x": "me", "d": "me"}
        for stream_id, owner in owners.items():
            append(log, claim(log, stream_id, owner=owner), summary=ACTIVE)
        append(log, claim(log, "e", owner="dead"), summary=LISTED)
        released = log.head("d")
        assert released is not None
        log.write([Release(released)])
        assert log.abandoned("me") == ["a", "c", "x", "d"]
        assert log.abandoned("me", "x") == ["x"]
        assert log.abandoned("elsewhere") == ["b", "c", "d"]
        assert log.abandoned("dead") == ["c", "d"]


class AnswerContract:
    """What a log keeps to that has an inbox: ``ask`` puts a message, ``answers`` reads them."""

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_seeded(open_log)

    def test_an_append_answers_those_who_asked_for_it(
        self, log: EventLog, ask: Callable[[], int], answers: Callable[[], dict[int, bytes | None]]
    ) -> None:
        first, second, third = ask(), ask(), ask()
        given = (Answer(first, "asker", b"\x00one"), Answer(third, "asker", b"three"))
        head = claim(log)
        (moved,) = log.write([Append(head, (event(),), LISTED, answers=given)])
        assert answers() == {first: b"\x00one", second: None, third: b"three"}
        again = (Answer(first, "asker", b"again"), Answer(999, "asker", b"to nobody"))
        log.write([Append(require_head(moved), (event(),), LISTED, answers=again)])
        assert answers() == {first: b"\x00one", second: None, third: b"three"}

    def test_an_append_that_is_refused_answers_nobody(
        self, log: EventLog, ask: Callable[[], int], answers: Callable[[], dict[int, bytes | None]]
    ) -> None:
        asked, other = ask(), ask()
        stale, head = claim(log), claim(log, "other")
        append(log, stale)
        refused, moved = log.write(
            [
                Append(stale, (event(),), LISTED, answers=(Answer(asked, "asker", b"late"),)),
                Append(head, (event(),), LISTED, answers=(Answer(other, "asker", b"done"),)),
            ]
        )
        assert type(refused) is ConflictError
        assert isinstance(moved, Head)
        assert answers() == {asked: None, other: b"done"}


def _hash_by_hand(*written: tuple[str, int, int]) -> bytes:
    """Return the last hash of the stream, by json and hashlib and the formula alone."""
    random_bytes = random.Random(2024).randbytes
    previous = bytes(32)
    for seq, (payload, epoch, recorded_at) in enumerate(written, start=1):
        digest = sha256(random_bytes(16) + payload.encode()).digest()
        fields = ["stream", seq, epoch, "text.delta", 1, recorded_at, None, None, None]
        envelope = json.dumps(fields, separators=(",", ":")).encode()
        previous = sha256(previous + envelope + digest).digest()
    return previous
