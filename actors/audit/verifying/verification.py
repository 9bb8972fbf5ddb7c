"""Whether what a stream holds is what was appended, and the rest follows from it."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from actors.audit.verifying.coverage import Coverage
from actors.audit.verifying.gone_deltas import gone_deltas
from actors.audit.verifying.segments import (
    Finding,
    Segment,
    SegmentReport,
    check_segment,
)
from actors.audit.verifying.stream_kinds import codec_of, is_memory, is_session
from actors.session.state import STATE_VERSION
from persistence.errors import CorruptLogError
from persistence.raw_rows import CHUNK_ROWS, IndexEntry, RawRows, StreamRow
from persistence.records import GENESIS_HASH, MemoryRow, Row, Summary

ATTEMPTS_MAX = 10
"""How often a stream is looked at anew because it went on, or was erased from, meanwhile."""

SEGMENT_EVENTS = 20_000
"""A longer stream is checked in parts, which several processes can do at once."""

UNLISTED = Summary(listed=False, active=False, body=b"")


class Since(Struct, frozen=True):
    """From where on a stream is checked: an event that is vouched for, and its hash."""

    seq: int
    hash: bytes


class StreamReport(Struct, frozen=True):
    """What was found in one stream, up to its end at ``seq`` with this ``hash``.

    ``events`` were read, after ``since``; ``erased`` of them have no payload any more. At most
    one of the findings is about events: where one is wrong nothing can be said of what follows.
    """

    stream: str
    seq: int
    hash: bytes
    events: int
    erased: int
    since: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Tell whether all is well."""
        return not self.findings


class Captured(Struct, frozen=True):
    """What a stream's end and projections were at one moment.

    ``upto`` is as far as there can be events: the row may be damaged and name any version.
    """

    stream: StreamRow
    upto: int
    snapshots: list[tuple[int, int]]
    rows: list[Row] = []
    index: list[IndexEntry] = []


Check = Callable[[list[Segment]], list[SegmentReport]]
"""Checks segments, here or elsewhere."""


def verify_stream(
    raw: RawRows,
    stream_id: str,
    *,
    since: Since | None = None,
    pause: Callable[[], object] = lambda: None,
    chunk_rows: int = CHUNK_ROWS,
) -> StreamReport | None:
    """Verify a stream in one pass, as of now; None where there is none of that name.

    ``pause`` is called after every ``chunk_rows`` events. Raises StoreUnavailableError.
    """
    stream = raw.stream(stream_id)
    if stream is None:
        return None

    def check(segments: list[Segment]) -> list[SegmentReport]:
        whole = [msgspec.structs.replace(each, chunk_rows=chunk_rows) for each in segments]
        return [check_segment(raw, each, pause) for each in whole]

    return verify_row(raw, stream, check, since=since)


def verify_row(
    raw: RawRows, stream: StreamRow, check: Check, *, since: Since | None = None
) -> StreamReport:
    """Verify the stream of a row, once more where it went on or deltas of it went meanwhile."""
    for _attempt in range(ATTEMPTS_MAX):
        before_us = gone_deltas(raw).before(stream.stream_id)
        captured = capture(raw, stream)
        segments = segments_of(captured, since, before_us)
        reports = check(segments)
        if len(reports) > 1 and any(report.snapshots for report in reports):
            reports = check([_joined(segments)])  # what was folded from a wrong one is wrong too
        report = conclude(raw, captured, reports, since)
        if report.ok:
            break
        now = raw.stream_of_row(stream.row)
        gone = gone_deltas(raw).before(stream.stream_id)
        if now is None or (now == captured.stream and gone == before_us):
            break
        stream = now
    return report


def capture(raw: RawRows, stream: StreamRow) -> Captured:
    """Take down a stream's end, and what was projected from its events up to that end."""
    if not is_memory(stream.stream_id):
        return _captured(raw, stream)
    for _attempt in range(ATTEMPTS_MAX):
        rows, index = raw.projected(stream.row), raw.index_entries(stream.row)
        now = raw.stream_of_row(stream.row)
        if now is None or now == stream:
            break
        stream = now
    return _captured(raw, stream, rows, index)


def _captured(
    raw: RawRows, stream: StreamRow, rows: Sequence[Row] = (), index: Sequence[IndexEntry] = ()
) -> Captured:
    upto = min(_version(stream), raw.count(stream.row) + 1)
    return Captured(stream, upto, raw.snapshots(stream.row), list(rows), list(index))


def segments_of(captured: Captured, since: Since | None, deltas_before_us: int) -> list[Segment]:
    """Cut a stream where a part can begin: a session at its snapshots, a memory nowhere."""
    stream = captured.stream
    marks = [seq for seq, version in captured.snapshots if version == STATE_VERSION]
    begin, folded = _beginning(stream, marks, since)
    cuts = [begin]
    for place in _places(captured, begin, marks if folded else None):
        if place - cuts[-1] >= SEGMENT_EVENTS:
            cuts.append(place)
    ends = [*cuts[1:], max(begin, captured.upto)]
    return [
        Segment(
            stream,
            after,
            upto,
            tuple([seq for seq in marks if after < seq <= upto]) if folded else (),
            folded,
            deltas_before_us,
        )
        for after, upto in zip(cuts, ends, strict=True)
    ]


def _joined(segments: Sequence[Segment]) -> Segment:
    marks = tuple([seq for segment in segments for seq in segment.snapshots])
    return msgspec.structs.replace(segments[0], upto=segments[-1].upto, snapshots=marks)


def _beginning(stream: StreamRow, marks: Sequence[int], since: Since | None) -> tuple[int, bool]:
    """Return after which seq to begin, and whether there is a state to fold from."""
    if since is None or not since.seq:
        return 0, True
    if is_session(stream.stream_id):
        before = [seq for seq in marks if seq <= since.seq]
        if before:
            return before[-1], True
    return since.seq, False


def _places(captured: Captured, begin: int, marks: Sequence[int] | None) -> Iterator[int]:
    stream_id = captured.stream.stream_id
    if is_session(stream_id) and marks is not None:
        yield from [seq for seq in marks if begin < seq < captured.upto]
    elif not is_memory(stream_id):
        yield from range(begin + SEGMENT_EVENTS, captured.upto, SEGMENT_EVENTS)


def _version(stream: StreamRow) -> int:
    """Return a version that can be; a damaged row may say anything."""
    return max(0, stream.version) if type(stream.version) is int else 0


def conclude(
    raw: RawRows, captured: Captured, reports: Sequence[SegmentReport], since: Since | None
) -> StreamReport:
    """Put together what was found in a stream's segments, and look at its end."""
    stream, last = captured.stream, reports[-1]
    first = _first_bad(raw, stream, reports, since)
    findings = [first] if first is not None else []
    if first is None:
        findings += [each for report in reports for each in report.snapshots]
        findings += _end(raw, captured, last)
        unexplained = list(_unexplained(reports))
        findings += unexplained or _projections(raw, captured, last)
    sound = next((each for each in reports if each.problem is not None), last)
    found = raw.place(stream.row, sound.seq)
    begin = reports[0].after
    return StreamReport(
        stream.stream_id,
        sound.seq,
        GENESIS_HASH if found is None else found.hash,
        max(0, sound.seq - begin),
        sum([each.erased for each in reports]),
        0 if since is None else since.seq,
        tuple(sorted(findings, key=lambda each: each.seq)),
    )


def _first_bad(
    raw: RawRows, stream: StreamRow, reports: Sequence[SegmentReport], since: Since | None
) -> Finding | None:
    """Return the first event that is wrong, by itself or where two parts meet."""
    for report, following in zip(reports, [*reports[1:], None], strict=True):
        if report.problem is not None:
            return report.problem
        if following is not None and following.began != report.ended:
            return Finding(report.seq, "the event was changed while it was looked at")
    if since is not None and since.seq:
        found = raw.place(stream.row, since.seq)
        if found is None or found.hash != since.hash:
            return Finding(since.seq, "the event is not the one that was signed")
    return None


def _end(raw: RawRows, captured: Captured, last: SegmentReport) -> Iterator[Finding]:
    """Compare a stream's row with its last event; who writes it now may be further."""
    stream, version = captured.stream, _version(captured.stream)
    if version != stream.version:
        yield Finding(1, f"the stream's version is {stream.version!r}")
    strays = raw.strays(stream.row, version)
    strays += [seq for seq, _version in captured.snapshots if not 0 < seq <= version]
    if strays:
        now = raw.stream_of_row(stream.row)
        end = version if now is None else _version(now)
        for seq in strays:
            if not (type(seq) is int and 0 < seq <= end):
                yield Finding(
                    seq if type(seq) is int else end + 1,
                    f"something lies outside of the stream, which ends at seq {end}",
                )
    if stream.hash != (last.ended.hash if version else GENESIS_HASH):
        yield Finding(version, "the stream's row has another hash than its last event")
    if type(stream.epoch) is not int or stream.epoch < last.ended.epoch:
        yield Finding(version, f"the stream's row has epoch {stream.epoch!r}, less than its events")


def _unexplained(reports: Sequence[SegmentReport]) -> Iterator[Finding]:
    """Name what is erased without a later event that says so."""
    coverage = Coverage()
    for report in reports:
        ends = [(first, last, None) for first, last in report.gone]
        said = [(seq, seq, event) for seq, event in report.recorded]
        for first, last, event in sorted([*ends, *said], key=lambda each: each[0]):
            if event is not None:
                coverage.covered(event)
                continue
            for seq in range(first, last + 1):
                coverage.erased(seq, "")
    for first, last in coverage.unexplained:
        through = f" to {last}" if last > first else ""
        yield Finding(first, f"erased without a record: seq {first}{through}")


def _projections(raw: RawRows, captured: Captured, last: SegmentReport) -> Iterator[Finding]:
    """Compare what is kept beside the events with what they lead to."""
    stream, version = captured.stream, _version(captured.stream)
    if codec_of(stream.stream_id) is None:
        yield Finding(version, "no stream is called that")
    expected = UNLISTED
    if is_session(stream.stream_id) and version:
        if last.entry is None:
            return
        expected = last.entry
    if not _is_listed(raw, stream, expected):
        yield Finding(version, "the entry in the list is not what the events lead to")
    if last.rows is not None:
        yield from _remembered(raw, captured, last.rows)


def _is_listed(raw: RawRows, stream: StreamRow, expected: Summary) -> bool:
    """Tell whether a stream's entry is the expected one; nothing can be said without its key."""
    try:
        body = raw.opened(stream.stream_id, stream.summary)
    except (CorruptLogError, TypeError):
        return False
    same_body = body is None or body == expected.body
    return same_body and (stream.listed, stream.active) == (expected.listed, expected.active)


def _remembered(raw: RawRows, captured: Captured, rows: Sequence[Row]) -> Iterator[Finding]:
    """Compare a memory's rows, and what they are found by."""
    version = captured.stream.version
    expected = {(type(row), row.id): row for row in raw.stored(rows)}
    found = {(type(row), row.id): row for row in captured.rows}
    for kind, row_id in _differing(expected, found):
        name = "memory" if kind is MemoryRow else "episode"
        yield Finding(version, f"{name} {row_id} is not what the events lead to")
    entries = {(kind, row_id): entry for kind, row_id, entry in captured.index}
    wanted = raw.index_entries_of(captured.stream.row, rows)
    for kind, row_id in _differing({each[:2]: each[2] for each in wanted}, entries):
        name = "memory" if kind is MemoryRow else "episode"
        yield Finding(version, f"{name} {row_id} is not found by its words")


def _differing(
    expected: dict[tuple[type[Row], int], Any], found: dict[tuple[type[Row], int], Any]
) -> list[tuple[type[Row], int]]:
    """Return the first row that differs, if any does."""
    both = {**expected, **found}
    return [key for key in both if expected.get(key) != found.get(key)][:1]
