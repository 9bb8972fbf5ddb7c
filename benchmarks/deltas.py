"""Rows that a streamed answer leaves in the log, against one row for each of the model's deltas.

The answer comes at 100 deltas/s through a run's worker, the session's actor and the group commit,
all in one gevent process.
"""

import statistics
import threading

from actors.replay import stream_of
from actors.runs.deltas import EARLY_MS, GATHER_LATER_MS, GATHER_MS
from actors.session.events import TextDelta
from benchmarks._gateway import open_gateway, prompt
from benchmarks._measure import Result, at_most
from benchmarks._store import temporary_folder
from benchmarks._worker import in_process
from web.bootstrap import Gateway

DELTAS = 1_000
DELTAS_QUICK = 300
DELAY_MS = 10
SESSIONS = 3
EXTRA_ROWS = 10
"""What a busy machine may add to one row for each gathering."""


def run(*, quick: bool) -> list[Result]:
    """Stream answers in a gevent process, side by side, and count their rows."""
    deltas = DELTAS_QUICK if quick else DELTAS
    rows = statistics.median(in_process("gevent", "benchmarks.deltas:measure", deltas=deltas))
    case = f"{deltas:,} deltas at {1_000 // DELAY_MS}/s"
    most = _rows_most(deltas)
    result = at_most(case, f"{rows:g} rows", f"{deltas:,} rows", rows / deltas, most / deltas)
    return [result._replace(target=f"<= {most} rows")]


def measure(deltas: int) -> list[int]:
    """Return the delta rows that each of the answers left."""
    with (
        temporary_folder() as folder,
        open_gateway(folder / "deltas.db", demo_deltas=deltas, demo_delay_ms=DELAY_MS) as gateway,
    ):
        keys = [f"deltas-{index}" for index in range(SESSIONS)]
        threads = [
            threading.Thread(target=prompt, args=(gateway, key, "Say many words.")) for key in keys
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [_delta_rows(gateway, key) for key in keys]


def _delta_rows(gateway: Gateway, key: str) -> int:
    head = gateway.log.head(stream_of(key))
    assert head is not None
    return sum(stored.type == TextDelta.wire_name for stored in gateway.log.read(head))


def _rows_most(deltas: int) -> int:
    elapsed_ms = deltas * DELAY_MS
    early_ms = min(elapsed_ms, EARLY_MS)
    gathered = early_ms // GATHER_MS + (elapsed_ms - early_ms) // GATHER_LATER_MS
    return gathered + EXTRA_ROWS
