"""Durable appends over PostgreSQL from sessions that each wait for their own, against psycopg.

Ours: GroupCommit over SqlEventLog with its notices, one event of about 300 bytes an append, under
greenlets and under threads. Baseline: a bare psycopg program that writes one row of each stream and
moves its head a commit, on the same tables with the same triggers, rows made beforehand; once by
``executemany``, once by the fastest way that psycopg has, COPY and one UPDATE for all heads. The
server is PostgreSQL as it comes, fsync and all, from the wheel that the tests use.
"""

from typing import Any

import psycopg
import sqlalchemy as sa

from benchmarks._measure import (
    Figures,
    Result,
    Samples,
    alternate,
    at_least,
    repetitions_of,
)
from benchmarks._store import claim
from benchmarks._worker import Kind, in_process
from benchmarks.appends import Bare, Batch, Sessions, names_of
from persistence.engine import read_engine, side_engine, statements_for, write_engine
from persistence.event_log import SqlEventLog
from persistence.group_commit import GroupCommit
from persistence.notices import Announcer
from persistence.postgres import LEASE_S, PostgresStatements
from tests.postgres.server import connected, running_server

SESSIONS = (1, 64)
EVENTS = {1: 1_000, 64: 12_800}
QUICK_SHARE = 4
P99_MS_MAX = 15.0
RATIO_LEAST = 0.6


def run(*, quick: bool) -> list[Result]:
    """Measure greenlets and threads, for each number of sessions."""
    results: list[Result] = []
    for kind in ("gevent", "threads"):
        for sessions in SESSIONS:
            results.extend(_results(kind, sessions, _measured(kind, sessions, quick=quick)))
    return results


def _measured(kind: Kind, sessions: int, *, quick: bool) -> Samples:
    events = EVENTS[sessions] // (QUICK_SHARE if quick else 1)
    return Samples(
        in_process(
            kind,
            "benchmarks.postgres:measure",
            repetitions=repetitions_of(quick=quick),
            sessions=sessions,
            appends_each=events // sessions,
        )
    )


def _results(kind: Kind, sessions: int, samples: Samples) -> list[Result]:
    ours = f"{samples.median('ours', 'per_s'):,.0f}/s"
    results = []
    for baseline in ("executemany", "COPY"):
        case = f"{kind}, {sessions} sessions; psycopg with {baseline}"
        theirs = f"{samples.median(baseline, 'per_s'):,.0f}/s"
        ratio = samples.ratio("ours", baseline, "per_s")
        if (kind, sessions, baseline) == ("gevent", 64, "executemany"):
            results.append(at_least(case, ours, theirs, ratio, RATIO_LEAST))
        else:
            results.append(Result(case, ours, theirs, ratio))
    p50, p99 = (samples.median("ours", name) for name in ("p50_ms", "p99_ms"))
    raw_p99 = samples.median("COPY", "p99_ms")
    latency = Result(
        f"{kind}, {sessions} sessions: p50, p99 (psycopg: p99 of a commit)",
        f"{p50:.2f}, {p99:.2f} ms",
        f"{raw_p99:.2f} ms",
        samples.ratio("ours", "COPY", "p99_ms"),
    )
    if sessions == max(SESSIONS):
        latency = latency._replace(target=f"p99 <= {P99_MS_MAX:g} ms", met=p99 <= P99_MS_MAX)
    return [*results, latency]


def measure(sessions: int, appends_each: int, repetitions: int) -> dict[str, list[Figures]]:
    """Measure all three, alternating, in this process; each has a database of its own."""
    with running_server(durable=True) as server:
        bare = {
            name: _Psycopg(server.new_database(migrated=True), sessions, appends_each, copy=copy)
            for name, copy in (("executemany", False), ("COPY", True))
        }
        url = server.new_database(migrated=True)
        log = SqlEventLog(write_engine(url), read_engine(url))
        announcer = Announcer(side_engine(url), "benchmark")
        announcer.start()
        writer = GroupCommit(log, observers=[announcer])
        writer.start()
        ours = Sessions(writer, claim(log, names_of(sessions)), appends_each)
        samples = alternate(
            {**{name: each.run for name, each in bare.items()}, "ours": ours.run}, repetitions
        )
        writer.close()
        announcer.close()
        log.close()
    return samples.runs


class _Psycopg(Bare):
    """The same rows through psycopg, with nothing else in between."""

    def __init__(self, url: sa.URL, sessions: int, commits: int, *, copy: bool) -> None:
        writer = write_engine(url)
        log = SqlEventLog(writer, read_engine(url))
        super().__init__([head.row for head in claim(log, names_of(sessions))], commits)
        log.close()
        statements = statements_for(writer.dialect, LEASE_S)
        assert isinstance(statements, PostgresStatements)
        self._statements = statements
        self._copy = copy
        self._connection: psycopg.Connection[Any] = connected(url)
        self._connection.autocommit = False

    def write(self, batch: Batch) -> None:
        """Write one row of each stream, and move its head."""
        events, heads = batch
        rows = [(row[0], row[1], 1, *row[2:]) for row in events]
        moves = [(*head, 1) for head in heads]
        with self._connection.cursor() as opened:
            cursor: Any = opened
            if self._copy:
                self._statements.move_heads(cursor, moves)
                self._statements.insert_events(cursor, rows)
            else:
                cursor.executemany(self._statements.move_head, moves)
                cursor.executemany(self._statements.insert_event, rows)
        self._connection.commit()
