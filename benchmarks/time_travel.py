"""A long session as it was in the middle, and opened from its snapshot: what its length costs.

Ours: a session of 100,000 events, with a snapshot every 1,000. Baseline: one that was created and
no more. The middle is the dearest place there is, 999 events after a snapshot; opened is what is
not loaded, from a snapshot at its end, with its newest message only, as an empty session has none.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

from actors.replay import state_at
from actors.session.commands import CreateSession
from actors.session_actor import SNAPSHOT_EVERY_EVENTS
from benchmarks import _load
from benchmarks._measure import Figures, Result, Samples, alternate, repetitions_of
from benchmarks._server import gateway
from benchmarks._store import Builder, open_log, temporary_folder
from benchmarks._worker import in_process
from benchmarks.replay import prompt
from persistence.event_log import EventLog
from persistence.records import Head

EVENTS = 100_000
EVENTS_QUICK = 20_000
CALLS = 20
SECONDS = 1.0
SECONDS_QUICK = 0.5
MIDDLE_MS_MOST = 500.0
OPENED_MORE_MS_MOST = 2.0
LIMIT = 50


def run(*, quick: bool) -> list[Result]:
    """Build both sessions, read them in process, then serve them and read them by HTTP."""
    repetitions = repetitions_of(quick=quick)
    seconds = SECONDS_QUICK if quick else SECONDS
    with temporary_folder() as folder:
        database = folder / "past.db"
        with open_log(database) as log:
            long = _long(log, EVENTS_QUICK if quick else EVENTS)
            empty = _empty(log)
            middle = long.version // 2 // SNAPSHOT_EVERY_EVENTS * SNAPSHOT_EVERY_EVENTS - 1
            in_here = alternate(
                {
                    "middle": _timed(partial(state_at, log, long, middle)),
                    "long": _timed(partial(state_at, log, long)),
                    "empty": _timed(partial(state_at, log, empty)),
                },
                repetitions,
            )
        with gateway(database) as port:
            by_http = alternate(
                {
                    "middle": _asked(port, f"long/state?at={middle}&limit={LIMIT}", seconds),
                    "long": _asked(port, "long/state?limit=1", seconds),
                    "empty": _asked(port, "empty/state?limit=1", seconds),
                },
                repetitions,
            )
    events = long.version
    return [
        *_results(f"{events:,} events, in process", in_here),
        *_results(f"{events:,} events, over HTTP", by_http),
    ]


def _long(log: EventLog, events: int) -> Head:
    builder = Builder(log, "long")
    head = builder.flush()
    number = 0
    while builder.state.version < events:
        number += 1
        before = builder.state.version
        prompt(builder, f"prompt-{number}")
        if builder.state.version // SNAPSHOT_EVERY_EVENTS > before // SNAPSHOT_EVERY_EVENTS:
            head = builder.flush(snapshot=builder.state)
    return head


def _empty(log: EventLog) -> Head:
    builder = Builder(log, "empty")
    builder.carry_out(CreateSession(builder.now_ms, "empty"))
    return builder.flush(snapshot=builder.state)


def _timed(call: Callable[[], object]) -> Callable[[], Figures]:
    def timed() -> Figures:
        took: list[float] = []
        for _ in range(CALLS):
            began = time.perf_counter()
            call()
            took.append(time.perf_counter() - began)
        return {"ms": statistics.median(took) * 1e3}

    return timed


def _asked(port: int, path: str, seconds: float) -> Callable[[], Figures]:
    requests = [_load.request_bytes("GET", f"/sessions/{path}").decode()]

    def measured() -> Figures:
        figures = in_process(
            "threads", "benchmarks._load:requests", port=port, requests=requests, seconds=seconds
        )
        return {"ms": figures["p50_ms"]}

    return measured


def _results(what: str, samples: Samples) -> list[Result]:
    middle, long, empty = (samples.median(name, "ms") for name in ("middle", "long", "empty"))
    more = statistics.median(
        mine["ms"] - theirs["ms"]
        for mine, theirs in zip(samples.runs["long"], samples.runs["empty"], strict=True)
    )
    return [
        Result(
            f"as it was in the middle of {what}",
            f"{middle:.2f} ms",
            f"{empty:.2f} ms",
            samples.ratio("middle", "empty", "ms"),
            f"<= {MIDDLE_MS_MOST:g} ms",
            middle <= MIDDLE_MS_MOST,
        ),
        Result(
            f"opened from its snapshot, {what}",
            f"{long:.2f} ms ({more:+.2f})",
            f"{empty:.2f} ms",
            samples.ratio("long", "empty", "ms"),
            f"+ <= {OPENED_MORE_MS_MOST:g} ms",
            more <= OPENED_MORE_MS_MOST,
        ),
    ]
