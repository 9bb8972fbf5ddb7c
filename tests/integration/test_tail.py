"""Reading all streams on in PostgreSQL while many processes write: each event once, in order."""

import contextlib
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import pytest
import sqlalchemy as sa

from persistence.engine import read_engine, write_engine
from persistence.event_log import SqlEventLog
from persistence.records import Append, Claim, Cursor, Head, NewEvent, Summary, TailedEvent
from tests.integration.tail_writer import TYPES, write_until_closed
from tests.postgres.plans import plan_of
from tests.postgres.server import connected

DEADLINE_S = 60.0
WRITERS = 8
SUMMARY = Summary(listed=True, active=False, body=b"{}")
START = Cursor(0, 0)

Seen = tuple[str, int]
"""A stream and a seq."""


@pytest.fixture
def log(postgres_url: sa.URL) -> Iterator[SqlEventLog]:
    log = SqlEventLog(write_engine(postgres_url), read_engine(postgres_url))
    yield log
    log.close()


def _new(log: SqlEventLog, stream_id: str) -> Head:
    (outcome,) = log.write([Claim(stream_id, "me")])
    assert isinstance(outcome, Head)
    return outcome


def _append(log: SqlEventLog, head: Head, payload: bytes = b"{}") -> Head:
    (outcome,) = log.write([Append(head, (NewEvent("text.delta", 1, payload),), SUMMARY)])
    assert isinstance(outcome, Head)
    return outcome


# One late transaction

INSERTION = """
    INSERT INTO events (stream, seq, epoch, type, schema_version, recorded_at, payload_digest, hash)
    VALUES (%s, 1, 1, 'text.delta', 1, 0, '', '')"""


def test_what_commits_late_is_waited_for_though_its_position_is_earlier(
    log: SqlEventLog, postgres_url: sa.URL
) -> None:
    """A reader that goes by positions alone has passed it by then: this is what to avoid."""
    late, early = _new(log, "late"), _new(log, "early")
    with connected(postgres_url) as reader, connected(postgres_url) as writer:
        with writer.transaction():
            writer.execute(INSERTION, (late.row,))
            _append(log, early)
            assert _by_position_alone(reader, 0) == [(2, early.row)]
            assert log.tail(START) == []
            end = log.end()
            assert log.tail(end) == []
        assert _by_position_alone(reader, 2) == []
    found = log.tail(START)
    assert [(each.stream_id, each.cursor.position) for each in found] == [("late", 1), ("early", 2)]
    assert log.tail(end) == found  # both are only now there to be read


def _by_position_alone(reader: object, last: int) -> list[tuple[int, int]]:
    found = reader.execute(  # type: ignore[attr-defined]
        "SELECT position, stream FROM events WHERE position > %s ORDER BY position", (last,)
    )
    return list(found.fetchall())


def test_a_transaction_that_wrote_nothing_yet_holds_nobody_up(
    log: SqlEventLog, postgres_url: sa.URL
) -> None:
    head = _new(log, "stream")
    with connected(postgres_url) as reader, reader.transaction():
        reader.execute("SELECT count(*) FROM events")
        _append(log, head)
        assert [each.stream_id for each in log.tail(START)] == ["stream"]


def test_what_is_rolled_back_is_never_read_and_holds_nobody_up(
    log: SqlEventLog, postgres_url: sa.URL
) -> None:
    lost, kept = _new(log, "lost"), _new(log, "kept")
    with connected(postgres_url) as writer, writer.transaction(force_rollback=True):
        writer.execute(INSERTION, (lost.row,))
        _append(log, kept)
    assert [each.stream_id for each in log.tail(START)] == ["kept"]


def test_the_tail_is_read_by_its_index(log: SqlEventLog, postgres_url: sa.URL) -> None:
    head = _new(log, "stream")
    log.write([Append(head, (NewEvent("text.delta", 1, b"{}"),) * 3_000, SUMMARY)])
    with connected(postgres_url) as connection:
        connection.execute("ANALYZE events, streams")
    reader = read_engine(postgres_url)
    plan = plan_of(reader, lambda: SqlEventLog(reader, reader).tail(START, limit=100))
    reader.dispose()
    assert "Index Scan using ix_events_tail on events" in plan
    assert "Sort" not in plan


# Many writers


class Writers:
    """Processes that write; some are killed while they do, and replaced."""

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.integration.tail_writer"])
        self._running: dict[int, tuple[BaseProcess, Connection]] = {}
        self._turns: defaultdict[int, int] = defaultdict(int)
        for number in range(WRITERS):
            self._start(number)
        for number in range(WRITERS):
            self._wait_for(number)

    def kill(self, number: int) -> None:
        """Kill a writer in the middle of whatever it does, and start the next of its number."""
        process, pipe = self._running[number]
        process.kill()
        process.join(DEADLINE_S)
        process.close()
        pipe.close()
        self._start(number)
        self._wait_for(number)

    def stop(self) -> None:
        for process, pipe in self._running.values():
            with contextlib.suppress(BrokenPipeError):
                pipe.send("stop")
            process.join(DEADLINE_S)
            assert process.exitcode == 0
            process.close()
            pipe.close()
        self._running.clear()

    def _start(self, number: int) -> None:
        ours, theirs = self._context.Pipe()
        self._turns[number] += 1
        arguments = (self._url, number, self._turns[number], theirs)
        process = self._context.Process(target=write_until_closed, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._running[number] = (process, ours)

    def _wait_for(self, number: int) -> None:
        _, pipe = self._running[number]
        assert pipe.poll(DEADLINE_S)
        assert pipe.recv() == "ready"


class Reader:
    """Reads on, and notes what it sees in the order in which it does."""

    def __init__(self, log: SqlEventLog, types: Collection[str] = (), limit: int = 500) -> None:
        self._log = log
        self._types = types
        self._limit = limit
        self._last = START
        self.seen: list[Seen] = []

    def read_on(self) -> int:
        found = self._log.tail(self._last, types=self._types, limit=self._limit)
        for each in found:
            self._note(each)
        return len(found)

    def _note(self, each: TailedEvent) -> None:
        assert each.cursor > self._last
        self._last = each.cursor
        self.seen.append((each.stream_id, each.event.seq))


def _in_order_of_streams(seen: list[Seen]) -> dict[str, list[int]]:
    by_stream: defaultdict[str, list[int]] = defaultdict(list)
    for stream_id, seq in seen:
        by_stream[stream_id].append(seq)
    return by_stream


def _written(url: sa.URL, types: Collection[str]) -> dict[str, list[int]]:
    with connected(url) as connection:
        found = connection.execute(
            "SELECT stream_id, seq FROM events JOIN streams ON streams.id = stream"
            " WHERE type = ANY(%s) ORDER BY stream, seq",
            (list(types),),
        )
        return _in_order_of_streams(found.fetchall())


@pytest.mark.parametrize(
    ("run_s", "kill_every_s"),
    [(2.0, 0.4), pytest.param(60.0, 1.0, marks=pytest.mark.faults)],
)
def test_nothing_is_missed_doubled_or_out_of_order_under_eight_writers_that_die(
    log: SqlEventLog, postgres_url: sa.URL, run_s: float, kill_every_s: float
) -> None:
    whole, typed = Reader(log), Reader(log, types=TYPES[:1], limit=50)
    writers = Writers(postgres_url)
    chosen = random.Random(7)
    end = time.monotonic() + run_s
    kill_at = time.monotonic() + kill_every_s
    while (now := time.monotonic()) < end:
        if now > kill_at:
            writers.kill(chosen.randrange(WRITERS))
            kill_at = time.monotonic() + kill_every_s
        whole.read_on()
        typed.read_on()
    read_meanwhile = len(whole.seen)
    writers.stop()
    for reader, types in ((whole, TYPES), (typed, TYPES[:1])):
        expected = _written(postgres_url, types)
        count = sum(map(len, expected.values()))
        deadline = time.monotonic() + DEADLINE_S
        while len(reader.seen) < count:
            assert reader.read_on() or time.monotonic() < deadline
        assert reader.read_on() == 0
        assert _in_order_of_streams(reader.seen) == expected
    assert read_meanwhile > 50 * run_s  # it has read while they wrote, and not only afterwards
