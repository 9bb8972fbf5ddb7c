"""Hash links between the events of a stream, and their verification. Pure.

``hash = SHA-256(previous hash ‖ envelope ‖ payload digest)`` and
``payload digest = SHA-256(salt ‖ payload)``. The envelope is a JSON array as RFC 8785 writes it:
``[stream id, seq, epoch, type, schema version, recorded_at, principal, correlation id,
causation seq]``. Both hashes have 32 bytes, so the concatenation can be read in one way only.
"""

from collections.abc import Iterable
from hashlib import sha256

import msgspec

from persistence.errors import CorruptLogError
from persistence.records import GENESIS_HASH, NewEvent, StoredEvent

SALT_BYTES = 16

_encode = msgspec.json.Encoder().encode


def digest_of(salt: bytes, payload: bytes) -> bytes:
    """Return a payload's digest; without the salt it says nothing about the payload."""
    return sha256(salt + payload).digest()


def link(
    previous: bytes,
    stream_id: str,
    seq: int,
    epoch: int,
    recorded_at: int,
    event: NewEvent | StoredEvent,
    payload_digest: bytes,
) -> bytes:
    """Return the hash of the event that follows ``previous``."""
    envelope = _encode(
        (
            stream_id,
            seq,
            epoch,
            event.type,
            event.schema_version,
            recorded_at,
            event.principal,
            event.correlation_id,
            event.causation_seq,
        )
    )
    return sha256(previous + envelope + payload_digest).digest()


def verify(
    stream_id: str,
    events: Iterable[StoredEvent],
    *,
    after: int = 0,
    previous: bytes = GENESIS_HASH,
) -> tuple[int, bytes]:
    """Follow the chain and return the last seq and hash.

    ``after`` and ``previous`` say where the given events begin. Raises CorruptLogError at the
    first event that is missing, out of place, of a fallen epoch or changed.
    """
    seq, epoch = after, 0
    for event in events:
        seq += 1
        if event.seq != seq:
            raise CorruptLogError(stream_id, seq, f"found seq {event.seq} in its place")
        if event.epoch < epoch:
            raise CorruptLogError(stream_id, seq, f"epoch {event.epoch} follows epoch {epoch}")
        epoch = event.epoch
        if (event.payload is None) != (event.salt is None):
            raise CorruptLogError(stream_id, seq, "payload and salt are not erased together")
        if (
            event.payload is not None
            and event.salt is not None
            and digest_of(event.salt, event.payload) != event.payload_digest
        ):
            raise CorruptLogError(stream_id, seq, "the payload does not match its digest")
        linked = link(
            previous, stream_id, seq, epoch, event.recorded_at, event, event.payload_digest
        )
        if linked != event.hash:
            raise CorruptLogError(stream_id, seq, "the envelope does not match its hash")
        previous = event.hash
    return seq, previous
