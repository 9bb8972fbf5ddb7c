"""Durable appends from sessions that each wait for their own, against sqlite3 by itself.

Ours: GroupCommit over SqlEventLog, one event of about 300 bytes an append, under greenlets and
under threads. Baseline: ``executemany`` on the same tables with the same pragmas and triggers,
one row of each stream a commit, rows made beforehand; once the events alone, once with the head
rows that an append moves as well.
"""

import abc
import os
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks._measure import (
    Figures,
    Result,
    Samples,
    alternate,
    at_least,
    percentile,
    repetitions_of,
)
from benchmarks._store import claim, open_log, temporary_folder
from benchmarks._worker import Kind, in_process
from persistence.group_commit import GroupCommit
from persistence.records import Append, Head, NewEvent, Summary

SESSIONS = (1, 8, 64)
EVENTS = {1: 2_000, 8: 8_000, 64: 25_600}
QUICK_SHARE = 4
P99_MS_MAX = 10.0
RATIO_LEAST = 0.6

PAYLOAD = b'{"message":{"content":[{"text":"%b","type":"text"}],"role":"user"}}' % (b"x" * 236)
SUMMARY = Summary(listed=True, active=True, body=b'{"sessionKey":"%b"}' % (b"s" * 230))
EVENT = NewEvent("message.completed", 1, PAYLOAD, "token", "c" * 36, 1)

INSERT = """INSERT INTO events (stream, seq, epoch, type, schema_version, recorded_at, principal,
    correlation_id, causation_seq, payload, salt, payload_digest, hash)
    VALUES (?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
MOVE = """UPDATE streams SET version = ?, hash = ?, listed = ?, active = ?, summary = ?
    WHERE id = ? AND version = ? AND epoch = 1"""

Batch = tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]
"""The event rows and the head rows of one commit."""


def run(*, quick: bool) -> list[Result]:
    """Measure greenlets and threads, for each number of sessions."""
    results: list[Result] = []
    for kind in ("gevent", "threads"):
        for sessions in SESSIONS:
            samples = _measured(kind, sessions, quick=quick)
            results.extend(_results(kind, sessions, samples))
    return results


def _measured(kind: Kind, sessions: int, *, quick: bool) -> Samples:
    events = EVENTS[sessions] // (QUICK_SHARE if quick else 1)
    arguments = {"sessions": sessions, "appends_each": events // sessions}
    return Samples(
        in_process(
            kind,
            "benchmarks.appends:measure",
            repetitions=repetitions_of(quick=quick),
            **arguments,
        )
    )


def _results(kind: Kind, sessions: int, samples: Samples) -> list[Result]:
    ours = f"{samples.median('ours', 'per_s'):,.0f}/s"
    p50, p99 = (samples.median("ours", name) for name in ("p50_ms", "p99_ms"))
    raw_p99 = samples.median("events and heads", "p99_ms")
    results = []
    for baseline in ("events", "events and heads"):
        case = f"{kind}, {sessions} sessions; raw {baseline}"
        theirs = f"{samples.median(baseline, 'per_s'):,.0f}/s"
        ratio = samples.ratio("ours", baseline, "per_s")
        if (kind, sessions, baseline) == ("gevent", 64, "events and heads"):
            results.append(at_least(case, ours, theirs, ratio, RATIO_LEAST))
        else:
            results.append(Result(case, ours, theirs, ratio))
    latency = Result(
        f"{kind}, {sessions} sessions: p50, p99 (raw: p99 of a commit)",
        f"{p50:.2f}, {p99:.2f} ms",
        f"{raw_p99:.2f} ms",
        samples.ratio("ours", "events and heads", "p99_ms"),
    )
    if sessions == max(SESSIONS):
        latency = latency._replace(target=f"p99 <= {P99_MS_MAX:g} ms", met=p99 <= P99_MS_MAX)
    return [*results, latency]


def measure(sessions: int, appends_each: int, repetitions: int) -> dict[str, list[Figures]]:
    """Measure all three, alternating, in this process; each has a database of its own."""
    with temporary_folder() as folder:
        raw_events = _Sqlite(folder / "events.db", sessions, appends_each, heads=False)
        raw_both = _Sqlite(folder / "both.db", sessions, appends_each, heads=True)
        with open_log(folder / "ours.db") as log:
            writer = GroupCommit(log)
            writer.start()
            ours = Sessions(writer, claim(log, names_of(sessions)), appends_each)
            runs = {"events": raw_events.run, "events and heads": raw_both.run, "ours": ours.run}
            samples = alternate(runs, repetitions)
            writer.close()
    return samples.runs


class Sessions:
    """Sessions that append to one writer, each when its last append is durable."""

    def __init__(self, writer: GroupCommit, heads: list[Head], appends_each: int) -> None:
        self._writer = writer
        self._heads = heads
        self._appends_each = appends_each
        self._latencies_s: list[float] = []

    def run(self) -> Figures:
        """Have all of them append, at once."""
        self._latencies_s = []
        threads = [
            threading.Thread(target=self._append, args=(index,))
            for index in range(len(self._heads))
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return _figures(len(self._latencies_s), time.perf_counter() - began, self._latencies_s)

    def _append(self, index: int) -> None:
        head, writer, taken = self._heads[index], self._writer, self._latencies_s
        for _ in range(self._appends_each):
            began = time.perf_counter()
            head = writer.submit(Append(head, (EVENT,), SUMMARY)).result()
            taken.append(time.perf_counter() - began)
        self._heads[index] = head


class Bare(abc.ABC):
    """The same rows through a driver: one row of each stream a commit, made beforehand."""

    def __init__(self, rows: list[int], commits: int) -> None:
        self._rows = rows
        self._commits = commits
        self._version = 0

    @abc.abstractmethod
    def write(self, batch: Batch) -> None:
        """Write a batch, durably."""

    def run(self) -> Figures:
        """Write as many batches as there are commits."""
        batches = [self._batch() for _ in range(self._commits)]
        latencies: list[float] = []
        began = time.perf_counter()
        for batch in batches:
            before = time.perf_counter()
            self.write(batch)
            latencies.append(time.perf_counter() - before)
        elapsed = time.perf_counter() - began
        return _figures(self._commits * len(self._rows), elapsed, latencies)

    def _batch(self) -> Batch:
        version = self._version
        self._version += 1
        events, heads = [], []
        for stream in self._rows:
            salt, digest, link = os.urandom(16), b"", os.urandom(32)
            at = time.time_ns() // 1_000
            envelope = (EVENT.type, 1, at, EVENT.principal, EVENT.correlation_id, 1)
            events.append((stream, version + 1, *envelope, PAYLOAD, salt, digest, link))
            summary = (SUMMARY.listed, SUMMARY.active, SUMMARY.body)
            heads.append((version + 1, link, *summary, stream, version))
        return events, heads


class _Sqlite(Bare):
    """Through sqlite3, with nothing else in between."""

    def __init__(self, database: Path, sessions: int, commits: int, *, heads: bool) -> None:
        with open_log(database) as log:
            super().__init__([head.row for head in claim(log, names_of(sessions))], commits)
        self._heads = heads
        self._connection = sqlite3.connect(database, isolation_level=None)
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "recursive_triggers = ON",
        ):
            self._connection.execute(f"PRAGMA {pragma}")

    def write(self, batch: Batch) -> None:
        """See Bare.write."""
        events, heads = batch
        self._connection.execute("BEGIN IMMEDIATE")
        if self._heads:
            self._connection.executemany(MOVE, heads)
        self._connection.executemany(INSERT, events)
        self._connection.execute("COMMIT")


def names_of(sessions: int) -> list[str]:
    """Return the names of so many streams."""
    return [f"session:benchmark-{index}" for index in range(sessions)]


def _figures(rows: int, elapsed_s: float, latencies_s: list[float]) -> Figures:
    return {
        "per_s": rows / elapsed_s,
        "p50_ms": percentile(latencies_s, 0.5) * 1_000,
        "p99_ms": percentile(latencies_s, 0.99) * 1_000,
    }
