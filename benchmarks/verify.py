"""Verification of one long session, against the least that it can cost.

Baseline: the same columns read by the sqlite3 module and put through hashlib as the chain has it,
without a check, a decoded event or a fold. Ours in one process: the chain, and all of it; then all
of it in as many processes as there are cores. The session is the one of benchmarks/replay.py, with
a snapshot for every thousand events, as its actor stores them. A ratio is one of times.
"""

import os
import sqlite3
import time
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec
import sqlalchemy as sa

from actors.audit.verifying.whole_log import Workers, here, settle_collector, verify_all
from benchmarks._measure import Figures, Result, alternate, at_least, repetitions_of
from benchmarks._store import Builder, open_log, temporary_folder, url_of
from benchmarks.replay import prompt
from persistence import chain
from persistence.engine import parse_url, read_engine
from persistence.raw_rows import CHUNK_ROWS, RawRows
from persistence.records import Head

EVENTS = 500_000
EVENTS_QUICK = 100_000
SNAPSHOT_EVERY_EVENTS = 1_000
RATE_LEAST = 250_000
COLUMNS = (
    "seq, epoch, type, schema_version, recorded_at, principal, correlation_id, causation_seq,"
    " payload, salt, hash"
)

_encode = msgspec.json.Encoder().encode


def run(*, quick: bool) -> list[Result]:
    """Build the session, then verify it in each way, alternating."""
    settle_collector()
    with temporary_folder() as folder:
        database = folder / "verify.db"
        head = _build(database, EVENTS_QUICK if quick else EVENTS)
        url = parse_url(url_of(database))
        jobs = os.cpu_count() or 1
        with read_engine(url).connect() as connection:
            raw = RawRows(connection)
            ways: dict[str, Callable[[], None]] = {
                "floor": lambda: _floor(database, head),
                "chain": lambda: _chain(raw, head),
                "all": lambda: _all(raw, head),
                "workers": lambda: _in_processes(raw, url, head, jobs),
            }
            runs = {name: _timed(way) for name, way in ways.items()}
            samples = alternate(runs, repetitions_of(quick=quick))

    def result(way: str, case: str) -> Result:
        ours, floor = samples.median(way, "s"), samples.median("floor", "s")
        return Result(
            f"{case}, {head.version:,} events",
            f"{head.version / ours:,.0f} events/s",
            f"{head.version / floor:,.0f} events/s",
            samples.ratio(way, "floor", "s"),
        )

    whole = result("workers", f"verify, {jobs} processes")
    rate = head.version / samples.median("workers", "s")
    target = at_least("", "", "", rate, RATE_LEAST)
    return [
        result("chain", "chain only, 1 process"),
        result("all", "verify, 1 process"),
        whole._replace(target=f">= {RATE_LEAST:,} events/s", met=target.met),
    ]


def _build(database: Path, events: int) -> Head:
    with open_log(database) as log:
        builder = Builder(log, "long")
        number, stored = 0, 0
        while builder.state.version < events:
            number += 1
            prompt(builder, f"prompt-{number}")
            if builder.state.version - stored >= SNAPSHOT_EVERY_EVENTS:
                stored = builder.state.version
                builder.flush(snapshot=builder.state)
        return builder.flush()


def _timed(way: Callable[[], None]) -> Callable[[], Figures]:
    def timed() -> Figures:
        began = time.perf_counter()
        way()
        return {"s": time.perf_counter() - began}

    return timed


def _floor(database: Path, head: Head) -> None:
    connection = sqlite3.connect(database)
    cursor = connection.execute(
        f"SELECT {COLUMNS} FROM events WHERE stream = ? ORDER BY seq",  # noqa: S608 - constants
        (head.row,),
    )
    linked = bytes(32)
    while rows := cursor.fetchmany(CHUNK_ROWS):
        for seq, epoch, kind, version, at, principal, asked, cause, payload, salt, _hash in rows:
            envelope = _encode(
                (head.stream_id, seq, epoch, kind, version, at, principal, asked, cause)
            )
            linked = sha256(linked + envelope + sha256(salt + payload).digest()).digest()
    connection.close()
    assert linked == head.hash


def _chain(raw: RawRows, head: Head) -> None:
    stream = raw.stream(head.stream_id)
    assert stream is not None
    linked, epoch, seq = bytes(32), 0, 0
    for rows in raw.chunks(stream, 0, stream.version):
        linked, epoch = chain.follow(
            stream.stream_id, rows, after=seq, previous=linked, epoch=epoch
        )
        seq = rows[-1][0]
    assert linked == head.hash


def _all(raw: RawRows, head: Head) -> None:
    report = verify_all(raw, here(raw))
    assert (report.events, report.damage) == (head.version, [])


def _opened(url: sa.URL) -> RawRows:
    return RawRows(read_engine(url).connect())


def _in_processes(raw: RawRows, url: sa.URL, head: Head, jobs: int) -> None:
    workers = Workers(partial(_opened, url), jobs)
    try:
        report = verify_all(raw, workers.submit, waiting_max=workers.waiting_max)
    finally:
        workers.close()
    assert (report.events, report.damage) == (head.version, [])
