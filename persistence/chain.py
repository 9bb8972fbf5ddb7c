"""Hash links between the events of a stream, and their verification. Pure.

``hash = SHA-256(previous hash ‖ envelope ‖ payload digest)`` and
``payload digest = SHA-256(salt ‖ payload)``. The envelope is a JSON array as RFC 8785 writes it:
``[stream id, seq, epoch, type, schema version, recorded_at, principal, correlation id,
causation seq]``. Both hashes have 32 bytes, so the concatenation can be read in one way only.
"""

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256

import msgspec

from persistence.errors import CorruptLogError
from persistence.records import GENESIS_HASH, Head, NewEvent, StoredEvent

SALT_BYTES = 16

_encode = msgspec.json.Encoder().encode


def salts(random_bytes: Callable[[int], bytes], count: int) -> Iterator[bytes]:
    """Yield as many fresh salts, from one call for random bytes."""
    pool = random_bytes(SALT_BYTES * count)
    for start in range(0, len(pool), SALT_BYTES):
        yield pool[start : start + SALT_BYTES]


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


def extend(
    head: Head, events: Iterable[NewEvent], recorded_at: int, salts: Iterator[bytes]
) -> tuple[list[StoredEvent], Head]:
    """Return the events as they follow the head, and the head that they lead to."""
    stream_id, epoch, seq, previous = head.stream_id, head.epoch, head.version, head.hash
    stored: list[StoredEvent] = []
    for event, salt in zip(events, salts, strict=False):
        seq += 1
        digest = digest_of(salt, event.payload)
        previous = link(previous, stream_id, seq, epoch, recorded_at, event, digest)
        stored.append(
            StoredEvent(
                seq,
                epoch,
                event.type,
                event.schema_version,
                recorded_at,
                event.principal,
                event.correlation_id,
                event.causation_seq,
                event.payload,
                salt,
                digest,
                previous,
            )
        )
    return stored, Head(head.row, stream_id, seq, previous, epoch)


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
        if type(event.epoch) is not int or event.epoch < epoch:
            raise CorruptLogError(stream_id, seq, f"epoch {event.epoch} follows epoch {epoch}")
        epoch = event.epoch
        _verify_payload(stream_id, event)
        texts: tuple[object, ...] = (event.type, event.principal, event.correlation_id)
        if bytes in map(type, texts):  # they would be hashed as base64, as text that looks so
            raise CorruptLogError(stream_id, seq, "the envelope holds bytes where text was written")
        try:
            linked = link(
                previous, stream_id, seq, epoch, event.recorded_at, event, event.payload_digest
            )
        except (TypeError, ValueError):  # a column holds what could never have been written
            linked = b""
        if linked != event.hash:
            raise CorruptLogError(stream_id, seq, "the envelope does not match its hash")
        previous = event.hash
    return seq, previous


def _verify_payload(stream_id: str, event: StoredEvent) -> None:
    payload, salt = event.payload, event.salt
    if payload is None and salt is None:  # erased: the digest stands for it
        return
    # The salt's length is part of the check: bytes could move between it and the payload.
    if type(payload) is not bytes or type(salt) is not bytes or len(salt) != SALT_BYTES:
        raise CorruptLogError(stream_id, event.seq, "payload and salt are not what was written")
    if digest_of(salt, payload) != event.payload_digest:
        raise CorruptLogError(stream_id, event.seq, "the payload does not match its digest")
