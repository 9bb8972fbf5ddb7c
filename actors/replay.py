"""States and events read back from the log, as the session's own actor would give them."""

import logging
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from actors.feed import Committed
from actors.session.codec import Codec, UnknownEventError, decode_state, encode_state
from actors.session.events import Erased, Event
from actors.session.evolve import evolve
from actors.session.state import STATE_VERSION, SessionState
from actors.session.summary import summary_of
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import GENESIS_HASH, Head, Snapshot, StoredEvent, Summary

logger = logging.getLogger(__name__)

STREAM_PREFIX = "session:"

CODEC = Codec()

_encode_summary = msgspec.json.Encoder().encode
YIELD_EVENTS = 500

T = TypeVar("T")


def unhurried(items: Iterable[T]) -> Iterator[T]:
    """Yield the items, and let other greenlets go on after every 500 of them."""
    for count, item in enumerate(items, 1):
        yield item
        if count % YIELD_EVENTS == 0:
            give_way()


def stream_of(key: str) -> str:
    """Return the name of a session's stream."""
    return STREAM_PREFIX + key


def decode(stream_id: str, stored: StoredEvent) -> Event:
    """Return what the log holds as an event, Erased where it holds nothing any more.

    Raises CorruptLogError.
    """
    if stored.payload is None:
        return Erased(type=stored.type)
    try:
        return CODEC.decode(stored.type, stored.schema_version, stored.payload)
    except (UnknownEventError, msgspec.MsgspecError) as error:
        raise CorruptLogError(stream_id, stored.seq, str(error)) from error


def state_at(log: EventLog, head: Head, at: int | None = None) -> SessionState:
    """Return a session's state after ``at`` events, by default all of them.

    Starts at the newest snapshot before that. Every event read on the way is checked against
    the hash chain; raises CorruptLogError at the first one that doesn't fit.
    """
    end = head.version if at is None else min(at, head.version)
    state = _snapshot_before(log, head, end) or SessionState(
        head.stream_id.removeprefix(STREAM_PREFIX)
    )
    previous = _hash_at(log, head, state.version) if state.version else GENESIS_HASH
    folding = _Folding(head.stream_id, state)
    stored = folding.checked(log.read(head, after=state.version, before=end + 1))
    seq, last_hash = chain.verify(head.stream_id, stored, after=state.version, previous=previous)
    if seq != end or (end == head.version and last_hash != head.hash):
        raise CorruptLogError(head.stream_id, seq + 1, "the stream is cut off")
    return folding.state


class _Folding:
    """Folds events into a state as they are checked, so that none has to be kept."""

    def __init__(self, stream_id: str, state: SessionState) -> None:
        self._stream_id = stream_id
        self.state = state

    def checked(self, stored: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
        """Yield the events; who asks for the next one has checked the one before."""
        for each in unhurried(stored):
            yield each
            self.state = evolve(self.state, decode(self._stream_id, each))


def entry_of(state: SessionState) -> Summary:
    """Return how a session stands in the list of streams."""
    return Summary(
        listed=state.exists, active=not state.idle, body=_encode_summary(summary_of(state))
    )


def snapshot_of(state: SessionState) -> Snapshot:
    """Return a session's state as it is stored."""
    return Snapshot(state.version, STATE_VERSION, encode_state(state))


def replay(
    log: EventLog,
    head: Head,
    state: SessionState,
    *,
    before: int | None = None,
    bytes_max: int | None = None,
) -> tuple[list[Committed], SessionState]:
    """Return the events that follow a state, and the state that they lead to.

    They end with the one whose payload makes them ``bytes_max`` large, or larger.
    """
    committed: list[Committed] = []
    size = 0
    for stored in log.read(head, after=state.version, before=before):
        event = decode(head.stream_id, stored)
        state = evolve(state, event)
        event_bytes = len(stored.payload or b"")
        committed.append(Committed(stored.seq, event, state, event_bytes))
        size += event_bytes
        if bytes_max is not None and size >= bytes_max:
            break
    return committed, state


def _snapshot_before(log: EventLog, head: Head, end: int) -> SessionState | None:
    """Return a stored state, None where there is no readable one: the events say it all."""
    snapshot = log.snapshot(head, STATE_VERSION, at=end)
    if snapshot is None:
        return None
    try:
        return decode_state(snapshot.state)
    except msgspec.MsgspecError:
        logger.exception("A snapshot of %s is damaged; replaying instead.", head.stream_id)
        return None


def _hash_at(log: EventLog, head: Head, seq: int) -> bytes:
    for stored in log.read(head, after=seq - 1, before=seq + 1):
        return stored.hash
    raise CorruptLogError(head.stream_id, seq, "the event is missing")
