import itertools

import pytest

from actors.audit.travel.places import (
    BeyondEndError,
    NeverWasError,
    Place,
    PlaceError,
    place_of,
    seq_at,
    state_as_of,
)
from actors.replay import stream_of
from actors.session import events as e
from actors.session.messages import Text, UserMessage
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Erasure, Head
from tests.unit.audit.files import UNLISTED, appended

NOON_US = 1_795_521_600_000_000


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0", Place(seq=0)),
        ("17", Place(seq=17)),
        ("0b5c:17", Place(seq=17)),
        ("2026-11-24T12:00:00Z", Place(at_us=NOON_US)),
        ("2026-11-24t12:00:00.5z", Place(at_us=NOON_US + 500_000)),
        ("2026-11-24 12:00:00.0000019Z", Place(at_us=NOON_US + 1)),
        ("2026-11-24T14:00:00+02:00", Place(at_us=NOON_US)),
        ("2026-11-24T14:00:00 02:00", Place(at_us=NOON_US)),
        ("2026-11-24T10:00:00-02:00", Place(at_us=NOON_US)),
        ("1969-12-31T23:59:59.25Z", Place(at_us=-750_000)),
    ],
)
def test_a_place_is_a_seq_or_a_time(text: str, place: Place) -> None:
    assert place_of(text) == place


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-1",
        "1.5",
        "9" * 19,
        "2026-11-24",
        "2026-11-24T12:00:00",
        "2026-11-24 12:00:00.5",
        "2026-02-30T12:00:00Z",
        "2026-11-24T24:30:00Z",
        "2026-11-24T12:00:00+99:00",
        "0001-01-01T00:00:00+23:59x",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(PlaceError, match="a time"):
        place_of(text)


def test_a_time_finds_the_last_event_by_then_in_reads_of_one_row() -> None:
    times = itertools.count(0, 10)
    log = InMemoryEventLog(clock_us=lambda: next(times))
    for seq in range(1, 101):
        head = appended(log, "k", [e.SessionCreated(f"id{seq}", seq)])
    assert head.version == 100
    recorded = [each.recorded_at for each in log.read(head)]
    reads = []
    read = log.read

    def counted(*arguments: object, **options: int) -> object:
        reads.append(options)
        return read(*arguments, **options)  # type: ignore[arg-type]

    log.read = counted  # type: ignore[method-assign, assignment]
    for at in range(recorded[0] - 5, recorded[-1] + 15, 7):
        reads.clear()
        found = seq_at(log, head, Place(at_us=at))
        assert found == sum(each <= at for each in recorded)
        assert len(reads) <= 7
        assert all(each["before"] - each["after"] == 2 for each in reads)


def test_a_session_that_was_deleted_and_began_again_is_what_it_was_at_each_place() -> None:
    log = InMemoryEventLog()
    hello = e.MessageCompleted(UserMessage((Text("hello"),), 3))
    head = appended(
        log,
        "k",
        [e.SessionCreated("one", 1), hello, e.SessionDeleted(4), e.SessionCreated("two", 5)],
    )
    assert [state_as_of(log, head, "k", at).session_id for at in ("1", "2", "4")] == [
        "one",
        "one",
        "two",
    ]
    for at in ("0", "3"):
        with pytest.raises(NeverWasError, match=f"There was no session k at {at}"):
            state_as_of(log, head, "k", at)
    with pytest.raises(BeyondEndError, match="ends at 4, before 5"):
        state_as_of(log, head, "k", "5")


def test_what_is_erased_is_said_to_be() -> None:
    log = InMemoryEventLog()
    head = appended(log, "k", [e.SessionCreated("one", 1), e.SessionRenamed("secret", 2)])
    (head_after,) = log.write([Append(head, (), UNLISTED, erasures=(Erasure(head.row, 1, 2),))])
    assert isinstance(head_after, Head)
    assert head_after.stream_id == stream_of("k")
    with pytest.raises(NeverWasError, match="What session k was at 2 is erased"):
        state_as_of(log, head_after, "k", "2")
