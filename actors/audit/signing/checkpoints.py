"""The signed checkpoints of the log, and what they prove about its streams."""

from collections.abc import Iterator

import msgspec

from actors.audit.signing import notes
from actors.audit.signing.events import CODEC, STREAM, CheckpointCosigned, CheckpointSigned
from actors.audit.signing.proofs import SignedCheckpoint, StreamProof
from actors.session.codec import UnknownEventError
from actors.session.events import Event
from persistence import merkle
from persistence.errors import CorruptLogError, ProofError
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent
from persistence.tree import Tree

COSIGNED_WITHIN_EVENTS = 200
"""A witness comes in time as long as no more events have followed the checkpoint."""

READ_EVENTS = 4
"""How many events a look back begins with: the newest one is mostly the one."""


class Checkpoints:
    """Reads the stream ``checkpoints``, and the tree; needs no gateway that serves.

    Every method may block, and raises CorruptLogError or StoreUnavailableError.
    """

    def __init__(self, log: EventLog, tree: Tree) -> None:
        self._log = log
        self._tree = tree

    def latest(self) -> SignedCheckpoint | None:
        """Return the newest checkpoint, with all its signatures."""
        head = self._log.head(STREAM)
        stored = None if head is None else self._signed_before(head, head.version + 1)
        return None if head is None or stored is None else self._signed(head, stored)

    def at(self, size: int) -> SignedCheckpoint | None:
        """Return the checkpoint of the tree of that size, with all its signatures."""
        head = self._log.head(STREAM)
        if head is None:
            return None
        for stored in self._log.read(head, after=self._seq_of(head, size) - 1, limit=1):
            if signed_in(stored).size == size:
                return self._signed(head, stored)
        return None

    def page(self, before: int | None, limit: int) -> list[SignedCheckpoint]:
        """Return checkpoints of sizes below ``before``, the newest first; their own notes only."""
        head = self._log.head(STREAM)
        found: list[SignedCheckpoint] = []
        if head is not None:
            seq = head.version + 1 if before is None else self._seq_of(head, before)
            while len(found) < limit:
                stored = self._signed_before(head, seq)
                if stored is None:
                    break
                found.append(shown(stored))
                seq = stored.seq
        return found

    def proof(self, stream_id: str) -> StreamProof | None:
        """Return that the stream's newest signed event is in the latest checkpoint.

        None where there is no such stream, or no checkpoint has it yet.
        """
        latest, head = self.latest(), self._log.head(stream_id)
        if latest is None or head is None:
            return None
        leaf = self._tree.newest_leaf(head.row, latest.size)
        if leaf is None:
            return None
        (found,) = self._tree.found([(stream_id, leaf.version)])
        if found.hash is None:
            raise CorruptLogError(stream_id, leaf.version, "the event is missing")
        inclusion = merkle.inclusion_proof(leaf.index, latest.size, self._tree.nodes)
        return StreamProof(latest.note, leaf.index, leaf.version, found.hash, inclusion)

    def consistency(self, old: int, size: int) -> tuple[bytes, ...]:
        """Return that the first ``old`` leaves of the tree are still the same at ``size``.

        Raises ProofError where there are not so many.
        """
        signed = self._log.head(STREAM)
        stored = None if signed is None else self._signed_before(signed, signed.version + 1)
        end = 0 if stored is None else signed_in(stored).size
        if size > end:
            raise ProofError(f"The latest checkpoint has {end} leaves, not {size}.")
        return merkle.consistency_proof(old, size, self._tree.nodes)

    def _signed(self, head: Head, stored: StoredEvent) -> SignedCheckpoint:
        """Return a checkpoint with the signatures that witnesses have added."""
        event = signed_in(stored)
        note = notes.parse_note(event.note)
        added = [
            notes.parse_signature(each.signature)
            for each in self._cosigned(head, stored.seq)
            if each.size == event.size
        ]
        return shown(stored, str(notes.with_signatures(note, added)))

    def _cosigned(self, head: Head, seq: int) -> Iterator[CheckpointCosigned]:
        for stored in self._log.read(head, after=seq, limit=COSIGNED_WITHIN_EVENTS):
            if stored.type == CheckpointCosigned.wire_name:
                event = decode(stored)
                assert isinstance(event, CheckpointCosigned)
                yield event

    def _signed_before(self, head: Head, seq: int) -> StoredEvent | None:
        """Return the newest signed checkpoint before ``seq``."""
        limit = READ_EVENTS
        while seq > 1:
            for stored in self._log.read(head, before=seq, newest_first=True, limit=limit):
                if stored.type == CheckpointSigned.wire_name:
                    return stored
                seq = stored.seq
            limit *= 2
        return None

    def _seq_of(self, head: Head, size: int) -> int:
        """Return where the first checkpoint of ``size`` leaves or more is, or would come."""
        low, high = 0, head.version + 1
        while high - low > 1:
            middle = (low + high) // 2
            stored = self._signed_before(head, middle + 1)
            if stored is None or stored.seq <= low or signed_in(stored).size < size:
                low = middle
            else:
                high = stored.seq
        return high


def shown(stored: StoredEvent, note: str = "") -> SignedCheckpoint:
    """Return a checkpoint as it was signed, or with the note that it has become."""
    event = signed_in(stored)
    root = bytes.fromhex(event.root)
    return SignedCheckpoint(
        note or event.note, event.size, root, event.at, stored.seq, len(event.leaves)
    )


def signed_in(stored: StoredEvent) -> CheckpointSigned:
    """Return the checkpoint of a stored event. Raises CorruptLogError."""
    event = decode(stored)
    if not isinstance(event, CheckpointSigned):
        raise CorruptLogError(STREAM, stored.seq, "there is no checkpoint")
    return event


def decode(stored: StoredEvent) -> Event:
    """Return a stored event of the stream ``checkpoints``. Raises CorruptLogError."""
    if stored.payload is None:
        raise CorruptLogError(STREAM, stored.seq, "the payload is erased")
    try:
        return CODEC.decode(stored.type, stored.schema_version, stored.payload)
    except (UnknownEventError, msgspec.MsgspecError) as error:
        raise CorruptLogError(STREAM, stored.seq, str(error)) from error
