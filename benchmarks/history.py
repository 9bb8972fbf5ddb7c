"""The newest 50 messages, and a session's state from the log, by how long the session is.

Ratio: the cost at 10,000 and 100,000 messages to the cost at 100. Sessions are imported; the
snapshot lies 99 events before the end, so every load folds the same number of events. Over HTTP
the sessions are asked for while they aren't loaded, which adds the state to each history, and
again when they are.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from actors.replay import state_at
from benchmarks import _load
from benchmarks._measure import Figures, Result, Samples, alternate, at_most, repetitions_of
from benchmarks._server import gateway
from benchmarks._store import import_messages, open_log, temporary_folder
from benchmarks._worker import in_process
from persistence.event_log import EventLog
from persistence.records import Head
from web.inputs import HistoryQuery
from web.resources.history import messages_of

SIZES = (100, 10_000, 100_000)
SIZES_QUICK = (100, 10_000)
LIMIT = 50
TAIL_EVENTS = 99
CALLS = 100
SECONDS = 1.0
SECONDS_QUICK = 0.5
RATIO_MOST = 1.5


def run(*, quick: bool) -> list[Result]:
    """Build the sessions, read them in process, then serve the same file and read it by HTTP."""
    sizes = SIZES_QUICK if quick else SIZES
    with temporary_folder() as folder:
        database = folder / "history.db"
        with open_log(database) as log:
            heads = [import_messages(log, _key(size), size, tail=TAIL_EVENTS) for size in sizes]
            results = _in_process_results(log, sizes, heads, quick=quick)
        with gateway(database) as port:
            results.extend(_http_results(port, sizes, "not loaded", quick=quick))
            _load_sessions(port, sizes)
            results.extend(_http_results(port, sizes, "loaded", quick=quick))
    return results


def _in_process_results(
    log: EventLog, sizes: Sequence[int], heads: Sequence[Head], *, quick: bool
) -> list[Result]:
    repetitions = repetitions_of(quick=quick)
    query = HistoryQuery(limit=LIMIT)
    stub: Any = SimpleNamespace(log=log)
    histories: dict[str, Callable[[], Figures]] = {}
    states: dict[str, Callable[[], Figures]] = {}
    for size, head in zip(sizes, heads, strict=True):
        state = state_at(log, head)
        histories[str(size)] = _timed(partial(messages_of, stub, state, query))
        states[str(size)] = _timed(partial(state_at, log, head))
    history = alternate(histories, repetitions)
    state_samples = alternate(states, repetitions)
    return [
        *_results(f"history?limit={LIMIT} in process", sizes, history),
        *_results("state from the log in process", sizes, state_samples),
    ]


def _http_results(port: int, sizes: Sequence[int], loaded: str, *, quick: bool) -> list[Result]:
    seconds = SECONDS_QUICK if quick else SECONDS

    def history(size: int) -> Callable[[], Figures]:
        path = f"/sessions/{_key(size)}/history?limit={LIMIT}"
        requests = [_load.request_bytes("GET", path).decode()]

        def measured() -> Figures:
            figures = in_process(
                "threads",
                "benchmarks._load:requests",
                port=port,
                requests=requests,
                seconds=seconds,
            )
            return {"us": 1e6 / figures["per_s"]}

        return measured

    samples = alternate({str(size): history(size) for size in sizes}, repetitions_of(quick=quick))
    return _results(f"history?limit={LIMIT} over HTTP, {loaded}", sizes, samples)


def _load_sessions(port: int, sizes: Sequence[int]) -> None:
    """Ask each session for something that only its actor can answer."""
    requests = [
        _load.request_bytes("POST", f"/sessions/{_key(size)}/abort").decode() for size in sizes
    ]
    in_process("threads", "benchmarks._load:requests", port=port, requests=requests, seconds=0)


def _timed(call: Callable[[], object]) -> Callable[[], Figures]:
    def timed() -> Figures:
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        return {"us": (time.perf_counter() - began) / CALLS * 1e6}

    return timed


def _results(what: str, sizes: Sequence[int], samples: Samples) -> list[Result]:
    first = str(sizes[0])
    return [
        at_most(
            f"{what}: {size:,} messages to {sizes[0]}",
            f"{samples.median(str(size), 'us'):,.0f} us",
            f"{samples.median(first, 'us'):,.0f} us",
            samples.ratio(str(size), first, "us"),
            RATIO_MOST,
        )
        for size in sizes[1:]
    ]


def _key(size: int) -> str:
    return f"history-{size}"
