"""The envelopes that go into the log and come out of it; payloads are opaque bytes here."""

from msgspec import Struct

GENESIS_HASH = bytes(32)
"""The hash before a stream's first event: 32 zero bytes."""


class Head(Struct, frozen=True, gc=False):
    """Where a stream ends, and who may write the next event.

    ``version`` is the seq of the last event (0: none), ``hash`` its 32-byte link, ``epoch`` the
    fence: an append with another epoch writes nothing. ``row`` is the stream's key in this
    database and means nothing outside it.
    """

    row: int
    stream_id: str
    version: int
    hash: bytes
    epoch: int


class NewEvent(Struct, frozen=True, gc=False):
    """An event before it has a place in a stream.

    ``schema_version`` is the version of the payload's shape, ``payload`` its JSON.
    ``correlation_id`` names the prompt or command, ``causation_seq`` the event of the same
    stream that led to this one, ``principal`` who asked for it.
    """

    type: str
    schema_version: int
    payload: bytes
    principal: str | None = None
    correlation_id: str | None = None
    causation_seq: int | None = None


class StoredEvent(Struct, frozen=True, gc=False):
    """An event as it lies in the log.

    ``recorded_at`` is in microseconds since the epoch, UTC. ``payload`` and ``salt`` are None
    once erased; then ``payload_digest`` stands for them, so the chain still verifies. Before that
    it follows from them, and is empty (docs/adr/0010).
    """

    seq: int
    epoch: int
    type: str
    schema_version: int
    recorded_at: int
    principal: str | None
    correlation_id: str | None
    causation_seq: int | None
    payload: bytes | None
    salt: bytes | None
    payload_digest: bytes
    hash: bytes


class Summary(Struct, frozen=True, gc=False):
    """What a list of streams shows of one, without reading its events.

    ``listed``: it belongs in the list (a deleted session does not). ``active``: it has work
    that its owner must carry on with. ``body`` is JSON for the reader of the list.
    """

    listed: bool
    active: bool
    body: bytes


class Snapshot(Struct, frozen=True, gc=False):
    """A folded state: all events up to and with ``seq``, in the shape ``state_version``."""

    seq: int
    state_version: int
    state: bytes


class MemoryRow(Struct, frozen=True, gc=False):
    """One memory of a stream, as the stream's events leave it.

    ``id`` counts a stream's memories from 1. Times are in milliseconds since the epoch. A memory
    that was superseded or forgotten is not ``active``; of a stream's active memories no two have
    the same ``key``.
    """

    id: int
    bucket: str
    kind: str
    key: str
    content: str
    source: str
    active: bool
    created_at: int
    updated_at: int
    last_accessed_at: int | None = None
    superseded_at: int | None = None
    superseded_by: int | None = None


class EpisodeRow(Struct, frozen=True, gc=False):
    """One message that a stream recalls; ``id`` counts from 1, ``at`` is in milliseconds."""

    id: int
    session_key: str
    session_id: str
    role: str
    text: str
    at: int


Row = MemoryRow | EpisodeRow
"""What a stream's events are projected to, one row of one table for each (stream, id)."""


class RowKey(Struct, frozen=True, gc=False):
    """The id of one of a stream's projected rows: an episode's or a memory's."""

    id: int
    episode: bool = False


class Claim(Struct, frozen=True, gc=False):
    """Make ``owner`` the one who writes a stream, creating the stream where it is missing.

    The epoch rises when the owner changes. Where another owner is alive nothing happens, and the
    outcome is OwnedElsewhereError.
    """

    stream_id: str
    owner: str


SHARED = "*"
"""The owner of a stream that every process writes: who appends first wins, the others look anew."""


class Release(Struct, frozen=True, gc=False):
    """Let anybody own the stream, if ``head`` has its epoch still."""

    head: Head


class Answer(Struct, frozen=True, gc=False):
    """Answer a message in the inbox, by its ``id``; one that has an answer keeps it."""

    id: int
    asker: str
    body: bytes


class Erasure(Struct, frozen=True, gc=False):
    """Erase the payloads of a stream's events from ``first`` to ``last``, of any type or of some.

    ``row`` is the stream's. With ``snapshots`` all of its stored states go too: what was erased
    may be in them.
    """

    row: int
    first: int
    last: int
    types: tuple[str, ...] = ()
    snapshots: bool = True


class Leaf(Struct, frozen=True, gc=False):
    """A leaf of the log's Merkle tree: where the stream of this ``row`` ended, at its index."""

    index: int
    row: int
    version: int


class Node(Struct, frozen=True, gc=False):
    """The hash of a complete subtree: ``level`` 0 is a leaf's, ``index`` counts from the left."""

    level: int
    index: int
    hash: bytes


class Append(Struct, frozen=True, gc=False):
    """Events that follow ``head``, all or none of them.

    The summary replaces the stream's; a snapshot is stored with the events where one is given.
    ``rows`` are the stream's projected rows that the events changed, as they are after them;
    ``dropped`` are those that are no more, before that.
    ``answers`` are given to those whose messages led to the events, ``erasures`` are what the
    events say was erased, ``leaves`` and ``nodes`` what they add to the log's Merkle tree. With
    ``erases_all`` nothing is left of what came before, so that a key of it can be destroyed.
    """

    head: Head
    events: tuple[NewEvent, ...]
    summary: Summary
    snapshot: Snapshot | None = None
    rows: tuple[Row, ...] = ()
    dropped: tuple[RowKey, ...] = ()
    answers: tuple[Answer, ...] = ()
    erasures: tuple[Erasure, ...] = ()
    erases_all: bool = False
    leaves: tuple[Leaf, ...] = ()
    nodes: tuple[Node, ...] = ()


class Restore(Struct, frozen=True, gc=False):
    """Write a stream as it was in another log, from its first event on; nobody owns it then.

    Its chain has been verified. Where there is such a stream the outcome is ConflictError.
    """

    stream_id: str
    events: tuple[StoredEvent, ...]
    summary: Summary
    rows: tuple[Row, ...] = ()
    snapshots: tuple[Snapshot, ...] = ()


class Reproject(Struct, frozen=True, gc=False):
    """Replace all projected rows of a stream, if ``head`` is still its head."""

    head: Head
    rows: tuple[Row, ...]


Write = Append | Claim | Release | Reproject | Restore


class Cursor(Struct, frozen=True, gc=False, order=True):
    """A place among the events of all streams, in the order in which they can be read.

    ``transaction`` is the one that wrote an event, as PostgreSQL numbers them, else 0.
    """

    transaction: int
    position: int


class TailedEvent(Struct, frozen=True, gc=False):
    """An event of any stream, and its place among all of them."""

    cursor: Cursor
    stream_id: str
    event: StoredEvent


class StreamEntry(Struct, frozen=True, gc=False):
    """One row of the list of streams."""

    row: int
    stream_id: str
    summary: Summary
