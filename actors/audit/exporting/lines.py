"""Events as lines of JSON, and back, bit for bit. Pure.

A payload stands in its line as the very bytes that were hashed. One that is no JSON (the log is
damaged then) stands there in base64. Hashes, salts and digests are in hexadecimal.
"""

import binascii
from base64 import b64decode, b64encode

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from persistence.records import StoredEvent


class LineError(Exception):
    """A line is not an event's; the message says why."""


class EventLine(Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One event of one stream; ``recorded_at_us`` is in microseconds since the epoch, UTC.

    Without ``payload`` and ``salt`` it is erased, and ``payload_digest`` stands for them.
    """

    stream: str
    seq: int
    epoch: int
    type: str
    version: int
    recorded_at_us: int
    hash: str
    principal: str | None = None
    correlation_id: str | None = None
    causation_seq: int | None = None
    payload: Raw | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET
    salt: str | UnsetType = UNSET
    payload_digest: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(EventLine).decode
_is_json = msgspec.json.Decoder().decode


def line_of(stream_id: str, event: StoredEvent) -> EventLine:
    """Return an event as what stands in its line."""
    payload: Raw | UnsetType = UNSET
    payload_base64: str | UnsetType = UNSET
    if event.payload is not None:
        if _can_stand_in_a_line(event.payload):
            payload = Raw(event.payload)
        else:
            payload_base64 = b64encode(event.payload).decode()
    return EventLine(
        stream_id,
        event.seq,
        event.epoch,
        event.type,
        event.schema_version,
        event.recorded_at,
        event.hash.hex(),
        event.principal,
        event.correlation_id,
        event.causation_seq,
        payload,
        payload_base64,
        UNSET if event.salt is None else event.salt.hex(),
        event.payload_digest.hex() or UNSET,
    )


def _can_stand_in_a_line(payload: bytes) -> bool:
    try:
        _is_json(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return b"\n" not in payload and payload == payload.strip()  # it ends where its value does


def encode_line(stream_id: str, event: StoredEvent) -> bytes:
    """Return an event's line, without its end."""
    return _encode(line_of(stream_id, event))


def decode_line(line: bytes) -> tuple[str, StoredEvent]:
    """Return the stream's name, and the event. Raises LineError."""
    try:
        return event_in(_decode(line))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LineError(f"This is not an event: {error}") from error


def event_in(found: EventLine) -> tuple[str, StoredEvent]:
    """Return the stream's name, and the event. Raises LineError."""
    try:
        payload = None if found.payload is UNSET else bytes(found.payload)
        if found.payload_base64 is not UNSET:
            payload = b64decode(found.payload_base64, validate=True)
        event = StoredEvent(
            found.seq,
            found.epoch,
            found.type,
            found.version,
            found.recorded_at_us,
            found.principal,
            found.correlation_id,
            found.causation_seq,
            payload,
            None if found.salt is UNSET else bytes.fromhex(found.salt),
            b"" if found.payload_digest is UNSET else bytes.fromhex(found.payload_digest),
            bytes.fromhex(found.hash),
        )
    except (ValueError, binascii.Error) as error:
        raise LineError(f"This is not an event: {error}") from error
    return found.stream, event
