"""A part of a stream, checked from one end to the other in one pass."""

import contextlib
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from actors.audit.verifying.coverage import DELTA_TYPES, Range
from actors.audit.verifying.stream_kinds import codec_of, is_memory, is_session
from actors.memory.rules import projected
from actors.replay import STREAM_PREFIX, entry_of
from actors.session.codec import Codec, UnknownEventError, decode_state, encode_state
from actors.session.drafts import DELTAS, answered, drafted
from actors.session.events import Erased, Event, MessageCompleted
from actors.session.evolve import evolve
from actors.session.messages import AssistantMessage
from actors.session.record_events import StreamErased
from actors.session.state import SessionState
from persistence import chain
from persistence.chain import FIELDS, RawRow
from persistence.errors import CorruptLogError
from persistence.memories import latest
from persistence.raw_rows import CHUNK_ROWS, Place, RawRows, StreamRow
from persistence.records import GENESIS_HASH, Row, StoredEvent, Summary

SEQ, TYPE, VERSION, RECORDED_AT, PAYLOAD = (
    StoredEvent.__struct_fields__.index(name)
    for name in ("seq", "type", "schema_version", "recorded_at", "payload")
)

_CONTENT = itemgetter(TYPE, VERSION, PAYLOAD)
_TRANSACTION, _POSITION = itemgetter(FIELDS), itemgetter(FIELDS + 1)

BEGINNING = Place(GENESIS_HASH, 0, -1, -1)


class Finding(Struct, frozen=True):
    """The first thing that is wrong at a ``seq`` of a stream, in a sentence."""

    seq: int
    problem: str


class Segment(Struct, frozen=True):
    """The events with ``after < seq <= upto``; ``snapshots`` are the seqs of those to compare.

    It begins at the stream's beginning or at a snapshot, or else without a state to fold from:
    then ``folded`` is false. Deltas recorded before ``deltas_before_us`` may be erased.
    """

    stream: StreamRow
    after: int
    upto: int
    snapshots: tuple[int, ...] = ()
    folded: bool = True
    deltas_before_us: int = 0
    chunk_rows: int = CHUNK_ROWS


class SegmentReport(Struct):
    """What was found. ``after`` is the segment's; it was sound up to ``seq``.

    ``began`` and ``ended`` are its joints: where it really began, and was sound at last.
    ``gone`` are the ranges of erased events that a later event has to account for, ``recorded``
    those that do, by seq. The list's entry, or a memory's rows, are what the events
    have led to at the end, None where that was not followed.
    """

    after: int
    began: Place
    ended: Place
    seq: int
    problem: Finding | None = None
    snapshots: list[Finding] = []
    erased: int = 0
    gone: list[Range] = []
    recorded: list[tuple[int, StreamErased]] = []
    entry: Summary | None = None
    rows: list[Row] | None = None


class _Gone:
    """Takes note of what is erased, and of what says so."""

    def __init__(self, deltas_before_us: int) -> None:
        self._deltas_before_us = deltas_before_us
        self.count = 0
        self.ranges: list[Range] = []
        self.recorded: list[tuple[int, StreamErased]] = []

    def event(self, row: RawRow) -> Event:
        """Return what stands for an event that is erased."""
        seq, kind = row[SEQ], row[TYPE]
        self.count += 1
        if kind not in DELTA_TYPES or row[RECORDED_AT] >= self._deltas_before_us:
            if self.ranges and self.ranges[-1][1] == seq - 1:
                self.ranges[-1] = (self.ranges[-1][0], seq)
            else:
                self.ranges.append((seq, seq))
        return Erased(type=kind)

    def says(self, seq: int, event: StreamErased) -> None:
        """Take note of an event that says what was erased before it."""
        self.recorded.append((seq, replace(event, state=None)))


class _Fold(Protocol):
    """What follows from events: each is decoded on the way."""

    def take(self, rows: Sequence[RawRow]) -> None:
        """Go on by some events. Raises CorruptLogError at one that can't be decoded."""


class _Decoded:
    """Nothing follows; the events are decoded all the same."""

    def __init__(self, stream_id: str, gone: _Gone, codec: Codec) -> None:
        self._stream_id = stream_id
        self._gone = gone
        self._codec = codec

    def take(self, rows: Sequence[RawRow]) -> None:
        """See _Fold.take."""
        self._events(rows)

    def _events(self, rows: Sequence[RawRow]) -> list[Event]:
        events = self._decoded(rows)
        if StreamErased.wire_name in map(itemgetter(TYPE), rows):
            for row, event in zip(rows, events, strict=True):
                if isinstance(event, StreamErased):
                    self._gone.says(row[SEQ], event)
        return events

    def _decoded(self, rows: Sequence[RawRow]) -> list[Event]:
        unusual = (KeyError, TypeError, UnicodeDecodeError, msgspec.MsgspecError)
        with contextlib.suppress(*unusual):  # an older shape, an erased or a bad payload
            return self._codec.decode_all(map(_CONTENT, rows))
        events: list[Event] = []
        decode, erased = self._codec.decode, self._gone.event
        try:
            for row in rows:
                payload = row[PAYLOAD]
                events.append(
                    erased(row) if payload is None else decode(row[TYPE], row[VERSION], payload)
                )
        except (UnknownEventError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise CorruptLogError(self._stream_id, rows[len(events)][SEQ], str(error)) from error
        return events


class _Remembered(_Decoded):
    """A memory's rows follow."""

    def __init__(self, stream_id: str, gone: _Gone, codec: Codec) -> None:
        super().__init__(stream_id, gone, codec)
        self._remembered: list[Event] = []

    def take(self, rows: Sequence[RawRow]) -> None:
        """See _Fold.take."""
        self._remembered.extend(self._events(rows))

    @property
    def rows(self) -> list[Row]:
        """Return the rows as they are now."""
        return latest(projected(self._remembered))


class _Folded(_Decoded):
    """A session's state follows."""

    def __init__(self, stream_id: str, gone: _Gone, codec: Codec, state: SessionState) -> None:
        super().__init__(stream_id, gone, codec)
        self.state = state

    def take(self, rows: Sequence[RawRow]) -> None:
        """See _Fold.take; a row of deltas is folded at once."""
        state = self.state
        deltas: list[Any] = []
        for event in self._events(rows):
            if type(event) in DELTAS:
                deltas.append(event)
                continue
            if deltas:
                state = answered(state, deltas) if _is_answer(event) else drafted(state, deltas)
                deltas.clear()
            state = evolve(state, event)
        self.state = drafted(state, deltas) if deltas else state


def _is_answer(event: Event) -> bool:
    return isinstance(event, MessageCompleted) and isinstance(event.message, AssistantMessage)


def check_segment(raw: RawRows, segment: Segment, pause: Callable[[], object]) -> SegmentReport:
    """Check a segment; ``pause`` is called after each chunk."""
    began = BEGINNING
    if segment.after:
        found = raw.place(segment.stream.row, segment.after)
        if found is None:
            missing = Finding(segment.after, "the event is missing")
            return SegmentReport(segment.after, began, began, segment.after - 1, missing)
        began = found
    return _Check(raw, segment, began).run(pause)


class _Check:
    """One pass over a segment."""

    def __init__(self, raw: RawRows, segment: Segment, began: Place) -> None:
        self._raw = raw
        self._segment = segment
        self._gone = _Gone(segment.deltas_before_us)
        self._report = SegmentReport(
            segment.after,
            began,
            began,
            segment.after,
            gone=self._gone.ranges,
            recorded=self._gone.recorded,
        )
        self._fold = self._begin()
        self._marks = list(segment.snapshots)

    def _begin(self) -> _Fold | None:
        stream_id = self._segment.stream.stream_id
        codec = codec_of(stream_id)
        if codec is None:
            return None
        if not self._segment.folded:
            return _Decoded(stream_id, self._gone, codec)
        if is_memory(stream_id):
            return _Remembered(stream_id, self._gone, codec)
        if is_session(stream_id):
            state = self._state()
            if state is not None:
                return _Folded(stream_id, self._gone, codec, state)
        return _Decoded(stream_id, self._gone, codec)

    def _state(self) -> SessionState | None:
        """Return the state where the segment begins; who checks what is before compares it."""
        stream, after = self._segment.stream, self._segment.after
        if not after:
            return SessionState(stream.stream_id.removeprefix(STREAM_PREFIX))
        stored = self._raw.snapshot(stream, after)
        if stored is None:
            return None
        try:
            return decode_state(stored)
        except (msgspec.MsgspecError, CorruptLogError):  # who checks what is before says so
            return None

    def run(self, pause: Callable[[], object]) -> SegmentReport:
        """Check all of it, or up to the first event that is wrong."""
        segment, report = self._segment, self._report
        try:
            for rows in self._raw.chunks(
                segment.stream, segment.after, segment.upto, segment.chunk_rows
            ):
                self._take(rows)
                pause()
            if report.seq < segment.upto:
                report.problem = Finding(report.seq + 1, "the event is missing")
        except CorruptLogError as error:
            report.problem = Finding(error.seq, error.problem)
            report.seq = max(report.seq, error.seq - 1)
        report.erased = self._gone.count
        if isinstance(self._fold, _Folded):
            report.entry = entry_of(self._fold.state)
        elif isinstance(self._fold, _Remembered) and report.problem is None:
            report.rows = self._fold.rows
        return report

    def _take(self, rows: list[RawRow]) -> None:
        report, stream_id = self._report, self._segment.stream.stream_id
        ended = report.ended
        linked, epoch = chain.follow(
            stream_id, rows, after=report.seq, previous=ended.hash, epoch=ended.epoch
        )
        self._check_places(rows)
        self._follow(rows)
        report.seq = rows[-1][SEQ]
        report.ended = Place(linked, epoch, *rows[-1][FIELDS:])

    def _check_places(self, rows: list[RawRow]) -> None:
        """Events of a stream are written one after the other. Raises CorruptLogError."""
        ended = self._report.ended
        transactions = [ended.transaction, *map(_TRANSACTION, rows)]
        positions = [ended.position, *map(_POSITION, rows)]
        if sorted(transactions) == transactions and sorted(positions) == positions:
            return  # the usual case, for all rows at once
        before = (ended.transaction, ended.position)
        for row in rows:
            if not before < row[FIELDS:]:
                problem = f"its place {row[FIELDS:]} in the log is not behind {before}"
                raise CorruptLogError(self._segment.stream.stream_id, row[SEQ], problem)
            before = row[FIELDS:]

    def _follow(self, rows: list[RawRow]) -> None:
        """Fold the rows, and compare the snapshots on the way."""
        if self._fold is None:
            return
        done, first, last = 0, rows[0][SEQ], rows[-1][SEQ]
        while self._marks and self._marks[0] <= last:
            seq = self._marks.pop(0)
            self._fold.take(rows[done : seq - first + 1])
            done = seq - first + 1
            self._compare(seq)
        self._fold.take(rows[done:])

    def _compare(self, seq: int) -> None:
        if not isinstance(self._fold, _Folded):
            return
        try:
            stored = self._raw.snapshot(self._segment.stream, seq)
            same = stored is None or self._is_same(stored, self._fold.state)
        except CorruptLogError:  # encrypted, and changed
            same = False
        if not same:
            problem = "the snapshot is not what the events lead to"
            self._report.snapshots.append(Finding(seq, problem))

    def _is_same(self, stored: bytes, state: SessionState) -> bool:
        """Compare states; the text of a message that streamed may be gone with its deltas."""
        if stored == encode_state(state):
            return True
        if not self._gone.count or state.draft_at is None:
            return False
        try:
            return decode_state(stored).without_draft() == state.without_draft()
        except msgspec.MsgspecError:
            return False
