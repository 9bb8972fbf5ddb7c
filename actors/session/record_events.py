"""What can happen to a session's record, rather than in its conversation. Pure.

``at`` is in milliseconds since the epoch, UTC.
"""

from typing import ClassVar

from msgspec import Struct

from actors.session.events import Event
from actors.session.state import SessionState


class SessionForked(Event, frozen=True):
    """What follows was said in another session, up to its ``source_seq``.

    ``source_hash`` is that event's link of the hash chain, in hexadecimal. The next ``copied``
    events say what was taken over.
    """

    wire_name: ClassVar[str] = "session.forked"
    source_key: str
    source_session_id: str
    source_seq: int
    source_hash: str
    at: int
    copied: int = 0


class SessionBranched(Event, frozen=True):
    """Another session was made of what was said here up to ``seq``."""

    wire_name: ClassVar[str] = "session.branched"
    into_key: str
    into_session_id: str
    seq: int
    at: int


class SessionHeld(Event, frozen=True):
    """Nothing of the session may be erased, for the reason given, until it is released."""

    wire_name: ClassVar[str] = "session.held"
    reason: str
    at: int


class SessionReleased(Event, frozen=True):
    """What may be erased may be erased again."""

    wire_name: ClassVar[str] = "session.released"
    at: int


class PastErasure(Struct, frozen=True, omit_defaults=True):
    """An earlier ``stream.erased``, whose own payload is erased by now: what it said."""

    seq: int
    receipt_id: str
    reason: str
    ranges: tuple[tuple[int, int], ...]
    at: int


class StreamErased(Event, frozen=True):
    """The payloads of earlier events of this stream are gone: those of the ranges of seqs.

    Both ends of a range belong to it. ``state`` is what is left of a session, which no longer
    follows from its events; a stream without a state has none. A state quotes what was said, so
    the ``earlier`` erasures' events are among those erased, and their ranges among the ranges.
    """

    wire_name: ClassVar[str] = "stream.erased"
    receipt_id: str
    reason: str
    ranges: tuple[tuple[int, int], ...]
    at: int
    state: SessionState | None = None
    earlier: tuple[PastErasure, ...] = ()


RECORD_EVENTS: tuple[type[Event], ...] = (
    SessionForked,
    SessionBranched,
    SessionHeld,
    SessionReleased,
    StreamErased,
)
