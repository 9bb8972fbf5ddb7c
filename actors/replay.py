"""States and events read back from the log, as the session's own actor would give them."""

import logging

import msgspec

from actors.feed import Committed
from actors.session.codec import Codec, UnknownEventError, decode_state
from actors.session.events import Event
from actors.session.evolve import evolve
from actors.session.state import STATE_VERSION, SessionState
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.records import GENESIS_HASH, Head, StoredEvent

logger = logging.getLogger(__name__)

STREAM_PREFIX = "session:"

CODEC = Codec()


def stream_of(key: str) -> str:
    """Return the name of a session's stream."""
    return STREAM_PREFIX + key


def decode(stream_id: str, stored: StoredEvent) -> Event:
    """Return what the log holds as an event. Raises CorruptLogError."""
    if stored.payload is None:
        raise CorruptLogError(stream_id, stored.seq, "the payload is erased")
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
    stored = list(log.read(head, after=state.version, before=end + 1))
    seq, last_hash = chain.verify(head.stream_id, stored, after=state.version, previous=previous)
    if seq != end or (end == head.version and last_hash != head.hash):
        raise CorruptLogError(head.stream_id, seq + 1, "the stream is cut off")
    for event in stored:
        state = evolve(state, decode(head.stream_id, event))
    return state


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
