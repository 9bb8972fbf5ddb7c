"""Check an exported file: no database, only the file and, for the signature, public keys.

Imports neither SQLAlchemy nor a web framework, so that an auditor's machine needs neither.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec
from msgspec import Struct

from actors.audit.exporting.file_format import (
    SESSION_PREFIX,
    ExportFormat,
    Header,
    ProofInFile,
    ProofLine,
    decode_end,
    decode_header,
    decode_proof,
    format_of,
)
from actors.audit.exporting.lines import LineError
from actors.audit.signing.notes import (
    ED25519,
    VerifierKey,
    parse_checkpoint,
    parse_note,
    parse_verifier_keys,
    verify_note,
)
from actors.audit.verifying.coverage import DELTA_TYPES, Coverage
from actors.session.codec import Codec, UnknownEventError
from actors.session.events import Erased, Event
from actors.session.evolve import evolve
from actors.session.record_events import StreamErased
from actors.session.state import SessionState
from persistence import chain, merkle
from persistence.errors import CorruptLogError, ProofError
from persistence.records import StoredEvent

LINE_BYTES_MAX = 128 * 1024 * 1024
"""A longer line is no event: the largest payload that a gateway takes is far smaller."""

EPOCH_MAX = 2**53
"""No session has had so many owners, and databases count not much further."""

RECORDED_AT_US_MAX = 253_402_300_800_000_000
"""Where the year 9999 ends."""

_CODEC = Codec()

T = TypeVar("T")


class FileProblem(Struct, frozen=True):
    """What is wrong with the file; ``seq`` is the event's where it is one's."""

    seq: int | None
    problem: str


class FileReport(Struct, frozen=True, rename="camel"):
    """What a file proves.

    ``proven`` is the last event that the checkpoint covers; those after it have the chain alone.
    None where there is no checkpoint. ``signed_by`` names whose signature was checked and good;
    nobody's without public keys. ``erased`` events have a record in the file, ``erased_deltas``
    have not: streamed parts of whole messages go by retention, those recorded before
    ``deltas_before_us``. Other times are in milliseconds.
    """

    ok: bool
    format: str
    stream: str
    events: int
    head: str
    exported_at: int
    generator: str
    erased: int
    erased_deltas: int
    deltas_before_us: int
    proven: int | None
    checkpoint: str | None
    signed_by: tuple[str, ...]
    problems: tuple[FileProblem, ...]

    @property
    def lines(self) -> list[str]:
        """Return the report for people, a fact a line."""
        return [*[_told(each) for each in self.problems], *_facts(self)]


class _DamagedError(Exception):
    """The file is not what an export is; ``seq`` names the event where it is one's."""

    def __init__(self, seq: int | None, problem: str) -> None:
        super().__init__(problem)
        self.seq = seq


Keep = Callable[[StoredEvent, SessionState], object]


def check_file(path: Path, public_keys: Sequence[str] = ()) -> FileReport:
    """Check every byte of an exported file; verifier keys are for its checkpoint's signature.

    A key is its text, or that of a file with one in a line. Raises OSError where the file can't
    be read and ProofError for a key that is none; whatever the file holds is in the report.
    """
    with path.open("rb") as file:
        return checked(file, public_keys)[0]


def checked(
    file: BinaryIO, public_keys: Sequence[str] = (), keep: Keep = lambda _event, _state: None
) -> tuple[FileReport, SessionState]:
    """Check an open file; ``keep`` gets each sound event, and the state it leads to.

    Returns the state that the events lead to beside the report.
    """
    check = _Check(file, _parsed(public_keys), keep)
    try:
        check.run()
    except _DamagedError as error:
        check.problems.append(FileProblem(error.seq, str(error)))
    return check.report(), check.state


class _Check:
    """One pass over one file."""

    def __init__(self, file: BinaryIO, public_keys: Sequence[VerifierKey], keep: Keep) -> None:
        self._file = file
        self._public_keys = public_keys
        self._keep = keep
        self._digest = sha256()
        self._form: ExportFormat | None = None
        self._header: Header | None = None
        self._coverage = Coverage()
        self._deltas_before_us = 0
        self._count = 0
        self._stream = ""
        self._proof: ProofInFile | None = None
        self._signed_by: tuple[str, ...] = ()
        self.state = SessionState("")
        self.problems: list[FileProblem] = []

    def run(self) -> None:
        """Read the file to its end. Raises _DamagedError at the first thing that can't be."""
        line = self._line(None)
        form = self._form = format_of(line)
        header = self._header = self._read(lambda: decode_header(form, line))
        if not header.stream.startswith(SESSION_PREFIX):
            raise _DamagedError(None, f"The stream {header.stream} is no session's.")
        self._stream = header.stream
        self.state = SessionState(header.stream.removeprefix(SESSION_PREFIX))
        seq, last = self._follow_chain(form, header)
        if (seq, last.hex()) != (header.head.seq, header.head.hash):
            raise _DamagedError(seq, "The last event is not the one that the header names.")
        proof_line = self._line(None)
        proof = self._read(lambda: decode_proof(form, header, proof_line))
        before = self._digest.hexdigest()
        end_line = self._line(None)
        end = self._read(lambda: decode_end(form, header, end_line))
        if end.events != seq or end.sha256 != before:
            raise _DamagedError(None, "The file is not the one that its last line was made for.")
        if self._file.read(1):
            raise _DamagedError(None, "Something follows the last line.")
        self._check_erasures()
        self._check_proof(proof)

    def report(self) -> FileReport:
        """Return what was found."""
        header = self._header
        proof = None if self.problems else self._proof
        return FileReport(
            not self.problems,
            "" if self._form is None else self._form.name,
            "" if header is None else header.stream,
            self._count,
            "" if header is None else header.head.hash,
            0 if header is None else header.exported_at,
            "" if header is None else header.generator,
            self._coverage.recorded,
            self._coverage.by_retention,
            self._deltas_before_us,
            None if proof is None else proof.leaf.version,
            None if proof is None else proof.checkpoint,
            () if proof is None else self._signed_by,
            tuple(self.problems),
        )

    def _follow_chain(self, form: ExportFormat, header: Header) -> tuple[int, bytes]:
        try:
            return chain.verify(header.stream, self._events(form, header))
        except CorruptLogError as error:
            said = str(error).removeprefix(f"{error.stream_id} is damaged at seq {error.seq}: ")
            raise _DamagedError(error.seq, said) from error

    def _events(self, form: ExportFormat, header: Header) -> Iterator[StoredEvent]:
        """Yield the events to the chain; what follows a yield knows that its link is good."""
        for seq in range(1, header.head.seq + 1):
            line = self._line(seq)
            try:
                stream_id, event = form.read_event(line)
            except LineError as error:
                raise _DamagedError(seq, str(error)) from error
            if stream_id != header.stream:
                raise _DamagedError(seq, f"This is an event of {stream_id}.")
            yield event
            _require_possible(event)
            self._take(event)

    def _take(self, event: StoredEvent) -> None:
        self._count = event.seq
        happened = _decoded(event)
        if isinstance(happened, Erased):
            self._coverage.erased(event.seq, event.type)
            if event.type in DELTA_TYPES:
                self._deltas_before_us = max(self._deltas_before_us, event.recorded_at + 1)
        elif isinstance(happened, StreamErased):
            if any(last >= event.seq for _first, last in happened.ranges):
                raise _DamagedError(event.seq, "It says that later events were erased.")
            self._coverage.covered(happened)
        self.state = evolve(self.state, happened)
        self._keep(event, self.state)

    def _check_erasures(self) -> None:
        for first, last in self._coverage.unexplained:
            until = f" and all up to seq {last}" if last > first else ""
            self._add(f"The payload{until} was erased without a record of it.", first)

    def _check_proof(self, line: ProofLine) -> None:
        """Check that the checkpoint has the stream's leaf, and that known keys signed it."""
        proof = line.proof
        if proof is None:
            if self._public_keys:
                self._add("There is no checkpoint in the file, so nobody's signature to check.")
            return
        try:
            self._signed_by = _signers(proof.checkpoint, self._public_keys)
            self._check_inclusion(proof)
        except ProofError as error:
            self._add(str(error))
        self._proof = proof

    def _check_inclusion(self, proof: ProofInFile) -> None:
        stream_id, leaf = self._stream, proof.leaf
        checkpoint = parse_checkpoint(parse_note(proof.checkpoint).text)
        if checkpoint.size != proof.size:
            raise ProofError(f"The proof is for {proof.size} leaves, not {checkpoint.size}.")
        if not 1 <= leaf.version <= self._count:
            raise ProofError(f"The checkpoint covers seq {leaf.version}, which is not in the file.")
        if self._hash_at(leaf.version) != leaf.hash:
            seq = leaf.version
            raise ProofError(f"Seq {seq} is not the event that was signed: its hash is another.")
        data = merkle.leaf_data(stream_id, leaf.version, bytes.fromhex(leaf.hash))
        try:
            path = [bytes.fromhex(each) for each in proof.inclusion]
        except ValueError as error:
            raise ProofError("The inclusion proof holds what is no hash.") from error
        if [each.hex() for each in path] != list(proof.inclusion):
            raise ProofError("The inclusion proof is not written as an export writes it.")
        merkle.verify_inclusion(
            leaf.index, proof.size, merkle.leaf_hash(data), path, checkpoint.root
        )

    def _hash_at(self, seq: int) -> str:
        """Return an event's hash, in hexadecimal, from the file, which was read already."""
        assert self._form is not None
        self._file.seek(0)
        for _line in range(seq):
            self._file.readline(LINE_BYTES_MAX)
        line = self._file.readline(LINE_BYTES_MAX)
        return self._form.read_event(line[:-1])[1].hash.hex()

    def _add(self, problem: str, seq: int | None = None) -> None:
        self.problems.append(FileProblem(seq, problem))

    def _line(self, seq: int | None) -> bytes:
        """Return the next line without its end. Raises _DamagedError."""
        line = self._file.readline(LINE_BYTES_MAX)
        self._digest.update(line)
        if not line.endswith(b"\n"):
            raise _DamagedError(seq, "The file is cut off.")
        return line[:-1]

    @staticmethod
    def _read(read: Callable[[], T]) -> T:
        try:
            return read()
        except LineError as error:
            raise _DamagedError(None, str(error)) from error


def _parsed(public_keys: Sequence[str]) -> list[VerifierKey]:
    """Return the keys of all texts. Raises ProofError, also for a text without any."""
    keys = [parse_verifier_keys(text) for text in public_keys]
    if not all(keys):
        raise ProofError("There is no verifier key in what was given as one.")
    return [key for some in keys for key in some]


def _require_possible(event: StoredEvent) -> None:
    """Refuse what no gateway wrote and no database holds, however well it is linked."""
    cause = event.causation_seq
    named = (event.principal or "") + (event.correlation_id or "")
    for impossible, what in (
        (event.epoch > EPOCH_MAX, f"no stream has the epoch {event.epoch}"),
        (not 0 <= event.recorded_at < RECORDED_AT_US_MAX, "it was recorded at no time"),
        (cause is not None and not 0 < cause <= event.seq, "what caused it is not before it"),
        ("\0" in named, "its principal or correlation id holds a null character"),
    ):
        if impossible:
            raise _DamagedError(event.seq, f"This can't have been written: {what}.")


def _decoded(event: StoredEvent) -> Event:
    """Return what happened. Raises _DamagedError for what no program of this version writes."""
    if event.payload is None:
        return Erased(type=event.type)
    try:
        return _CODEC.decode(event.type, event.schema_version, event.payload)
    except (UnknownEventError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _DamagedError(event.seq, f"The event can't be read: {error}") from error


def _signers(checkpoint: str, keys: Sequence[VerifierKey]) -> tuple[str, ...]:
    """Return which of the keys signed the checkpoint. Raises ProofError where none did."""
    if not keys:
        return ()
    own = [key for key in keys if key.kind == ED25519]
    note = parse_note(checkpoint)
    verify_note(note, own)  # a witness alone says nothing about who keeps the log
    return tuple([str(key) for key in verify_note(note, keys)])


def _told(problem: FileProblem) -> str:
    where = "" if problem.seq is None else f"seq {problem.seq}: "
    return f"{where}{problem.problem}"


def _facts(report: FileReport) -> Iterator[str]:
    if not report.ok:
        yield "Do not rely on this file: have it exported again, and compare."
        return
    yield f"{report.stream}: {report.events} events, each linked to the one before it."
    yield f"The last hash is {report.head}."
    if report.erased:
        yield f"{report.erased} payloads are erased, as the stream says."
    if report.erased_deltas:
        yield f"{report.erased_deltas} streamed parts of messages are erased by retention."
    if report.proven is None:
        yield "There is no checkpoint in the file: nobody has signed where the stream ended."
        return
    yield f"A checkpoint covers the events up to seq {report.proven}."
    if report.events > report.proven:
        yield "Those after it are covered by the chain alone."
    for name in report.signed_by:
        yield f"Signed by {name}."
    if not report.signed_by:
        yield "Nobody's signature was checked: give the public key of who keeps the log."
