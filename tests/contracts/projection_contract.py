"""What every event log keeps to about projected rows; a store binds it like the log's contract."""

from typing import Protocol

import pytest

from persistence.errors import ConflictError, LeaseLostError
from persistence.event_log import EventLog
from persistence.memories import EPISODES_KEPT
from persistence.records import (
    Append,
    Claim,
    EpisodeRow,
    Head,
    MemoryRow,
    Reproject,
    Row,
    RowKey,
)
from tests.contracts.event_log_contract import (
    LISTED,
    OpenLog,
    claim,
    event,
    open_seeded,
    payloads,
    require_head,
    traces,
)


class ReadRows(Protocol):
    """Reads the rows of a head's stream, memories first, by id."""

    def __call__(self, log: EventLog, head: Head) -> list[Row]: ...


def memory(memory_id: int, key: str, content: str = "content", *, active: bool = True) -> MemoryRow:
    return MemoryRow(memory_id, "core", "fact", key, content, "manual", active, 1_000, 2_000)


def episode(episode_id: int, text: str = "text") -> EpisodeRow:
    return EpisodeRow(episode_id, "web:main", "session 1", "user", text, 1_000 + episode_id)


def append(log: EventLog, head: Head, *rows: Row) -> Head:
    (outcome,) = log.write([Append(head, (event(),), LISTED, None, rows)])
    return require_head(outcome)


class ProjectionContract:
    """Every test gets a log of its own."""

    @pytest.fixture
    def log(self, open_log: OpenLog) -> EventLog:
        return open_seeded(open_log)

    def test_a_stream_begins_without_rows(self, log: EventLog, read_rows: ReadRows) -> None:
        assert read_rows(log, claim(log)) == []

    def test_rows_are_read_back_as_they_were_appended(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        content = "a\x01b 'c' \"d\" | \u2028 日本語 🙂"
        full = MemoryRow(
            2, "archival", "secret", "naïve", content, "auto", False, 2**53, 1, 2, 3, 2**53
        )
        bare = MemoryRow(1, "", "", "", "", "", True, 0, 0)
        said = EpisodeRow(1, "web:main", "id", "assistant", content, 2**53)
        head = append(log, claim(log), full, said, bare)
        assert read_rows(log, head) == [bare, full, said]
        assert payloads(log, head) == [b"{}"]

    def test_a_row_takes_the_place_of_the_one_of_its_id(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        head = append(log, claim(log), memory(1, "a"), memory(2, "b"), episode(1), episode(2))
        head = append(log, head, memory(2, "b", "changed"), episode(1, "changed"))
        head = append(log, head)
        assert read_rows(log, head) == [
            memory(1, "a"),
            memory(2, "b", "changed"),
            episode(1, "changed"),
            episode(2),
        ]

    @pytest.mark.parametrize("active", [False, True])
    def test_of_several_rows_of_an_id_the_last_counts(
        self, log: EventLog, read_rows: ReadRows, active: bool
    ) -> None:
        first, last = memory(1, "a", active=not active), memory(1, "a", "last", active=active)
        rows = (first, episode(1), last, episode(1, "last"))
        head = append(log, claim(log), *rows)
        assert read_rows(log, head) == [last, episode(1, "last")]
        log.write([Reproject(head, rows)])
        assert read_rows(log, head) == [last, episode(1, "last")]

    def test_rows_need_no_events(self, log: EventLog, read_rows: ReadRows) -> None:
        head = claim(log)
        (outcome,) = log.write([Append(head, (), LISTED, None, (memory(1, "a"),))])
        assert outcome == head
        assert read_rows(log, head) == [memory(1, "a")]

    def test_every_stream_has_rows_of_its_own(self, log: EventLog, read_rows: ReadRows) -> None:
        one, other = claim(log, "one"), claim(log, "other")
        append(log, one, memory(1, "a", "one"), episode(1, "one"))
        append(log, other, memory(1, "a", "other"), episode(1, "other"))
        assert read_rows(log, one) == [memory(1, "a", "one"), episode(1, "one")]
        assert read_rows(log, other) == [memory(1, "a", "other"), episode(1, "other")]

    @pytest.mark.parametrize("taken_first", [False, True])
    def test_a_key_goes_from_one_memory_to_the_next(
        self, log: EventLog, read_rows: ReadRows, taken_first: bool
    ) -> None:
        head = append(log, claim(log), memory(1, "a"))
        rows = (memory(1, "a", active=False), memory(2, "a"))
        append(log, head, *(rows[::-1] if taken_first else rows))
        assert read_rows(log, head) == list(rows)

    # Together or not at all

    def test_an_append_with_a_stale_version_writes_no_row(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        stale = claim(log)
        append(log, stale, memory(1, "a"), episode(1))
        before = traces(log, "stream")
        late = (memory(1, "a", "late"), memory(2, "late"), episode(2))
        (outcome,) = log.write([Append(stale, (event("late"),), LISTED, None, late)])
        assert type(outcome) is ConflictError
        assert traces(log, "stream") == before
        assert read_rows(log, stale) == [memory(1, "a"), episode(1)]

    def test_an_append_with_an_old_epoch_writes_no_row(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        old = append(log, claim(log), memory(1, "a"))
        claim(log, owner="another")
        (outcome,) = log.write([Append(old, (event("late"),), LISTED, None, (memory(2, "b"),))])
        assert type(outcome) is LeaseLostError
        assert read_rows(log, old) == [memory(1, "a")]

    def test_a_conflict_leaves_the_other_rows_of_its_batch(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        a, stale, c = (claim(log, stream_id) for stream_id in "abc")
        append(log, stale, memory(1, "b"))
        outcomes = log.write(
            [
                Append(a, (event(),), LISTED, None, (memory(1, "a"), episode(1))),
                Append(stale, (event(),), LISTED, None, (memory(2, "late"),)),
                Append(c, (event(),), LISTED, None, (memory(1, "c"),)),
            ]
        )
        assert [type(outcome) for outcome in outcomes] == [Head, ConflictError, Head]
        assert read_rows(log, a) == [memory(1, "a"), episode(1)]
        assert read_rows(log, stale) == [memory(1, "b")]
        assert read_rows(log, c) == [memory(1, "c")]

    # Rebuilding

    def test_a_rebuild_replaces_all_rows_and_nothing_else(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        other = append(log, claim(log, "other"), memory(1, "a"), episode(1))
        head = append(log, claim(log), memory(1, "a"), memory(2, "b"), episode(1), episode(2))
        before = traces(log, "stream")
        rows = (memory(2, "a", "rebuilt"), memory(3, "c"), episode(2, "rebuilt"), episode(3))
        (outcome,) = log.write([Reproject(head, rows)])
        assert outcome == head
        assert read_rows(log, head) == list(rows)
        assert traces(log, "stream") == before
        assert read_rows(log, other) == [memory(1, "a"), episode(1)]
        (outcome,) = log.write([Reproject(head, ())])
        assert outcome == head
        assert read_rows(log, head) == []

    def test_a_rebuild_from_a_stale_version_changes_nothing(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        stale = append(log, claim(log), memory(1, "a"))
        append(log, stale, episode(1))
        (outcome,) = log.write([Reproject(stale, (memory(9, "late"),))])
        assert type(outcome) is ConflictError
        assert read_rows(log, stale) == [memory(1, "a"), episode(1)]

    def test_a_rebuild_with_an_old_epoch_changes_nothing(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        old = append(log, claim(log), memory(1, "a"))
        claim(log, owner="another")
        (outcome,) = log.write([Reproject(old, (memory(9, "late"),))])
        assert type(outcome) is LeaseLostError
        assert read_rows(log, old) == [memory(1, "a")]

    def test_a_rebuild_sees_what_was_appended_before_it_in_the_batch(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        head = claim(log)
        moved, refused = log.write(
            [
                Append(head, (event(),), LISTED, None, (memory(1, "a"),)),
                Reproject(head, (memory(9, "late"),)),
            ]
        )
        assert type(refused) is ConflictError
        assert log.head("stream") == moved
        assert read_rows(log, head) == [memory(1, "a")]

    def test_what_is_appended_after_a_rebuild_in_the_batch_adds_to_it(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        head = append(log, claim(log), memory(1, "a"), memory(2, "b"))
        outcomes = log.write(
            [
                Reproject(head, (memory(1, "a", "rebuilt"),)),
                Append(head, (event(),), LISTED, None, (memory(3, "c"),)),
                Claim("stream", "me"),
            ]
        )
        assert outcomes == [head, log.head("stream"), log.head("stream")]
        assert read_rows(log, head) == [memory(1, "a", "rebuilt"), memory(3, "c")]

    # Episodes that leave

    def test_the_newest_episodes_are_kept_and_their_ids_go_on(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        said = [episode(number) for number in range(1, EPISODES_KEPT + 6)]
        head = append(log, claim(log), memory(1, "a"))
        log.write([Reproject(head, (memory(1, "a"), *said[: EPISODES_KEPT + 2]))])
        assert read_rows(log, head) == [memory(1, "a"), *said[2 : EPISODES_KEPT + 2]]
        head = append(log, head, *said[EPISODES_KEPT + 2 :])
        assert read_rows(log, head) == [memory(1, "a"), *said[5:]]
        head = append(log, head, episode(5, "too old"), episode(6, "kept"))
        assert read_rows(log, head) == [memory(1, "a"), episode(6, "kept"), *said[6:]]

    def test_dropped_rows_are_gone_before_others_are_written(
        self, log: EventLog, read_rows: ReadRows
    ) -> None:
        head = append(log, claim(log), memory(1, "a"), memory(2, "b"), episode(1), episode(2))
        rows = (memory(2, "b", "learnt elsewhere"),)
        dropped = (RowKey(1), RowKey(2), RowKey(1, episode=True), RowKey(7))
        (outcome,) = log.write([Append(head, (event(),), LISTED, rows=rows, dropped=dropped)])
        head = require_head(outcome)
        assert read_rows(log, head) == [*rows, episode(2)]
        append(log, head, memory(1, "a", "another"))
        assert read_rows(log, head) == [memory(1, "a", "another"), *rows, episode(2)]
