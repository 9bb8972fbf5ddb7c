"""What every event log keeps to when events are erased, brought in, and put under a tree."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from persistence import chain
from persistence.errors import ConflictError, LeaseLostError
from persistence.event_log import EventLog
from persistence.in_memory import InMemoryEventLog
from persistence.records import (
    Append,
    Claim,
    Cursor,
    Erasure,
    Head,
    Leaf,
    MemoryRow,
    Node,
    Restore,
    Snapshot,
    StoredEvent,
    StreamEntry,
)
from tests.contracts.event_log_contract import (
    ACTIVE,
    LISTED,
    OpenLog,
    append,
    claim,
    event,
    open_seeded,
    payloads,
    require_head,
    traces,
)
from tests.contracts.projection_contract import ReadRows

ReadTree = Callable[[EventLog], tuple[list[Leaf], list[Node]]]
"""Returns a log's leaves and nodes in their order."""

MEMORY = MemoryRow(1, "core", "fact", "tea", "likes tea", "manual", True, 1, 2)
MANY = 1_200
"""More events than are written or read at once."""


def erase(log: EventLog, head: Head, first: int, last: int, **options: Any) -> Head:
    erasure = Erasure(head.row, first, last, **options)
    (outcome,) = log.write([Append(head, (), LISTED, erasures=(erasure,))])
    return require_head(outcome)


def without_payload(stored: StoredEvent) -> StoredEvent:
    assert stored.salt is not None
    assert stored.payload is not None
    digest = chain.digest_of(stored.salt, stored.payload)
    return replace(stored, payload=None, salt=None, payload_digest=digest)


def recorded(count: int = 4) -> tuple[StoredEvent, ...]:
    """A stream of another log, of two epochs, whose second event is erased."""
    log = InMemoryEventLog(clock_us=lambda: 7_000_000)
    append(log, claim(log, "copied", "one"), event("1"), event("2", "run.started"))
    head = claim(log, "copied", "two")
    head = append(log, head, *[event(str(n)) for n in range(3, count + 1)])
    return tuple(log.read(erase(log, head, 2, 2)))


class RecordContract:
    """Every test gets a log of its own."""

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_seeded(open_log)

    # Erasures

    def test_an_erased_event_keeps_all_but_its_payload_and_the_chain_verifies(
        self, log: EventLog
    ) -> None:
        other = append(log, claim(log, "other"), event("other"))
        head = append(log, claim(log), *[event(str(n)) for n in range(1, 6)])
        before = list(log.read(head))
        assert erase(log, head, 2, 3) == head
        after = list(log.read(head))
        assert after[1:3] == [without_payload(each) for each in before[1:3]]
        assert [after[0], *after[3:]] == [before[0], *before[3:]]
        assert chain.verify("stream", after) == (head.version, head.hash)
        assert payloads(log, other) == [b"other"]
        tailed = [each.event for each in log.tail(Cursor(0, 0)) if each.stream_id == "stream"]
        assert tailed == after

    def test_what_is_erased_is_erased_with_the_events_that_say_so(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"), event("2"))
        erasure = Erasure(head.row, 1, 2)
        (outcome,) = log.write(
            [Append(head, (event("gone", "stream.erased"),), LISTED, erasures=(erasure,))]
        )
        assert payloads(log, require_head(outcome)) == [None, None, b"gone"]

    @pytest.mark.parametrize("stale", ["version", "epoch"])
    def test_an_append_that_is_refused_erases_nothing(self, log: EventLog, stale: str) -> None:
        old = append(log, claim(log), event("1"))
        if stale == "version":
            append(log, old, snapshot=Snapshot(1, 1, b"state"))
        else:
            claim(log, owner="another")
        before = traces(log, "stream")
        erasure, leaf, node = Erasure(old.row, 1, 9), Leaf(0, old.row, 1), Node(0, 0, b"h")
        refused = Append(
            old, (event(),), LISTED, erasures=(erasure,), leaves=(leaf,), nodes=(node,)
        )
        (outcome,) = log.write([refused])
        assert type(outcome) is (ConflictError if stale == "version" else LeaseLostError)
        assert traces(log, "stream") == before
        assert (log.snapshot(before[0], 1) is None) == (stale == "epoch")  # type: ignore[arg-type]  # a Head

    def test_only_the_types_asked_for_are_erased(self, log: EventLog) -> None:
        names = ("text.delta", "run.started", "thinking.delta", "text.delta")
        head = append(log, claim(log), *[event(name, name) for name in names])
        erase(log, head, 1, 3, types=("text.delta", "thinking.delta"))
        assert payloads(log, head) == [None, b"run.started", None, b"text.delta"]

    @pytest.mark.parametrize(("first", "last"), [(0, 9), (1, 2), (-5, 2)])
    def test_a_range_may_reach_past_both_ends(self, log: EventLog, first: int, last: int) -> None:
        head = append(log, claim(log), event("1"), event("2"))
        erase(log, head, first, last)
        assert payloads(log, head) == [None, None]

    def test_a_range_that_holds_nothing_erases_nothing(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"), event("2"))
        for first, last in ((3, 9), (2, 1), (-3, 0)):
            erase(log, head, first, last)
        assert payloads(log, head) == [b"1", b"2"]

    def test_what_is_erased_already_stays_as_it_is(self, log: EventLog) -> None:
        head = append(log, claim(log), event("1"), event("2"), event("3"))
        erase(log, head, 1, 2)
        before = list(log.read(head))
        erase(log, head, 1, 3)
        after = list(log.read(head))
        assert after == [*before[:2], without_payload(before[2])]

    def test_long_ranges_are_erased_whole(self, log: EventLog) -> None:
        head = append(log, claim(log), *[event(str(n)) for n in range(MANY)])
        erase(log, head, 1, MANY - 1)
        assert payloads(log, head) == [None] * (MANY - 1) + [str(MANY - 1).encode()]
        assert chain.verify("stream", log.read(head)) == (head.version, head.hash)

    def test_snapshots_of_the_stream_go_with_what_was_erased(self, log: EventLog) -> None:
        other = append(log, claim(log, "other"), snapshot=Snapshot(1, 1, b"other"))
        head = append(log, claim(log), snapshot=Snapshot(1, 1, b"quotes"))
        head = append(log, head, snapshot=Snapshot(2, 2, b"quotes too"))
        erase(log, head, 1, 1)
        assert [log.snapshot(head, version) for version in (1, 2)] == [None, None]
        assert log.snapshot(other, 1) == Snapshot(1, 1, b"other")

    def test_a_snapshot_that_comes_with_an_erasure_is_stored(self, log: EventLog) -> None:
        head = append(log, claim(log), snapshot=Snapshot(1, 1, b"quotes"))
        left = Snapshot(1, 1, b"left")
        log.write([Append(head, (), LISTED, left, erasures=(Erasure(head.row, 1, 1),))])
        assert log.snapshot(head, 1) == left

    def test_snapshots_can_be_kept(self, log: EventLog) -> None:
        head = append(log, claim(log), snapshot=Snapshot(1, 1, b"state"))
        erase(log, head, 1, 1, snapshots=False)
        assert log.snapshot(head, 1) == Snapshot(1, 1, b"state")
        assert payloads(log, head) == [None]

    def test_a_digest_that_was_stored_is_what_is_left(self, log: EventLog) -> None:
        """An earlier version stored them all; one that doesn't fit is damage, and stays."""
        first, second, *_ = recorded()
        damaged = replace(first, payload_digest=b"x" * 32)
        (outcome,) = log.write([Restore("copied", (damaged, second), LISTED)])
        erase(log, claim(log, "copied"), 1, 2)
        assert [each.payload_digest for each in log.read(require_head(outcome))] == [
            b"x" * 32,
            second.payload_digest,
        ]

    # Restored streams

    @pytest.mark.parametrize("count", [4, MANY])
    def test_a_stream_is_restored_bit_for_bit(
        self, log: EventLog, read_rows: ReadRows, count: int
    ) -> None:
        claim(log, "other")
        events = recorded(count)
        (outcome,) = log.write([Restore("copied", events, ACTIVE, (MEMORY,))])
        head = require_head(outcome)
        assert head == Head(head.row, "copied", count, events[-1].hash, 2)
        assert log.head("copied") == head
        assert tuple(log.read(head)) == events
        assert chain.verify("copied", log.read(head)) == (count, head.hash)
        assert log.entries() == [StreamEntry(head.row, "copied", ACTIVE)]
        assert log.active() == ["copied"]
        assert read_rows(log, head) == [MEMORY]
        after, tailed = Cursor(0, 0), []
        while page := log.tail(after):
            tailed += [(each.stream_id, each.event) for each in page]
            after = page[-1].cursor
        assert tailed == [("copied", each) for each in events]

    def test_a_restored_stream_is_nobodys_until_it_is_claimed_and_goes_on_then(
        self, log: EventLog
    ) -> None:
        events = recorded()
        (outcome,) = log.write([Restore("copied", events, ACTIVE)])
        restored = require_head(outcome)
        assert log.owner("copied") is None
        assert log.abandoned("me") == ["copied"]
        claimed = claim(log, "copied")
        assert claimed == replace(restored, epoch=restored.epoch + 1)
        (refused,) = log.write([Append(restored, (event("late"),), LISTED)])
        assert type(refused) is LeaseLostError
        head = append(log, claimed, event("on"))
        *copied, last = log.read(head)
        assert tuple(copied) == events
        assert (last.seq, last.epoch, last.payload) == (5, 3, b"on")
        assert chain.verify("copied", [*copied, last]) == (5, head.hash)
        log.reopen()

    def test_a_stream_that_is_there_is_not_restored(self, log: EventLog) -> None:
        append(log, claim(log, "copied"), event("mine"))
        before = traces(log, "copied")
        events = recorded()
        refused, other, again = log.write(
            [
                Restore("copied", events, ACTIVE, (MEMORY,)),
                Restore("another", events, LISTED),
                Restore("another", events, LISTED),
            ]
        )
        assert type(refused) is ConflictError
        assert type(again) is ConflictError
        assert log.head("another") == other
        assert traces(log, "copied")[:2] == before[:2]

    def test_a_claimed_stream_without_events_is_there_too(self, log: EventLog) -> None:
        head = claim(log, "copied")
        (refused,) = log.write([Restore("copied", recorded(), LISTED)])
        assert type(refused) is ConflictError
        assert log.head("copied") == head

    def test_a_batch_may_restore_claim_and_append(self, log: EventLog) -> None:
        mine = claim(log)
        events = recorded()
        outcomes = log.write(
            [
                Append(mine, (event("1"),), LISTED),
                Restore("copied", events, LISTED),
                Claim("copied", "me"),
                Append(mine, (event("late"),), LISTED),
            ]
        )
        moved, restored, claimed = map(require_head, outcomes[:3])
        assert type(outcomes[3]) is ConflictError
        assert (moved.version, restored.version) == (1, 4)
        assert claimed == log.head("copied") == replace(restored, epoch=3)
        assert tuple(log.read(claimed)) == events

    # The tree

    def test_leaves_and_nodes_are_stored_with_their_events(
        self, log: EventLog, read_tree: ReadTree
    ) -> None:
        a, b = (append(log, claim(log, name), event()) for name in "ab")
        shared = claim(log, "checkpoints")
        leaves = (Leaf(0, a.row, 1), Leaf(1, b.row, 1), Leaf(2, a.row, 2))
        nodes = (Node(0, 0, b"0" * 32), Node(0, 1, b"1" * 32), Node(1, 0, b"2" * 32))
        new = (event("{}", "checkpoint.signed"),)
        writes = [Append(shared, new, LISTED, leaves=leaves[:2], nodes=nodes)]
        moved = require_head(log.write(writes)[0])
        log.write([Append(moved, new, LISTED, leaves=leaves[2:], nodes=(Node(0, 2, b"3" * 32),))])
        (refused,) = log.write([Append(shared, new, LISTED, leaves=(Leaf(9, a.row, 1),))])
        assert type(refused) is ConflictError
        assert read_tree(log) == (
            list(leaves),
            [*nodes[:2], Node(0, 2, b"3" * 32), nodes[2]],
        )
