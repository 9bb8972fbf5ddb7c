"""Hash links between the events of a stream, and their verification. Pure.

``hash = SHA-256(previous hash ‖ envelope ‖ payload digest)`` and
``payload digest = SHA-256(salt ‖ payload)``. The envelope is a JSON array as RFC 8785 writes it:
``[stream id, seq, epoch, type, schema version, recorded_at, principal, correlation id,
causation seq]``. Both hashes have 32 bytes, so the concatenation can be read in one way only.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import product
from typing import Any

import msgspec

from persistence.errors import CorruptLogError
from persistence.records import GENESIS_HASH, Head, NewEvent, StoredEvent

SALT_BYTES = 16
DIGEST_BYTES = 32

DERIVED = b""
"""A payload's digest while the payload is there: it is not stored, it follows."""

FIELDS = len(StoredEvent.__struct_fields__)

RawRow = tuple[Any, ...]
"""The fields of a StoredEvent as the database has them, then those of its Cursor."""

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
                DERIVED,
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
    epoch: int = 0,
) -> tuple[int, bytes]:
    """Follow the chain and return the last seq and hash.

    ``after``, ``previous`` and ``epoch`` say where the given events begin. Raises
    CorruptLogError at the first event that is missing, out of place, of a fallen epoch or changed.
    """
    seq = after
    for event in events:
        seq += 1
        if event.seq != seq:
            raise CorruptLogError(stream_id, seq, f"found seq {event.seq} in its place")
        if type(event.epoch) is not int or event.epoch < epoch:
            raise CorruptLogError(stream_id, seq, f"epoch {event.epoch} follows epoch {epoch}")
        epoch = event.epoch
        digest = _verified_digest(stream_id, event)
        if _shape_of(event) not in _SHAPES:
            raise CorruptLogError(stream_id, seq, "the envelope holds what could not be written")
        try:
            linked = link(previous, stream_id, seq, epoch, event.recorded_at, event, digest)
        except (TypeError, ValueError):  # a column holds what could never have been written
            linked = b""
        if linked != event.hash:
            raise CorruptLogError(stream_id, seq, _mismatch(event))
        previous = event.hash
    return seq, previous


def follow(
    stream_id: str, rows: Sequence[RawRow], *, after: int, previous: bytes, epoch: int
) -> tuple[bytes, int]:
    """Follow the chain through rows and return the last hash and epoch.

    The same as ``verify``, about twice as fast: whole columns are looked at, and what is wrong is
    looked for only once it is known that something is. Raises CorruptLogError.
    """
    columns = tuple(zip(*rows, strict=True))
    if _well_formed(columns, after, epoch):
        linked = _linked(stream_id, rows, previous)
        if linked is not None:
            return linked, columns[1][-1]
    events = [StoredEvent(*row[:FIELDS]) for row in rows]
    _seq, linked = verify(stream_id, events, after=after, previous=previous, epoch=epoch)
    return linked, events[-1].epoch


def _well_formed(columns: tuple[tuple[Any, ...], ...], after: int, epoch: int) -> bool:
    """Tell whether the columns hold what could have been written; False: perhaps not."""
    seqs, epochs, types, versions, times, principals, correlations, causes = columns[:8]
    payloads, salts, digests = columns[8:11]
    if seqs != tuple(range(after + 1, after + 1 + len(seqs))):
        return False
    if set(map(type, epochs)) != {int} or epochs[0] < epoch or sorted(epochs) != list(epochs):
        return False
    # Of equal values one is looked at: 1.0 is not written as 1 is, and b"" doesn't equal "".
    if not {*map(type, {*types, *principals, *correlations})} <= _TEXTS:
        return False
    if not {*map(type, {*versions, *times, *causes})} <= _INTEGERS:
        return False
    if None in payloads or set(digests) != {DERIVED}:
        return all(map(_is_payload, payloads, salts, digests))
    return set(map(type, payloads)) == set(map(type, salts)) == {bytes} and set(
        map(len, salts)
    ) == {SALT_BYTES}


_TEXTS = {str, type(None)}
_INTEGERS = {int, type(None)}


def _is_payload(payload: object, salt: object, digest: object) -> bool:
    """Tell whether that is a payload, or what stands for one that was erased."""
    if payload is None:
        return salt is None and type(digest) is bytes and len(digest) == DIGEST_BYTES
    whole = type(payload) is bytes and type(salt) is bytes and len(salt) == SALT_BYTES
    return whole and type(digest) is bytes and len(digest) in (0, DIGEST_BYTES)


def _linked(stream_id: str, rows: Sequence[RawRow], previous: bytes) -> bytes | None:
    """Return the hash that the rows lead to, None where one of them doesn't fit."""
    encode, hashed = _encode, sha256
    for (
        seq, epoch, kind, version, at, principal, asked, cause, payload, salt, digest, stored, _, _
    ) in rows:  # fmt: skip
        left = digest if payload is None else hashed(salt + payload).digest()
        if digest and digest != left:  # an older log has it beside the payload
            return None
        envelope = encode((stream_id, seq, epoch, kind, version, at, principal, asked, cause))
        previous = hashed(previous + envelope + left).digest()
        if previous != stored:
            return None
    return previous


_SHAPES = frozenset(
    product((str,), (int,), (int,), *[(kind, type(None)) for kind in (str, str, int)])
)
"""The types that an envelope's fields have: JSON would write bytes as text, infinity as null."""


def _shape_of(event: StoredEvent) -> tuple[type, ...]:
    return (
        type(event.type),
        type(event.schema_version),
        type(event.recorded_at),
        type(event.principal),
        type(event.correlation_id),
        type(event.causation_seq),
    )


def _verified_digest(stream_id: str, event: StoredEvent) -> bytes:
    """Return the digest that stands for the event's payload. Raises CorruptLogError."""
    payload, salt, stored = event.payload, event.salt, event.payload_digest
    if payload is None and salt is None:  # erased: the digest stands for it
        if type(stored) is not bytes or len(stored) != DIGEST_BYTES:
            raise CorruptLogError(stream_id, event.seq, "the payload is gone without a digest")
        return stored
    # The salt's length is part of the check: bytes could move between it and the payload.
    if type(payload) is not bytes or type(salt) is not bytes or len(salt) != SALT_BYTES:
        raise CorruptLogError(stream_id, event.seq, "payload and salt are not what was written")
    digest = digest_of(salt, payload)
    if stored not in (DERIVED, digest):
        raise CorruptLogError(stream_id, event.seq, "the payload does not match its digest")
    return digest


def _mismatch(event: StoredEvent) -> str:
    if event.payload_digest == DERIVED:
        return "the envelope or the payload does not match the hash"
    return "the envelope does not match its hash"
