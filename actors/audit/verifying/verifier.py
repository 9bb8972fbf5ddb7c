"""A whole log and its checkpoints verified from outside, by as many processes as are wanted."""

from collections.abc import Callable, Collection
from typing import Self

from msgspec import Struct

from actors.audit.signing.anchoring import compare
from actors.audit.signing.checkpoints import Checkpoints
from actors.audit.signing.events import STREAM as CHECKPOINTS
from actors.audit.signing.notes import VerifierKey, parse_verifier_key
from actors.audit.verifying.segments import Segment, SegmentReport
from actors.audit.verifying.verification import Since, StreamReport, verify_row
from actors.audit.verifying.vouching import Vouched, contradiction, tree_damage, vouched_for
from actors.audit.verifying.whole_log import (
    Damage,
    Progress,
    Workers,
    here,
    settle_collector,
    verify_all,
)
from actors.gateway_actor import read_state
from actors.gateway_state import STREAM as GATEWAY
from actors.replay import stream_of
from persistence.errors import CorruptLogError, ProofError
from persistence.event_log import EventLog
from persistence.raw_rows import RawRows, StreamRow
from persistence.tree import Tree

EVENTS_FOR_WORKERS = 50_000
"""Fewer events are read sooner by one process than others are started."""


class LastEvent(Struct, frozen=True):
    """The last sound event of a stream, and its hash in hexadecimal."""

    seq: int
    hash: str


class Outcome(Struct):
    """What was found so far; ``notes`` are sentences for people. A ``head`` is of one stream."""

    streams: int = 0
    events: int = 0
    erased: int = 0
    head: LastEvent | None = None
    checkpoint: int | None = None
    problems: list[Damage] = []
    notes: list[str] = []

    @property
    def ok(self) -> bool:
        """Tell whether all is well."""
        return not self.problems


class LogVerifier:
    """Verifies a log that others may write meanwhile; ``open_rows`` opens a connection to it.

    Without ``keys`` those that the log itself names are believed. Every method raises
    StoreUnavailableError.
    """

    def __init__(
        self,
        open_rows: Callable[[], RawRows],
        log: EventLog,
        tree: Tree,
        checkpoints: Checkpoints,
        keys: Collection[VerifierKey],
        jobs: int,
    ) -> None:
        self.outcome = Outcome()
        self._open_rows = open_rows
        self._raw = open_rows()
        self._log = log
        self._tree = tree
        self._checkpoints = checkpoints
        self._given = keys
        self._jobs = jobs
        self._workers: Workers | None = None
        settle_collector()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._workers is not None:
            self._workers.close()

    def count_events(self, target: str | None = None) -> int:
        """Return how many events there are, or how many a stream should have."""
        stream = None if target is None else self._named(target)
        if stream is not None:
            return stream.version
        ((count,),) = self._raw.all("SELECT count(*) FROM events")
        return int(count)

    def _named(self, target: str) -> StreamRow | None:
        return self._raw.stream(stream_of(target)) or self._raw.stream(target)

    def verify(self, target: str, *, from_checkpoint: bool, progress: Progress) -> bool:
        """Verify a session by its key, or a stream by its name; False where there is none."""
        stream = self._named(target)
        if stream is None:
            return False
        vouched, error = self._vouched(stream.stream_id)
        since = None
        if from_checkpoint and vouched is not None:
            since = Since(vouched.seq, vouched.hash)
        report = self._checked(stream, since, progress)
        findings = list(report.findings)
        if error is not None:
            findings.append(contradiction(error, report))
        outcome = self.outcome
        outcome.streams += 1
        outcome.events += report.events
        outcome.erased += report.erased
        outcome.head = LastEvent(report.seq, report.hash.hex())
        self._add([Damage(report.stream, each.seq, each.problem) for each in findings])
        if error is None:
            self._tell(vouched, since)
        return True

    def _checked(self, stream: StreamRow, since: Since | None, progress: Progress) -> StreamReport:
        workers = self._started(stream.version - (since.seq if since else 0))
        submit = here(self._raw) if workers is None else workers.submit

        def check(segments: list[Segment]) -> list[SegmentReport]:
            reports: list[SegmentReport] = []
            for future in [submit([each]) for each in segments]:
                reports += future.result()
                progress(reports[-1].seq - reports[-1].after)
            return reports

        return verify_row(self._raw, stream, check, since=since)

    def verify_all(self, *, from_checkpoint: bool, progress: Progress) -> None:
        """Verify every stream, the checkpoints, and what no stream tells by itself."""
        raw, outcome = self._raw, self.outcome
        keys, latest = self._latest()

        def since_of(stream: StreamRow) -> Since | None:
            if not from_checkpoint or latest is None:
                return None
            vouched = vouched_for(self._checkpoints, stream.stream_id, keys)
            return None if vouched is None else Since(vouched.seq, vouched.hash)

        workers = self._started(self.count_events())
        report = verify_all(
            raw,
            here(raw) if workers is None else workers.submit,
            waiting_max=1 if workers is None else workers.waiting_max,
            since_of=since_of,
            progress=progress,
        )
        outcome.streams += report.streams
        outcome.events += report.events
        outcome.erased += report.erased
        self._add(report.damage)
        if latest is not None:
            self._compare_latest(latest)
        damage = tree_damage(self._log, self._tree)
        self._add([Damage(each.stream, each.seq, each.problem) for each in damage])

    def _compare_latest(self, note: str) -> None:
        try:
            self.compare(note)
        except ProofError as error:
            head = self._log.head(CHECKPOINTS)
            seq = 0 if head is None else head.version
            self._add([Damage(CHECKPOINTS, seq, f"the latest can't be believed: {error}")])

    def compare(self, note: str) -> None:
        """Compare the log with a checkpoint. Raises ProofError where none of the keys signed it."""
        found = compare(self._log, self._tree, note, self._keys())
        self._add([Damage(each.stream, each.seq, each.problem) for each in found])
        size = int(note.split("\n", 2)[1])
        self.outcome.checkpoint = size
        if not found:
            self.outcome.notes.append(
                f"The checkpoint of size {size} is what the streams lead to{self._by_whom()}."
            )

    def _started(self, events: int) -> Workers | None:
        """Return the worker processes where there is enough to do for them."""
        if self._workers is None and self._jobs > 1 and events >= EVENTS_FOR_WORKERS:
            self._workers = Workers(self._open_rows, self._jobs)
        return self._workers

    def _vouched(
        self, stream_id: str
    ) -> tuple[Vouched | None, CorruptLogError | ProofError | None]:
        """Return up to where a stream is vouched for, and why it isn't where it should be."""
        try:
            return vouched_for(self._checkpoints, stream_id, self._keys()), None
        except ProofError as error:
            return None, error
        except CorruptLogError as error:
            if error.stream_id == stream_id:
                return None, error
            self._add([Damage(error.stream_id, error.seq, error.problem)])
            return None, None

    def _latest(self) -> tuple[Collection[VerifierKey], str | None]:
        """Return who is believed, and the note of the latest checkpoint where it can be read."""
        try:
            keys, latest = self._keys(), self._checkpoints.latest()
        except CorruptLogError as error:
            self._add([Damage(error.stream_id, error.seq, error.problem)])
            return (), None
        if latest is None:
            note = "No checkpoint has been signed: sessiond checkpoint signs one."
            self.outcome.notes.append(note)
            return keys, None
        return keys, latest.note

    def _keys(self) -> Collection[VerifierKey]:
        """Return who is believed. Raises CorruptLogError where the log can't name anybody."""
        if self._given:
            return self._given
        head = self._log.head(GATEWAY)
        known = () if head is None else read_state(self._log, head).signing_keys
        return [parse_verifier_key(each.verifier_key) for each in known]

    def _tell(self, vouched: Vouched | None, since: Since | None) -> None:
        if vouched is None:
            self.outcome.notes.append("No signed checkpoint covers it yet.")
            return
        self.outcome.checkpoint = vouched.size
        read = "read" if since is None else "not read anew"
        self.outcome.notes.append(
            f"The checkpoint of size {vouched.size} covers it up to seq {vouched.seq}, {read}"
            f"{self._by_whom()}."
        )

    def _by_whom(self) -> str:
        return "" if self._given else "; signed by a key that the log itself names"

    def _add(self, damage: list[Damage]) -> None:
        known = {(each.stream, each.seq) for each in self.outcome.problems}
        for each in damage:
            if (each.stream, each.seq) not in known:
                known.add((each.stream, each.seq))
                self.outcome.problems.append(each)
