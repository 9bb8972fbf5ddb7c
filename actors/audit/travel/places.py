"""Sessions as they were: which event an earlier moment ended with, and the state after it."""

import re
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from actors.replay import state_at, unhurried
from actors.session.events import SessionCreated, SessionDeleted
from actors.session.state import SessionState
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent

PLACE_ERROR = (
    "A place in a session's log is an event's seq, a message's id, or a time with its offset "
    "as in 2026-11-24T10:30:00Z."
)

_SEQ = re.compile(r"(?:.*:)?([0-9]{1,18})")
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]+))?"
    r"(?:[Zz]|([+ -])([0-9]{2}:[0-9]{2}))"
)
_NAIVE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9:.]*)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PlaceError(Exception):
    """A text names no place in a log; the message says what does."""


class BeyondEndError(Exception):
    """A log ends before the seq that was named."""

    def __init__(self, seq: int, version: int) -> None:
        super().__init__(f"The session's log ends at {version}, before {seq}.")


class NeverWasError(Exception):
    """There was no session of the key at that place."""

    def __init__(self, key: str, place: str, *, erased: bool = False) -> None:
        what = (
            "What session {} was at {} is erased." if erased else "There was no session {} at {}."
        )
        super().__init__(what.format(key, place))


class Place(Struct, frozen=True):
    """A seq, or else a moment in microseconds since the epoch, UTC."""

    seq: int | None = None
    at_us: int | None = None


def place_of(text: str) -> Place:
    """Return the place that a text names. Raises PlaceError.

    A time is one of RFC 3339; its plus may have become a space on its way through a query.
    """
    if _NAIVE.fullmatch(text):
        raise PlaceError(f"The time {text} has no offset: add Z for UTC. {PLACE_ERROR}")
    found = _TIME.fullmatch(text)
    if found is not None:
        return Place(at_us=_microseconds(*found.groups()))
    seq = _SEQ.fullmatch(text)
    if seq is None:
        raise PlaceError(PLACE_ERROR)
    return Place(seq=int(seq[1]))


def _microseconds(
    day: str, clock: str, fraction: str | None, sign: str | None, offset: str | None
) -> int:
    try:
        sign = "-" if sign == "-" else "+"
        moment = datetime.fromisoformat(f"{day}T{clock}{sign}{offset or '00:00'}")
        whole = (moment - _EPOCH) // timedelta(seconds=1)
    except (ValueError, OverflowError) as error:
        raise PlaceError(f"There is no time {day} {clock}. {PLACE_ERROR}") from error
    return whole * 1_000_000 + int(f"{fraction or 0:0<6}"[:6])


def seq_at(log: EventLog, head: Head, place: Place) -> int:
    """Return the seq of the last event at or before a place, 0 where the log begins after it.

    A time costs O(log n) reads of one row. Raises BeyondEndError for a seq beyond the end.
    """
    if place.seq is not None:
        if place.seq > head.version:
            raise BeyondEndError(place.seq, head.version)
        return place.seq
    assert place.at_us is not None
    low, high = 0, head.version
    while low < high:
        middle = (low + high + 1) // 2
        if event_at(log, head, middle).recorded_at <= place.at_us:
            low = middle
        else:
            high = middle - 1
    return low


def event_at(log: EventLog, head: Head, seq: int) -> StoredEvent:
    """Return one event. Raises CorruptLogError where it is missing."""
    for stored in log.read(head, after=seq - 1, before=seq + 1):
        return stored
    raise CorruptLogError(head.stream_id, seq, "the event is missing")


def state_as_of(log: EventLog, head: Head, key: str, text: str) -> SessionState:
    """Return a session's state at the place that a text names.

    Raises PlaceError, BeyondEndError, NeverWasError or CorruptLogError.
    """
    seq = seq_at(log, head, place_of(text))
    if seq == 0:
        raise NeverWasError(key, text)
    state = state_at(log, head, seq)
    if not state.exists:
        raise NeverWasError(key, text, erased=_begins_erased(log, head, seq))
    return state


def _begins_erased(log: EventLog, head: Head, seq: int) -> bool:
    """Tell whether there was a session at a seq, whose beginning is erased."""
    for stored in unhurried(log.read(head, before=seq + 1, newest_first=True)):
        if stored.type in (SessionDeleted.wire_name, SessionCreated.wire_name):
            return stored.type == SessionCreated.wire_name and stored.payload is None
    return False
