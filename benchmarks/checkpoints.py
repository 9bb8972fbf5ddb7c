"""What checkpoints cost: in time beside appends, and in bytes.

Time: sessions that each wait for their own append, as in ``appends``, while checkpoints are signed
all the time, against the same without any. Bytes: a database with and without checkpoints, both
vacuumed, where 64 sessions share 20 events a second and a checkpoint is signed every 5 minutes.
"""

import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.audit.signing.keys import SigningKey
from actors.audit.signing.signer import Signer
from actors.gateway_state import UsedKey, UseSigningKey
from actors.timers import now_ms
from benchmarks._measure import (
    Figures,
    Result,
    Samples,
    alternate,
    at_least,
    at_most,
    repetitions_of,
)
from benchmarks._store import claim, open_log, temporary_folder, url_of
from benchmarks._worker import in_process
from benchmarks.appends import EVENT, SUMMARY, Sessions, names_of
from persistence.engine import parse_url, read_engine
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import Append
from persistence.tree import SqlTree

SESSIONS = 64
APPENDS_EACH = 400
APPENDS_EACH_QUICK = 100
PAUSE_S = 0.25
"""Between two checkpoints; it is 5 minutes by default."""

CHECKPOINT_EVENTS = 6_000
"""20 events a second for 5 minutes."""

CHECKPOINTS = 20
CHECKPOINTS_QUICK = 5
BATCH = 10
RATIO_LEAST = 0.85
BYTES_MOST = 3.0


def run(*, quick: bool) -> list[Result]:
    """Measure both."""
    samples = Samples(
        in_process(
            "gevent",
            "benchmarks.checkpoints:measure",
            repetitions=repetitions_of(quick=quick),
            appends_each=APPENDS_EACH_QUICK if quick else APPENDS_EACH,
        )
    )
    with_them, without = (samples.median(name, "per_s") for name in ("with", "without"))
    ratio = samples.ratio("with", "without", "per_s")
    signed = samples.median("with", "checkpoints_per_s")
    took_ms = samples.median("with", "checkpoint_ms")
    case = f"{SESSIONS} sessions, {signed:.1f} checkpoints/s ({took_ms:.0f} ms each) against none"
    count = CHECKPOINTS_QUICK if quick else CHECKPOINTS
    plain, more = _bytes(count)
    events = count * CHECKPOINT_EVENTS
    case_bytes = f"a checkpoint of {SESSIONS} sessions every {CHECKPOINT_EVENTS:,} events"
    return [
        at_least(case, f"{with_them:,.0f}/s", f"{without:,.0f}/s", ratio, RATIO_LEAST),
        at_most(
            f"{case_bytes}: bytes an event",
            f"{(more - plain) / events:.2f} more",
            f"{plain / events:.0f}",
            (more - plain) / events,
            BYTES_MOST,
        ),
    ]


def measure(appends_each: int, repetitions: int) -> dict[str, list[Figures]]:
    """Append with checkpoints and without, alternating, each in a database of its own."""
    with (
        temporary_folder() as folder,
        open_log(folder / "without.db") as plain,
        open_log(folder / "with.db") as signed,
    ):
        writers = {"without": GroupCommit(plain), "with": GroupCommit(signed)}
        for writer in writers.values():
            writer.start()
        names = names_of(SESSIONS)
        alone = Sessions(writers["without"], claim(plain, names), appends_each)
        beside = Sessions(writers["with"], claim(signed, names), appends_each)
        signer = signer_of(signed, folder / "with.db", writers["with"])
        runs = {"without": alone.run, "with": lambda: _signing(signer, beside.run)}
        samples = alternate(runs, repetitions)
        for writer in writers.values():
            writer.close()
    return samples.runs


def _signing(signer: Signer, run: Callable[[], Figures]) -> Figures:
    """Sign again and again while the sessions append."""
    ended = threading.Event()
    took_s: list[float] = []

    def sign() -> None:
        while not ended.wait(PAUSE_S):
            began = time.perf_counter()
            signer.sign_now()
            took_s.append(time.perf_counter() - began)

    thread = threading.Thread(target=sign)
    thread.start()
    began = time.perf_counter()
    figures = run()
    elapsed_s = time.perf_counter() - began
    ended.set()
    thread.join()
    median_ms = statistics.median(took_s) * 1_000 if took_s else 0.0
    return figures | {"checkpoints_per_s": len(took_s) / elapsed_s, "checkpoint_ms": median_ms}


def signer_of(log: EventLog, database: Path, writer: GroupCommit) -> Signer:
    """Return what signs a log's checkpoints, without a gateway."""
    key = SigningKey(Ed25519PrivateKey.generate())
    known: list[UsedKey] = []

    def use(command: UseSigningKey) -> None:
        known.append(UsedKey(command.verifier_key, command.at))

    tree = SqlTree(read_engine(parse_url(url_of(database))))
    return Signer(log, tree, writer, lambda: [key], lambda: known, use, now_ms)


def _bytes(checkpoints: int) -> tuple[int, int]:
    """Return how large the same events are, without checkpoints and with them."""
    with temporary_folder() as folder:
        sizes = []
        for name, signs in (("without", False), ("with", True)):
            database = folder / f"{name}.db"
            with open_log(database) as log:
                _fill(log, database, checkpoints, signs=signs)
            sizes.append(_vacuumed(database, folder / f"{name}-vacuumed.db"))
    return sizes[0], sizes[1]


def _fill(log: EventLog, database: Path, checkpoints: int, *, signs: bool) -> None:
    heads = claim(log, names_of(SESSIONS))
    writer = GroupCommit(log)
    writer.start()
    signer = signer_of(log, database, writer)
    for _ in range(checkpoints):
        for _round in range(CHECKPOINT_EVENTS // SESSIONS // BATCH):
            waiting = [writer.submit(Append(head, (EVENT,) * BATCH, SUMMARY)) for head in heads]
            heads = [each.result() for each in waiting]
        if signs:
            signer.sign_now()
    writer.close()


def _vacuumed(database: Path, copy: Path) -> int:
    with sqlite3.connect(database) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))
    return copy.stat().st_size
