"""Every stream of a log verified, by several processes where there is work for them."""

import gc
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial

from msgspec import Struct

from actors.audit.verifying.gone_deltas import gone_deltas
from actors.audit.verifying.segments import Segment, SegmentReport, check_segment
from actors.audit.verifying.verification import (
    SEGMENT_EVENTS,
    Captured,
    Check,
    Since,
    StreamReport,
    capture,
    conclude,
    segments_of,
    verify_row,
)
from persistence.errors import CorruptLogError, ProofError
from persistence.raw_checks import strays
from persistence.raw_rows import RawRows, StreamRow

WAITING_MAX = 4
"""How many tasks wait for each process: the plan of a large log need not fit into memory."""

Progress = Callable[[int], object]
SinceOf = Callable[[StreamRow], Since | None]
Submit = Callable[[list[Segment]], "Future[list[SegmentReport]]"]


class Damage(Struct, frozen=True):
    """The first thing that is wrong at a seq of a stream, in a sentence."""

    stream: str
    seq: int
    problem: str


class LogReport(Struct):
    """What was found in all streams; ``erased`` events have no payload any more."""

    streams: int = 0
    events: int = 0
    erased: int = 0
    damage: list[Damage] = []


def verify_all(
    raw: RawRows,
    submit: Submit,
    *,
    waiting_max: int = 1,
    since_of: SinceOf = lambda _stream: None,
    progress: Progress = lambda _events: None,
) -> LogReport:
    """Verify every stream, and what no stream tells by itself. Raises StoreUnavailableError.

    ``submit`` has a task's segments checked, here or elsewhere; ``progress`` gets how many more
    events have been looked at.
    """
    return _Everything(raw, submit, waiting_max, since_of, progress).run()


class _Open:
    """A stream of which parts are being checked."""

    def __init__(self, captured: Captured, since: Since | None, parts: int) -> None:
        self.captured = captured
        self.since = since
        self.reports: list[SegmentReport | None] = [None] * parts

    @property
    def finished(self) -> list[SegmentReport] | None:
        """Return the reports of all parts, None while one is missing."""
        found = [report for report in self.reports if report is not None]
        return found if len(found) == len(self.reports) else None


Part = tuple[_Open, int]


class _Everything:
    def __init__(
        self,
        raw: RawRows,
        submit: Submit,
        waiting_max: int,
        since_of: SinceOf,
        progress: Progress,
    ) -> None:
        self._raw = raw
        self._submit = submit
        self._waiting_max = waiting_max
        self._since_of = since_of
        self._progress = progress
        self._gone_deltas = gone_deltas(raw)
        self._report = LogReport()
        self._running: dict[Future[list[SegmentReport]], list[Part]] = {}

    def run(self) -> LogReport:
        """See verify_all."""
        parts: list[Part] = []
        segments: list[Segment] = []
        events = 0
        for part, segment in self._parts():
            parts.append(part)
            segments.append(segment)
            events += segment.upto - segment.after
            if events >= SEGMENT_EVENTS:
                self._begin(parts, segments)
                parts, segments, events = [], [], 0
        self._begin(parts, segments)
        while self._running:
            self._take_finished()
        found = [Damage(each.stream, each.seq, each.problem) for each in strays(self._raw)]
        self._report.damage += found
        return self._report

    def _parts(self) -> Iterator[tuple[Part, Segment]]:
        for stream in self._streams():
            try:
                since = self._since_of(stream)
            except (CorruptLogError, ProofError):  # whoever compares the checkpoint says so
                since = None
            captured = capture(self._raw, stream)
            before_us = self._gone_deltas.before(stream.stream_id)
            segments = segments_of(captured, since, before_us)
            opened = _Open(captured, since, len(segments))
            for index, segment in enumerate(segments):
                yield (opened, index), segment

    def _streams(self) -> Iterator[StreamRow]:
        row = -(2**63)
        while streams := self._raw.streams(row):
            yield from streams
            row = streams[-1].row

    def _begin(self, parts: list[Part], segments: list[Segment]) -> None:
        if segments:
            self._running[self._submit(segments)] = parts
        while len(self._running) >= self._waiting_max:
            self._take_finished()

    def _take_finished(self) -> None:
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            reports = future.result()
            for (opened, index), report in zip(self._running.pop(future), reports, strict=True):
                opened.reports[index] = report
                self._progress(report.seq - report.after)
                finished = opened.finished
                if finished is not None:
                    self._conclude(opened, finished)

    def _conclude(self, opened: _Open, reports: list[SegmentReport]) -> None:
        report = conclude(self._raw, opened.captured, reports, opened.since)
        if not report.ok:
            report = self._again(opened)
        self._report.streams += 1
        self._report.events += report.events
        self._report.erased += report.erased
        self._report.damage += [
            Damage(report.stream or f"row {opened.captured.stream.row}", each.seq, each.problem)
            for each in report.findings
        ]

    def _again(self, opened: _Open) -> StreamReport:
        """Look once more, in one piece: it may have gone on meanwhile, or lost deltas."""
        stream = self._raw.stream_of_row(opened.captured.stream.row) or opened.captured.stream
        return verify_row(self._raw, stream, checked_by(self._raw), since=opened.since)


def checked_by(raw: RawRows) -> Check:
    """Return what checks segments in this process."""
    return lambda segments: [check_segment(raw, each, lambda: None) for each in segments]


def here(raw: RawRows) -> Submit:
    """Return what checks segments in this process, at once."""

    def submit(segments: list[Segment]) -> "Future[list[SegmentReport]]":
        future: Future[list[SegmentReport]] = Future()
        future.set_result(checked_by(raw)(segments))
        return future

    return submit


class Workers:
    """Processes that check segments, each with rows of its own as ``open_rows`` gives them."""

    def __init__(self, open_rows: Callable[[], RawRows], jobs: int) -> None:
        self.waiting_max = jobs * WAITING_MAX
        self._pool = ProcessPoolExecutor(jobs, initializer=partial(_Worker.start, open_rows))

    def submit(self, segments: list[Segment]) -> "Future[list[SegmentReport]]":
        """Have segments checked as soon as one of them is free."""
        return self._pool.submit(_Worker.check, segments)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


class _Worker:
    """What a worker process has."""

    raw: RawRows

    @classmethod
    def start(cls, open_rows: Callable[[], RawRows]) -> None:
        settle_collector()
        cls.raw = open_rows()

    @classmethod
    def check(cls, segments: list[Segment]) -> list[SegmentReport]:
        return checked_by(cls.raw)(segments)


def settle_collector() -> None:
    """Stop the cyclic garbage collector: rows are no cycles, and it would look at each of them."""
    gc.freeze()
    gc.disable()
