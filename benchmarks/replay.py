"""Replay of one long session: what the fold and the hash chain cost on top of reading it.

Baseline: rows read from SQLite and decoded into events. Ours: the same and folded into the
session's state; the same with the hash chain verified as well. The session has the shape of many
prompts whose answers came in deltas. A ratio is one of times.
"""

import time
from collections.abc import Callable, Iterator

from actors.replay import decode
from actors.session import commands as c
from actors.session.events import TextDelta
from actors.session.evolve import evolve
from actors.session.messages import AssistantMessage, Text, Usage
from actors.session.state import SessionState
from benchmarks._measure import Figures, Result, alternate, at_most, repetitions_of
from benchmarks._store import Builder, open_log, temporary_folder
from persistence import chain
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent

EVENTS = 100_000
EVENTS_QUICK = 20_000
DELTAS_PER_ANSWER = 12
PROMPT = "Explain how the next part of the plan works, with an example."
DELTA = "a handful of words, as many as gather in 100 ms, "
RATIO_MOST = 2.5


def run(*, quick: bool) -> list[Result]:
    """Build the session, then read it in each way, alternating."""
    with temporary_folder() as folder, open_log(folder / "replay.db") as log:
        head = _build(log, EVENTS_QUICK if quick else EVENTS)
        ways = {"decode": _decode, "fold": _fold, "fold and verify": _verify}
        runs = {name: _timed(way, log, head) for name, way in ways.items()}
        samples = alternate(runs, repetitions_of(quick=quick))

    def result(way: str) -> Result:
        return at_most(
            f"read + decode + {way}, {head.version:,} events",
            _rate(head, samples.median(way, "s")),
            _rate(head, samples.median("decode", "s")),
            samples.ratio(way, "decode", "s"),
            RATIO_MOST,
        )

    return [result("fold"), result("fold and verify")._replace(target="", met=None)]


def _build(log: EventLog, events: int) -> Head:
    builder = Builder(log, "long")
    number = 0
    while builder.state.version < events:
        number += 1
        prompt(builder, f"prompt-{number}")
    return builder.flush()


def prompt(builder: Builder, prompt_id: str) -> None:
    """Carry out a prompt whose answer comes in deltas."""
    builder.now_ms += 1_000
    at = builder.now_ms
    delta = (TextDelta(0, DELTA),)
    builder.carry_out(c.QueuePrompt(at, "benchmark", prompt_id, PROMPT, "messages", 8))
    builder.carry_out(c.StartMessage(at, prompt_id, delta))
    for index in range(1, DELTAS_PER_ANSWER):
        builder.carry_out(c.RecordDeltas(at + index, prompt_id, delta))
    content = (Text(DELTA * DELTAS_PER_ANSWER),)
    answer = AssistantMessage(content, at, "demo", "echo", usage=Usage(900, 150))
    builder.carry_out(c.CompleteMessage(at, prompt_id, (), answer))


def _timed(
    way: Callable[[EventLog, Head], object], log: EventLog, head: Head
) -> Callable[[], Figures]:
    def timed() -> Figures:
        began = time.perf_counter()
        way(log, head)
        return {"s": time.perf_counter() - began}

    return timed


def _decode(log: EventLog, head: Head) -> None:
    for stored in log.read(head):
        decode(head.stream_id, stored)


def _fold(log: EventLog, head: Head) -> None:
    _folded(log.read(head), head)


def _verify(log: EventLog, head: Head) -> None:
    stored = list(log.read(head))
    _, last_hash = chain.verify(head.stream_id, stored)
    assert last_hash == head.hash
    _folded(iter(stored), head)


def _folded(stored: Iterator[StoredEvent], head: Head) -> None:
    state = SessionState("long")
    for each in stored:
        state = evolve(state, decode(head.stream_id, each))
    assert state.version == head.version


def _rate(head: Head, elapsed_s: float) -> str:
    return f"{head.version / elapsed_s:,.0f} events/s"
