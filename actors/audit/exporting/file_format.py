"""The lines of an export, as JSON Lines and as CloudEvents. Pure; see docs/audit.md.

A file has a header, an event a line, a proof, an end. Every line is written in one way only, so
that no byte of it can differ unnoticed; the end has the SHA-256 of all that comes before it.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.structs import astuple

from actors.audit.exporting.lines import (
    EventLine,
    LineError,
    decode_line,
    encode_line,
    event_in,
    line_of,
)
from persistence.records import StoredEvent

FORMAT = "sessiond-export"
VERSION = 1
SESSION_PREFIX = "session:"
SPEC_VERSION = "1.0"
JSON = "application/json"
BINARY = "application/octet-stream"
EVENT_PREFIX = "sessiond."
OWN_PREFIX = "sessiond-export."

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class EndOfStream(Struct, frozen=True):
    """Where the stream ended when it was exported; ``hash`` is in hexadecimal."""

    seq: int
    hash: str


class Header(Struct, frozen=True, rename="camel"):
    """The first line; ``exported_at`` is in milliseconds since the epoch, UTC."""

    format: str
    version: int
    stream: str
    head: EndOfStream
    exported_at: int
    generator: str


class ProvenLeaf(Struct, frozen=True):
    """The newest leaf of the stream in the log's Merkle tree; ``hash`` is the event's."""

    index: int
    version: int
    hash: str


class ProofInFile(Struct, frozen=True):
    """A signed checkpoint of ``size`` leaves, and the path from the stream's leaf to its root."""

    checkpoint: str
    leaf: ProvenLeaf
    inclusion: tuple[str, ...]
    size: int


class ProofLine(Struct, frozen=True):
    """The line after the events; ``keys`` are the verifier keys in use then, for comparison."""

    proof: ProofInFile | None
    keys: tuple[str, ...]


class EndInFile(Struct, frozen=True):
    """How many events there were, and the SHA-256 of all bytes before this line."""

    events: int
    sha256: str


class EndLine(Struct, frozen=True):
    """The last line."""

    end: EndInFile


class _CloudEvent(Struct, frozen=True, omit_defaults=True):
    """What every CloudEvent has; the names of attributes are the specification's."""

    specversion: str
    id: str
    source: str
    type: str
    time: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET


class _CloudEventOfLog(Struct, frozen=True, omit_defaults=True):
    specversion: str
    id: str
    source: str
    type: str
    seq: int
    epoch: int
    schemaversion: int
    recordedatus: str
    hash: str
    time: str | UnsetType = UNSET
    principal: str | UnsetType = UNSET
    correlationid: str | UnsetType = UNSET
    causationseq: int | UnsetType = UNSET
    salt: str | UnsetType = UNSET
    payloaddigest: str | UnsetType = UNSET
    datacontenttype: str | UnsetType = UNSET
    data: Raw | UnsetType = UNSET
    data_base64: str | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(Header).decode
_decode_proof = msgspec.json.Decoder(ProofLine).decode
_decode_end = msgspec.json.Decoder(EndLine).decode
_decode_cloud = msgspec.json.Decoder(_CloudEvent).decode
_decode_cloud_event = msgspec.json.Decoder(_CloudEventOfLog).decode


class ExportFormat(Protocol):
    """How the lines of an export are written and read; lines come without their ends.

    Reading raises LineError for what is not exactly what would have been written.
    """

    name: str

    def event(self, stream_id: str, event: StoredEvent) -> bytes:
        """Return an event's line."""

    def read_event(self, line: bytes) -> tuple[str, StoredEvent]:
        """Return the stream's name, and the event."""

    def wrap(self, kind: str, header: Header, body: bytes) -> bytes:
        """Return the line of a header, a proof or an end, of which the body is the JSON."""

    def unwrap(self, line: bytes) -> bytes:
        """Return the body that stands in such a line."""


class JsonLines:
    """Each line is what it says. Implements ExportFormat."""

    name = "jsonl"

    def event(self, stream_id: str, event: StoredEvent) -> bytes:
        """See ExportFormat.event."""
        return encode_line(stream_id, event)

    def read_event(self, line: bytes) -> tuple[str, StoredEvent]:
        """See ExportFormat.read_event."""
        stream_id, event = decode_line(line)
        return stream_id, _same(line, self.event(stream_id, event), event)

    def wrap(self, kind: str, header: Header, body: bytes) -> bytes:  # noqa: ARG002 - ExportFormat's
        """See ExportFormat.wrap."""
        return body

    def unwrap(self, line: bytes) -> bytes:
        """See ExportFormat.unwrap."""
        return line


class CloudEvents:
    """Each line is a CloudEvent 1.0 in its JSON format. Implements ExportFormat."""

    name = "cloudevents"

    def event(self, stream_id: str, event: StoredEvent) -> bytes:
        """See ExportFormat.event."""
        line = line_of(stream_id, event)
        content: str | UnsetType = UNSET
        if line.payload is not UNSET or line.payload_base64 is not UNSET:
            content = JSON if line.payload_base64 is UNSET else BINARY
        return _encode(
            _CloudEventOfLog(
                SPEC_VERSION,
                str(line.seq),
                source_of(stream_id),
                EVENT_PREFIX + line.type,
                line.seq,
                line.epoch,
                line.version,
                str(line.recorded_at_us),
                line.hash,
                _time(line.recorded_at_us),
                _or_unset(line.principal),
                _or_unset(line.correlation_id),
                UNSET if line.causation_seq is None else line.causation_seq,
                line.salt,
                line.payload_digest,
                content,
                line.payload,
                line.payload_base64,
            )
        )

    def read_event(self, line: bytes) -> tuple[str, StoredEvent]:
        """See ExportFormat.read_event."""
        try:
            found = _decode_cloud_event(line)
            stream_id = _stream_of(found.source)
            _stream_id, event = event_in(
                EventLine(
                    stream_id,
                    found.seq,
                    found.epoch,
                    found.type.removeprefix(EVENT_PREFIX),
                    found.schemaversion,
                    int(found.recordedatus),
                    found.hash,
                    _or_none(found.principal),
                    _or_none(found.correlationid),
                    None if found.causationseq is UNSET else found.causationseq,
                    found.data,
                    found.data_base64,
                    found.salt,
                    found.payloaddigest,
                )
            )
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise LineError(f"This is not an event: {error}") from error
        return stream_id, _same(line, self.event(stream_id, event), event)

    def wrap(self, kind: str, header: Header, body: bytes) -> bytes:
        """See ExportFormat.wrap."""
        at = header.exported_at
        return _encode(
            _CloudEvent(
                SPEC_VERSION,
                f"{kind}-{at}",
                source_of(header.stream),
                OWN_PREFIX + kind,
                _time(at * 1_000),
                JSON,
                Raw(body),
            )
        )

    def unwrap(self, line: bytes) -> bytes:
        """See ExportFormat.unwrap."""
        try:
            found = _decode_cloud(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise LineError(f"This is not a CloudEvent: {error}") from error
        if found.data is UNSET:
            raise LineError("This CloudEvent has no data.")
        return bytes(found.data)


FORMATS: dict[str, ExportFormat] = {"jsonl": JsonLines(), "cloudevents": CloudEvents()}


def format_of(first_line: bytes) -> ExportFormat:
    """Return the format of the file that begins with this line."""
    return FORMATS["cloudevents" if first_line.startswith(b'{"specversion":') else "jsonl"]


def encode_header(form: ExportFormat, header: Header) -> bytes:
    """Return the first line."""
    return form.wrap("header", header, _encode(header))


def encode_proof(form: ExportFormat, header: Header, proof: ProofLine) -> bytes:
    """Return the line after the events."""
    return form.wrap("proof", header, _encode(proof))


def encode_end(form: ExportFormat, header: Header, events: int, sha256: str) -> bytes:
    """Return the last line."""
    return form.wrap("end", header, _encode(EndLine(EndInFile(events, sha256))))


def decode_header(form: ExportFormat, line: bytes) -> Header:
    """Return what the first line says. Raises LineError."""
    header = _read(_decode_header, form.unwrap(line), "an export's header")
    if header.format != FORMAT or header.version != VERSION:
        raise LineError(f"This program reads {FORMAT} version {VERSION} only.")
    return _same(line, encode_header(form, header), header)


def decode_proof(form: ExportFormat, header: Header, line: bytes) -> ProofLine:
    """Return what the line after the events says. Raises LineError."""
    proof = _read(_decode_proof, form.unwrap(line), "an export's proof")
    return _same(line, encode_proof(form, header, proof), proof)


def decode_end(form: ExportFormat, header: Header, line: bytes) -> EndInFile:
    """Return what the last line says. Raises LineError."""
    end = _read(_decode_end, form.unwrap(line), "an export's end").end
    return _same(line, encode_end(form, header, *astuple(end)), end)


def source_of(stream_id: str) -> str:
    """Return a session's stream as a CloudEvents source."""
    return "/sessions/" + quote(stream_id.removeprefix(SESSION_PREFIX), safe="")


def _stream_of(source: str) -> str:
    return SESSION_PREFIX + unquote(source.removeprefix("/sessions/"), errors="strict")


def _read(decode: Callable[[bytes], T], body: bytes, what: str) -> T:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise LineError(f"This is not {what}: {error}") from error


def _same(line: bytes, written: bytes, found: T) -> T:
    if line != written:
        raise LineError("The line is not written as an export writes it.")
    return found


def _time(at_us: int) -> str | UnsetType:
    """Return a time as RFC 3339 has it, UNSET for one that no calendar knows."""
    try:
        at = _EPOCH + timedelta(microseconds=at_us)
    except OverflowError:
        return UNSET
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _or_unset(text: str | None) -> str | UnsetType:
    return UNSET if text is None else text


def _or_none(text: str | UnsetType) -> str | None:
    return None if text is UNSET else text
