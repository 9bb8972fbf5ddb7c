"""What a verification makes of a log that is whole, and of what may be missing from it."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from actors.audit.verifying import verification
from actors.audit.verifying.segments import Finding, Segment, SegmentReport
from actors.audit.verifying.verification import Since, StreamReport, verify_row, verify_stream
from actors.audit.verifying.whole_log import Workers, checked_by, here, verify_all
from actors.gateway_state import CODEC as GATEWAY_CODEC
from actors.gateway_state import STREAM as GATEWAY
from actors.gateway_state import DeltasErased
from actors.replay import CODEC, entry_of, stream_of
from actors.session.codec import encode_state
from actors.session.drafts import drafted
from actors.session.events import (
    Event,
    MessageStarted,
    SessionCreated,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from actors.session.evolve import fold
from actors.session.record_events import StreamErased
from actors.session.state import STATE_VERSION, SessionState
from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.raw_rows import RawRows, opened_rows
from persistence.records import (
    SHARED,
    Append,
    Claim,
    Cursor,
    Erasure,
    Head,
    NewEvent,
    Snapshot,
    Summary,
)
from persistence.stream_keys import KeyStore
from persistence.vault import Vault
from tests.sqlite import make_database

KEY = "a"
UNLISTED = Summary(listed=False, active=False, body=b"")
MASTER_KEY = bytes(range(32))

deltas = st.lists(
    st.one_of(
        st.builds(TextDelta, st.integers(0, 2), st.text(max_size=3)),
        st.builds(ThinkingDelta, st.integers(0, 2), st.text(max_size=3)),
        st.builds(ToolInputDelta, st.integers(0, 2), st.just("id"), st.just("tool"), st.text()),
    ),
    max_size=8,
)


class World:
    """A log in SQLite with one session, which grows by deltas, with a snapshot for every ten."""

    def __init__(self, url: sa.URL, vault: Vault | None = None) -> None:
        self.url = url
        self._vault = vault
        self._clock_us = 0
        self.log = SqlEventLog(
            write_engine(url), read_engine(url), clock_us=lambda: self._clock_us, vault=vault
        )
        self.state = SessionState(KEY)
        self.head = self._claim(stream_of(KEY), "owner")
        self.append(SessionCreated("id", 1), MessageStarted("assistant", 1))

    def append(self, *events: Event, erasures: tuple[Erasure, ...] = ()) -> None:
        """Append at the next microsecond."""
        self._clock_us += 1
        before, self.state = self.state, fold(self.state, events)
        snapshot = None
        if before.version // 10 != self.state.version // 10:
            snapshot = Snapshot(self.state.version, STATE_VERSION, encode_state(self.state))
        new = tuple(NewEvent(each.wire_name, 1, CODEC.encode(each)) for each in events)
        append = Append(self.head, new, entry_of(self.state), snapshot, erasures=erasures)
        self.head = self._written(append)

    def grow(self, count: int) -> None:
        for number in range(count):
            self.append(TextDelta(number % 3, f"{number} "))

    def note(self, event: Event, erasure: Erasure) -> None:
        """Have an event in the gateway's stream, and what it says was erased."""
        head = self._claim(GATEWAY, SHARED)
        new = NewEvent(event.wire_name, 1, GATEWAY_CODEC.encode(event))
        self._written(Append(head, (new,), UNLISTED, erasures=(erasure,)))

    def _claim(self, stream_id: str, owner: str) -> Head:
        (head,) = self.log.write([Claim(stream_id, owner)])
        assert isinstance(head, Head)
        return head

    def _written(self, append: Append) -> Head:
        (head,) = self.log.write([append])
        assert isinstance(head, Head)
        return head

    def tamper(self, statement: str, *parameters: object) -> None:
        """Change the database behind its triggers' back."""
        engine = write_engine(self.url)
        with engine.begin() as connection:
            found = connection.exec_driver_sql(
                "SELECT name FROM sqlite_master WHERE type='trigger'"
            )
            for (name,) in found.all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
            connection.exec_driver_sql(statement, parameters)
        engine.dispose()

    @contextlib.contextmanager
    def raw(self) -> Iterator[RawRows]:
        engine = read_engine(self.url)
        with opened_rows(engine, self._vault) as raw:
            yield raw
        engine.dispose()

    def verified(self, *, since: Since | None = None) -> StreamReport:
        with self.raw() as raw:
            report = verify_stream(raw, stream_of(KEY), since=since)
        assert report is not None
        return report


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(make_database(tmp_path / "log.db"))
    yield made
    made.log.close()


@given(deltas, deltas)
def test_deltas_folded_at_once_leave_what_they_leave_one_by_one(
    first: list[TextDelta], then: list[TextDelta]
) -> None:
    state = fold(SessionState(KEY), first)
    assert drafted(state, then) == fold(state, then)


def test_a_stream_in_parts_is_as_sound_as_in_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grow(95)
    whole = world.verified()
    monkeypatch.setattr(verification, "SEGMENT_EVENTS", 20)
    parts: list[Segment] = []

    with world.raw() as raw:
        stream = raw.stream(stream_of(KEY))
        assert stream is not None

        def check(segments: list[Segment]) -> list[SegmentReport]:
            parts.extend(segments)
            return checked_by(raw)(segments)

        assert verify_row(raw, stream, check) == whole
    assert whole.ok
    assert (whole.events, whole.seq) == (97, 97)
    assert [part.after for part in parts] == [0, 20, 40, 60, 80]


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE events SET payload = x'7b7d' WHERE seq = 41", (41,)),
        ("DELETE FROM events WHERE seq = 40", (40,)),
        ("DELETE FROM events WHERE seq > 60", (61,)),
        ("UPDATE snapshots SET state = replace(state, '1 ', '7 ') WHERE seq = 40", (40,)),
        ("UPDATE snapshots SET state = x'00' WHERE seq = 40", (40,)),
        ("UPDATE snapshots SET seq = 400 WHERE seq = 40", (400,)),
    ],
)
def test_damage_of_any_part_is_named_once(
    world: World, monkeypatch: pytest.MonkeyPatch, statement: str, named: tuple[int, ...]
) -> None:
    world.grow(95)
    world.tamper(statement)
    in_one = tuple(each.seq for each in world.verified().findings)
    monkeypatch.setattr(verification, "SEGMENT_EVENTS", 20)
    in_parts = tuple(each.seq for each in world.verified().findings)
    assert in_one == named
    assert in_parts == named


def test_several_processes_find_what_one_finds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grow(60)
    world.tamper("UPDATE events SET principal = 'mallory' WHERE seq = 33")
    monkeypatch.setattr(verification, "SEGMENT_EVENTS", 20)
    workers = Workers(partial(open_rows, world.url), 2)
    try:
        with world.raw() as raw:
            found = verify_all(raw, workers.submit, waiting_max=workers.waiting_max)
            alone = verify_all(raw, here(raw))
    finally:
        workers.close()
    assert found == alone
    assert [(each.stream, each.seq) for each in found.damage] == [("session:a", 33)]


def open_rows(url: sa.URL) -> RawRows:
    return RawRows(read_engine(url).connect())


def test_what_was_erased_without_a_record_is_named(world: World) -> None:
    world.grow(20)
    erasure = Erasure(world.head.row, 1, 2)
    world.append(MessageStarted("assistant", 2), erasures=(erasure,))
    report = world.verified()
    assert report.erased == 2
    assert report.findings == (Finding(1, "erased without a record: seq 1 to 2"),)


def test_what_a_later_event_says_was_erased_is_no_damage(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.grow(30)
    said = StreamErased(
        receipt_id="e", reason="asked for", ranges=((3, 30),), at=2, state=world.state
    )
    world.append(said, erasures=(Erasure(world.head.row, 3, 30),))
    world.grow(30)
    monkeypatch.setattr(verification, "SEGMENT_EVENTS", 10)
    report = world.verified()
    assert report.findings == ()
    assert report.erased == 28


def test_deltas_may_be_gone_only_from_before_the_time_that_the_gateway_recorded(
    world: World,
) -> None:
    world.grow(20)
    erasure = Erasure(world.head.row, 1, 12, ("text.delta",), snapshots=False)
    world.note(DeltasErased(11, 10, 100, Cursor(0, 12), 1), erasure)
    report = world.verified()
    assert (report.erased, report.findings) == (
        10,
        (Finding(12, "erased without a record: seq 12"),),
    )
    world.note(DeltasErased(12, 1, 10, Cursor(0, 13), 2), erasure)
    assert world.verified().findings == ()


def test_from_a_vouched_event_on_only_what_follows_is_read(world: World) -> None:
    world.grow(40)
    with world.raw() as raw:
        place = raw.place(world.head.row, 25)
    assert place is not None
    world.grow(10)
    world.tamper("UPDATE events SET payload = x'7b7d' WHERE seq = 5")
    report = world.verified(since=Since(25, place.hash))
    assert report.ok
    assert (report.since, report.events, report.seq) == (25, 32, 52)  # the snapshot is of seq 20
    forged = world.verified(since=Since(25, bytes(32)))
    assert forged.findings == (Finding(25, "the event is not the one that was signed"),)


def test_a_session_that_goes_on_meanwhile_is_sound(world: World) -> None:
    world.grow(10)
    with world.raw() as raw:
        stream = raw.stream(stream_of(KEY))
        assert stream is not None

        def check(segments: list[Segment]) -> list[SegmentReport]:
            reports = checked_by(raw)(segments)
            world.grow(15)
            return reports

        report = verify_row(raw, stream, check)
    assert (report.findings, report.seq) == ((), 12)


def test_an_erasure_meanwhile_is_no_damage(world: World) -> None:
    world.grow(10)
    with world.raw() as raw:
        stream = raw.stream(stream_of(KEY))
        assert stream is not None
        said = StreamErased(receipt_id="e", reason="r", ranges=((3, 9),), at=2, state=world.state)
        pending = [lambda: world.append(said, erasures=(Erasure(world.head.row, 3, 9),))]

        def check(segments: list[Segment]) -> list[SegmentReport]:
            while pending:
                pending.pop()()
            return checked_by(raw)(segments)

        report = verify_row(raw, stream, check)
    assert (report.findings, report.seq, report.erased) == ((), 13, 7)


def test_deltas_that_retention_erases_meanwhile_are_no_damage(world: World) -> None:
    world.grow(20)
    erasure = Erasure(world.head.row, 1, 12, ("text.delta",), snapshots=False)
    pending = [lambda: world.note(DeltasErased(20, 10, 100, Cursor(0, 12), 1), erasure)]

    def check(segments: list[Segment]) -> list[SegmentReport]:
        while pending:
            pending.pop()()
        return checked_by(raw)(segments)

    def submit(segments: list[Segment]) -> "Future[list[SegmentReport]]":
        check(segments)
        return here(raw)(segments)

    with world.raw() as raw:
        stream = raw.stream(stream_of(KEY))
        assert stream is not None
        report = verify_row(raw, stream, check)
        assert (report.findings, report.erased) == ((), 10)
        again = Erasure(world.head.row, 13, 20, ("text.delta",), snapshots=False)
        pending.append(lambda: world.note(DeltasErased(21, 8, 80, Cursor(0, 21), 2), again))
        assert verify_all(raw, submit).damage == []


def test_what_is_encrypted_is_verified_as_it_was_written(tmp_path: Path) -> None:
    keys = KeyStore(sa.make_url(f"sqlite:///{tmp_path / 'keys'}"))
    world = World(make_database(tmp_path / "log.db"), Vault(MASTER_KEY, keys))
    world.grow(20)
    assert world.verified().findings == ()
    world.tamper("UPDATE events SET payload = substr(payload, 1, length(payload) - 1) || x'00'")
    assert [each.seq for each in world.verified().findings] == [1]
    world.log.close()
    keys.close()


def test_events_that_have_changed_places_in_the_log_are_named(world: World) -> None:
    world.grow(8)
    for new, old in ((100, 4), (4, 7), (7, 100)):
        world.tamper("UPDATE events SET position = ? WHERE position = ?", new, old)
    assert [each.seq for each in world.verified().findings] == [5]
