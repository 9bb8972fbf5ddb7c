"""A process that appends to streams of its own until its pipe is closed, or it is killed."""

import itertools
import random
from multiprocessing.connection import Connection

import sqlalchemy as sa

from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.records import Append, Claim, Head, NewEvent, Summary, Write

SUMMARY = Summary(listed=True, active=False, body=b"{}")
TYPES = ("text.delta", "run.started")
STREAMS_EACH = 5


def write_until_closed(url: sa.URL, number: int, turn: int, stop: Connection) -> None:
    """Take over the streams of a number and append, several events of several ones a commit."""
    log = SqlEventLog(write_engine(url), read_engine(url))
    chosen = random.Random(f"{number} {turn}")
    outcomes = log.write(
        [Claim(f"s{number}-{index}", f"w{number}-{turn}") for index in range(STREAMS_EACH)]
    )
    heads = [_head(outcome) for outcome in outcomes]
    stop.send("ready")
    for step in itertools.count():
        if stop.poll():
            return
        moved = sorted(chosen.sample(range(STREAMS_EACH), chosen.randint(1, STREAMS_EACH)))
        writes: list[Write] = [_append(heads[index], chosen, step) for index in moved]
        for index, outcome in zip(moved, log.write(writes), strict=True):
            heads[index] = _head(outcome)


def _append(head: Head, chosen: random.Random, step: int) -> Append:
    new = tuple(
        NewEvent(chosen.choice(TYPES), 1, f"{step}".encode())
        for _ in range(chosen.choice((1, 1, 2, 3, 9)))
    )
    return Append(head, new, SUMMARY)


def _head(outcome: object) -> Head:
    assert isinstance(outcome, Head), outcome
    return outcome
