"""Write a session's events to a file that proves itself; reads no more than a chunk ahead."""

import contextlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from importlib.metadata import version

from msgspec import Struct
from msgspec.structs import replace

from actors.audit.exporting.file_format import (
    FORMAT,
    VERSION,
    EndOfStream,
    ExportFormat,
    Header,
    ProofInFile,
    ProofLine,
    ProvenLeaf,
    encode_end,
    encode_header,
    encode_proof,
)
from actors.audit.signing.checkpoints import Checkpoints
from actors.audit.signing.notes import parse_checkpoint, parse_note, parse_verifier_key
from actors.audit.signing.proofs import StreamProof
from actors.audit.verifying.coverage import Coverage
from actors.errors import SessionNotFound
from actors.gateway_actor import read_state
from actors.gateway_state import STREAM as GATEWAY
from actors.replay import decode, stream_of
from actors.session.record_events import StreamErased
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.native import give_way
from persistence.records import Head, StoredEvent

YIELD_EVERY_EVENTS = 500
"""After so many events other greenlets have their turn."""

Seen = Callable[[int], object]
"""Is told now and then how many events have been read."""


def ignored(_count: int) -> None:
    """Take no note of how many events have been read."""


class ErasedMeanwhileError(Exception):
    """Payloads went while the stream was read, and why is recorded after its end as exported."""


class Exported(Struct, frozen=True):
    """What is exported: a stream up to a head, and what proves it; read the proof first."""

    head: Head
    proof: ProofInFile | None
    keys: tuple[str, ...]
    exported_at: int

    @property
    def header(self) -> Header:
        """Return the first line of the file."""
        return Header(
            FORMAT,
            VERSION,
            self.head.stream_id,
            EndOfStream(self.head.version, self.head.hash.hex()),
            self.exported_at,
            f"sessiond {version('sessiond')}",
        )


def export_of(log: EventLog, checkpoints: Checkpoints, key: str, at: int) -> Exported:
    """Return a session's stream as it ends now, and what proves it; ``at`` is in milliseconds.

    Raises SessionNotFound where there is no such stream, and PersistenceError.
    """
    stream_id = stream_of(key)
    proof = in_file(checkpoints.proof(stream_id))  # before the head, which only moves on
    head = log.head(stream_id)
    if head is None or not head.version:
        raise SessionNotFound(key)
    return Exported(head, proof, _signers(log, proof), at)


def _signers(log: EventLog, proof: ProofInFile | None) -> tuple[str, ...]:
    """Return those of the log's verifier keys that signed; who reads them must know them better."""
    head = log.head(GATEWAY)
    if proof is None or head is None:
        return ()
    try:
        used = [each.verifier_key for each in read_state(log, head).signing_keys]
    except CorruptLogError:
        return ()  # the session's proof does not depend on it
    signatures = parse_note(proof.checkpoint).signatures
    signed = {(each.name, each.key_id) for each in signatures}
    keys = [parse_verifier_key(each) for each in used]
    return tuple([str(each) for each in keys if (each.name, each.id) in signed])


def in_file(proof: StreamProof | None) -> ProofInFile | None:
    """Return a proof as it stands in a file."""
    if proof is None:
        return None
    return ProofInFile(
        proof.checkpoint,
        ProvenLeaf(proof.index, proof.version, proof.hash.hex()),
        tuple([each.hex() for each in proof.inclusion]),
        parse_checkpoint(parse_note(proof.checkpoint).text).size,
    )


def export_lines(
    log: EventLog, exported: Exported, form: ExportFormat, seen: Seen = ignored
) -> Iterator[bytes]:
    """Yield the lines of a file, each with its end.

    What is damaged in the log is damaged in the file, and found there. Raises
    ErasedMeanwhileError before the last line, without which a file is refused.
    """
    header, stream_id = exported.header, exported.head.stream_id
    digest = sha256()
    coverage = Coverage()
    line = encode_header(form, header) + b"\n"
    digest.update(line)
    yield line
    count = 0
    for event in events_of(log, exported.head, seen):
        _follow(coverage, stream_id, event)
        line = form.event(stream_id, _without_derived(event)) + b"\n"
        digest.update(line)
        count += 1
        yield line
    _require_explained(log, exported.head, coverage)
    line = encode_proof(form, header, ProofLine(exported.proof, exported.keys)) + b"\n"
    digest.update(line)
    yield line
    yield encode_end(form, header, count, digest.hexdigest()) + b"\n"


def events_of(log: EventLog, head: Head, seen: Seen = ignored) -> Iterator[StoredEvent]:
    """Yield a stream's events, and let others have their turn now and then."""
    for index, event in enumerate(log.read(head), start=1):
        yield event
        if index % YIELD_EVERY_EVENTS == 0:
            seen(index)
            give_way()
    seen(head.version)


def _without_derived(event: StoredEvent) -> StoredEvent:
    """Leave out a digest that follows from the payload: where it is stored is no matter."""
    if not event.payload_digest or event.payload is None or event.salt is None:
        return event
    if chain.digest_of(event.salt, event.payload) != event.payload_digest:
        return event  # damage is for who reads the file
    return replace(event, payload_digest=chain.DERIVED)


def _follow(coverage: Coverage, stream_id: str, event: StoredEvent) -> None:
    if event.payload is None:
        coverage.erased(event.seq, event.type)
    elif event.type == StreamErased.wire_name:
        with contextlib.suppress(CorruptLogError):  # it is found by who reads the file
            found = decode(stream_id, event)
            assert isinstance(found, StreamErased)
            coverage.covered(found)


def _require_explained(log: EventLog, head: Head, coverage: Coverage) -> None:
    if not coverage.unexplained:
        return
    now = log.head(head.stream_id)
    if now is None or now.version == head.version:
        return
    if any(event.type == StreamErased.wire_name for event in log.read(now, after=head.version)):
        raise ErasedMeanwhileError(
            f"{head.stream_id} was erased while it was exported: export it again."
        )
