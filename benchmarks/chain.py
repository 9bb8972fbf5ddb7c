"""What the hash chain costs: bytes an event, and durable appends a second.

Bytes: the rows of events against the same rows without salt, digest and hash, in plain tables of
SQLite and PostgreSQL; and with a digest beside each payload, as it was before. Payloads have from
40 to 640 bytes. Appends: as in the benchmark ``appends``, against the same log whose events get no
salt and no hash.
"""

import contextlib
import random
import sqlite3
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
from msgspec.structs import replace

from benchmarks._measure import (
    Figures,
    Result,
    Samples,
    alternate,
    at_least,
    at_most,
    repetitions_of,
)
from benchmarks._store import claim, open_log, temporary_folder
from benchmarks._worker import in_process
from benchmarks.appends import EVENT, SUMMARY, Sessions, names_of
from persistence import chain, event_log
from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.group_commit import GroupCommit
from persistence.records import Append, Head, NewEvent, StoredEvent
from persistence.schema import events
from tests.postgres.server import connected, running_server

EVENTS = 100_000
SESSIONS = 64
APPENDS_EACH = 400
QUICK_SHARE = 4
BYTES_MAX = 60.0
RATIO_LEAST = 0.9

CHAIN = ("salt", "payload_digest", "hash")
PLAIN = ", ".join(each.name for each in events.c if each.name not in CHAIN)
TABLES = {
    "without": PLAIN,
    "now": f"{PLAIN}, salt, payload_digest, hash",
    "before": f"{PLAIN}, salt, hash AS payload_digest, hash",
}
"""What is selected into each table; a digest is as long as a hash, and as random."""


def run(*, quick: bool) -> list[Result]:
    """Measure both databases' bytes, and SQLite's appends by greenlets and by threads."""
    share = QUICK_SHARE if quick else 1
    sizes = {"SQLite": _sqlite_bytes(EVENTS // share), "PostgreSQL": _pg_bytes(EVENTS // share)}
    results = []
    for database, (without, now, before) in sizes.items():
        case = f"{database}, bytes an event for the chain, {without:.0f} without"
        costs, cost_before = now - without, before - without
        cells = (f"{costs:.1f}", f"{cost_before:.1f} with all digests", costs)
        results.append(at_most(case, *cells, BYTES_MAX))
    for kind in ("gevent", "threads"):
        samples = Samples(
            in_process(
                "gevent" if kind == "gevent" else "threads",
                "benchmarks.chain:measure",
                appends_each=APPENDS_EACH // share,
                repetitions=repetitions_of(quick=quick),
            )
        )
        ours, bare = (f"{samples.median(name, 'per_s'):,.0f}/s" for name in ("chained", "bare"))
        ratio = samples.ratio("chained", "bare", "per_s")
        case = f"{kind}, {SESSIONS} sessions; no salt, no hash"
        results.append(at_least(case, ours, bare, ratio, RATIO_LEAST))
        ours, bare = (f"{samples.median(name, 'cpu_us'):.0f} us" for name in ("chained", "bare"))
        ratio = samples.ratio("chained", "bare", "cpu_us")
        results.append(Result(f"{kind}, the same; CPU of an append", ours, bare, ratio))
    return results


def measure(appends_each: int, repetitions: int) -> dict[str, list[Figures]]:
    """Measure both, alternating, in this process; each has a database of its own."""
    with temporary_folder() as folder, contextlib.ExitStack() as opened:
        sessions: dict[str, Sessions] = {}
        for name in ("chained", "bare"):
            log = opened.enter_context(open_log(folder / f"{name}.db"))
            writer = GroupCommit(log)
            writer.start()
            opened.callback(writer.close)
            sessions[name] = Sessions(writer, claim(log, names_of(SESSIONS)), appends_each)

        def run(name: str) -> Figures:
            with _no_chain() if name == "bare" else contextlib.nullcontext():
                began = time.process_time()
                figures = sessions[name].run()
                spent = time.process_time() - began
            return figures | {"cpu_us": spent * 1e6 / (SESSIONS * appends_each)}

        return alternate({name: partial(run, name) for name in sessions}, repetitions).runs


@contextlib.contextmanager
def _no_chain() -> Iterator[None]:
    """Have the log write events without salt and hash: only to measure what they cost."""
    bare = SimpleNamespace(extend=_extend, salts=lambda _random, _count: iter(()))
    vars(event_log)["chain"] = bare
    try:
        yield
    finally:
        vars(event_log)["chain"] = chain


def _extend(
    head: Head, new: tuple[NewEvent, ...], recorded_at: int, _salts: object
) -> tuple[list[StoredEvent], Head]:
    stored = [
        StoredEvent(
            seq,
            head.epoch,
            event.type,
            event.schema_version,
            recorded_at,
            event.principal,
            event.correlation_id,
            event.causation_seq,
            event.payload,
            b"",
            b"",
            b"",
        )
        for seq, event in enumerate(new, head.version + 1)
    ]
    return stored, Head(head.row, head.stream_id, head.version + len(new), head.hash, head.epoch)


def _fill(log: SqlEventLog, count: int) -> None:
    heads = claim(log, names_of(SESSIONS))
    sizes = random.Random(1)  # noqa: S311 - only sizes
    for _ in range(count // SESSIONS):
        new = [replace(EVENT, payload=b"x" * sizes.randint(40, 640)) for _ in heads]
        outcomes = log.write(
            [Append(head, (event,), SUMMARY) for head, event in zip(heads, new, strict=True)]
        )
        heads = [outcome for outcome in outcomes if isinstance(outcome, Head)]


def _sqlite_bytes(count: int) -> list[float]:
    with temporary_folder() as folder:
        with open_log(folder / "log.db") as log:
            _fill(log, count)
        return [
            _file_bytes(folder / "log.db", folder / f"{name}.db", columns) / count
            for name, columns in TABLES.items()
        ]


def _file_bytes(log: Path, copy: Path, columns: str) -> int:
    with contextlib.closing(sqlite3.connect(log)) as connection:
        connection.execute("ATTACH ? AS copy", (str(copy),))
        connection.execute(
            f"CREATE TABLE copy.events AS SELECT {columns} FROM events ORDER BY position"  # noqa: S608 - made of constants
        )
    return copy.stat().st_size


def _pg_bytes(count: int) -> list[float]:
    with running_server() as server:
        url = server.new_database(migrated=True)
        log = SqlEventLog(write_engine(url), read_engine(url))
        _fill(log, count)
        log.close()
        with connected(url) as connection:
            return [_table_bytes(connection, *each) / count for each in TABLES.items()]


def _table_bytes(connection: "psycopg.Connection[Any]", name: str, columns: str) -> int:
    made = f'CREATE TABLE "{name}" AS SELECT xid, {columns} FROM events ORDER BY position'  # noqa: S608 - made of constants
    connection.execute(made)
    found = connection.execute("SELECT pg_relation_size(%s)", (f'"{name}"',)).fetchone()
    assert found is not None
    return int(found[0])
