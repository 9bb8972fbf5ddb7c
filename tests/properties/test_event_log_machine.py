"""The log in a database against the one in memory, which is small enough to be read."""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import sqlalchemy as sa
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from persistence import chain
from persistence.engine import read_engine, write_engine
from persistence.errors import PersistenceError
from persistence.event_log import EventLog, SqlEventLog
from persistence.in_memory import InMemoryEventLog
from persistence.memories import SqlMemories
from persistence.records import (
    Append,
    Claim,
    Cursor,
    EpisodeRow,
    Erasure,
    Head,
    MemoryRow,
    NewEvent,
    Reproject,
    Row,
    Snapshot,
    Summary,
    TailedEvent,
    Write,
)
from persistence.schema import PAGED_TYPES
from tests.postgres.server import PostgresServer
from tests.sqlite import make_database

STREAMS = ("s%", "s_1", "sx1")
OWNERS = ("mine", "theirs")
SEQ_MAX = 10
ERASING = Summary(listed=True, active=False, body=b"{}")

stream_ids = st.sampled_from(STREAMS)
texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5).filter(
    lambda text: "\0" not in text  # it is refused before it gets here: PostgreSQL can't hold it
)
new_events = st.builds(
    NewEvent,
    st.sampled_from((*PAGED_TYPES, "text.delta")),
    st.integers(1, 3),
    st.binary(max_size=8),
    texts,
    texts,
    st.none() | st.integers(0, 2**53),
)
summaries = st.builds(Summary, st.booleans(), st.booleans(), st.binary(max_size=8))
ages = st.sampled_from((0, 0, 0, 0, 1, 2, 3))
"""How many heads ago the caller looked: 0 is the stream's own head."""

seqs = st.integers(0, SEQ_MAX)
prefixes = st.sampled_from(("", "s", "s%", "s_", "sx"))

row_ids = st.integers(1, 3)
memory_rows = st.builds(
    lambda memory_id, content, active: MemoryRow(
        memory_id, "core", "fact", f"k{memory_id}", content, "manual", active, 1, 2
    ),
    row_ids,
    st.sampled_from(("tea", "naïve", "")),
    st.booleans(),
)
episode_rows = st.builds(
    lambda episode_id, text: EpisodeRow(episode_id, "web:main", "id", "user", text, 1),
    row_ids,
    st.sampled_from(("tea", "日本語")),
)
row_tuples = st.just(()) | st.lists(memory_rows | episode_rows, max_size=3).map(tuple)

claims = st.builds(Claim, stream_ids, st.sampled_from(OWNERS))
appends = st.tuples(
    stream_ids,
    ages,
    st.lists(new_events, min_size=1, max_size=4).map(tuple) | st.just(()),
    summaries,
    st.none() | st.tuples(st.integers(0, 2), st.integers(1, 2), st.binary(max_size=4)),
    row_tuples,
)
reprojections = st.tuples(stream_ids, ages, row_tuples)
AppendPlan = tuple[
    str, int, tuple[NewEvent, ...], Summary, tuple[int, int, bytes] | None, tuple[Row, ...]
]
ReprojectPlan = tuple[str, int, tuple[Row, ...]]
Plan = Claim | AppendPlan | ReprojectPlan


OpenDatabase = Callable[[], AbstractContextManager[sa.URL]]
"""Opens an empty database."""


class EventLogMachine(RuleBasedStateMachine):
    """Does the same to both logs and expects the same, whatever is read or refused."""

    def __init__(self, open_database: OpenDatabase) -> None:
        super().__init__()
        self._step = 0
        self._heads: dict[str, list[Head]] = {}
        self._opened = contextlib.ExitStack()
        url = self._opened.enter_context(open_database())
        writer, reader = write_engine(url), read_engine(url)
        self._sql: EventLog = SqlEventLog(
            writer, reader, clock_us=self._clock_us, random_bytes=self._random_bytes
        )
        self._opened.callback(self._sql.close)
        self._memories = SqlMemories(reader)
        self._memory = InMemoryEventLog(clock_us=self._clock_us, random_bytes=self._random_bytes)

    # Both sources depend on the step alone: after a conflict the SQL log asks anew for times and
    # salts, which the one in memory has no need of.

    def _clock_us(self) -> int:
        return 1_700_000_000_000_000 + self._step

    def _random_bytes(self, size: int) -> bytes:
        return self._step.to_bytes(chain.SALT_BYTES, "big") * (size // chain.SALT_BYTES)

    def _head(self, stream_id: str, age: int) -> Head:
        known = self._heads[stream_id]
        return known[max(-len(known), -1 - age)]

    def _write(self, batch: Sequence[Write]) -> None:
        self._step += 1
        outcomes = self._memory.write(batch)
        assert _comparable(batch, self._sql.write(batch)) == _comparable(batch, outcomes)
        for outcome in outcomes:
            if isinstance(outcome, Head):
                self._heads.setdefault(outcome.stream_id, []).append(outcome)

    @initialize(order=st.permutations(STREAMS), plans=st.lists(appends, min_size=3, max_size=9))
    def begin(self, order: list[str], plans: list[AppendPlan]) -> None:
        """Most of what can go wrong needs a stream with events."""
        self._write([Claim(stream_id, OWNERS[0]) for stream_id in order])
        for plan in plans:
            self._write(self._planned([plan]))

    @rule(claim=claims)
    def claim(self, claim: Claim) -> None:
        self._write([claim])

    @rule(plan=appends)
    def append(self, plan: AppendPlan) -> None:
        self._write(self._planned([plan]))

    @rule(plan=reprojections)
    def reproject(self, plan: ReprojectPlan) -> None:
        self._write(self._planned([plan]))

    @rule(
        stream_id=stream_ids,
        age=ages,
        first=seqs,
        last=seqs,
        types=st.sampled_from(((), PAGED_TYPES)),
        snapshots=st.booleans(),
    )
    def erase(
        self,
        stream_id: str,
        age: int,
        first: int,
        last: int,
        types: tuple[str, ...],
        *,
        snapshots: bool,
    ) -> None:
        head = self._head(stream_id, age)
        erasure = Erasure(head.row, first, last, types, snapshots)
        said = (NewEvent("stream.erased", 1, b"{}"),)
        self._write([Append(head, said, ERASING, erasures=(erasure,))])

    @rule(plans=st.lists(claims | appends | reprojections, max_size=6))
    def write_a_batch(self, plans: list[Plan]) -> None:
        self._write(self._planned(plans))

    def _planned(self, plans: Sequence[Plan]) -> list[Write]:
        writes: list[Write] = []
        for plan in plans:
            if isinstance(plan, Claim):
                writes.append(plan)
                continue
            head = self._head(plan[0], plan[1])
            if len(plan) == 3:
                writes.append(Reproject(head, plan[2]))
                continue
            _, _, events, summary, image, rows = plan
            snapshot = None
            if image is not None:
                seq, state_version, state = image
                snapshot = Snapshot(head.version + seq, state_version, state)
            writes.append(Append(head, events, summary, snapshot, rows))
        return writes

    @rule(
        stream_id=stream_ids,
        age=ages,
        after=st.sampled_from((0, 0, 1, 2, 5)),
        before=st.none() | seqs,
        limit=st.sampled_from((None, None, 0, 1, 2, 5)),
    )
    def read(
        self,
        stream_id: str,
        age: int,
        after: int,
        before: int | None,
        limit: int | None,
    ) -> None:
        head = self._head(stream_id, age)
        for newest_first, paged in itertools.product((False, True), repeat=2):
            found, expected = (
                list(
                    log.read(
                        head,
                        after=after,
                        before=before,
                        limit=limit,
                        newest_first=newest_first,
                        paged=paged,
                    )
                )
                for log in (self._sql, self._memory)
            )
            assert found == expected

    @rule(stream_id=stream_ids, age=ages, state_version=st.integers(1, 3), at=st.none() | seqs)
    def snapshot(self, stream_id: str, age: int, state_version: int, at: int | None) -> None:
        head = self._head(stream_id, age)
        expected = self._memory.snapshot(head, state_version, at=at)
        assert self._sql.snapshot(head, state_version, at=at) == expected

    @rule(after_row=st.integers(0, 4), limit=st.integers(0, 4), prefix=prefixes)
    def list_streams(self, after_row: int, limit: int, prefix: str) -> None:
        expected = self._memory.entries(after_row=after_row, limit=limit, prefix=prefix)
        assert self._sql.entries(after_row=after_row, limit=limit, prefix=prefix) == expected
        assert self._sql.active(prefix) == self._memory.active(prefix)

    @rule()
    def reopen(self) -> None:
        self._sql.reopen()

    @rule(limit=st.integers(1, 9), types=st.sampled_from(((), PAGED_TYPES[:1], ("text.delta",))))
    def tail(self, limit: int, types: tuple[str, ...]) -> None:
        """Places differ between the logs, and so does the order within one transaction."""
        found, expected = (
            sorted(
                (
                    (each.stream_id, each.event.seq, each.event)
                    for each in _read_on(log, types, limit)
                ),
                key=lambda each: each[:2],
            )
            for log in (self._sql, self._memory)
        )
        assert found == expected

    @rule(after=st.dictionaries(st.integers(1, 3), seqs))
    def read_streams(self, after: dict[int, int]) -> None:
        found, expected = (
            sorted(log.read_streams(after), key=lambda each: (each[0], each[1].seq))
            for log in (self._sql, self._memory)
        )
        assert found == expected

    @invariant()
    def the_heads_agree(self) -> None:
        for stream_id in STREAMS:
            assert self._sql.head(stream_id) == self._memory.head(stream_id)

    @invariant()
    def the_rows_agree(self) -> None:
        for stream_id, (head, *_) in self._heads.items():
            assert self._memories.rows(head.row) == self._memory.rows(stream_id)

    def teardown(self) -> None:
        with self._opened:
            for stream_id in self._heads:
                head = self._sql.head(stream_id)
                assert head is not None
                stored = list(self._sql.read(head))
                assert stored == list(self._memory.read(head))
                assert chain.verify(stream_id, stored) == (head.version, head.hash)


def _read_on(log: EventLog, types: Sequence[str], limit: int) -> Iterator[TailedEvent]:
    after = Cursor(0, 0)
    while page := log.tail(after, types=types, limit=limit):
        yield from page
        after = page[-1].cursor


def _comparable(
    batch: Sequence[Write], outcomes: Sequence[Head | PersistenceError]
) -> list[object]:
    """Return heads, and for each refusal why; both reasons are true after a claim in the batch."""
    claimed: set[str] = set()
    found: list[object] = []
    for write, outcome in zip(batch, outcomes, strict=True):
        if isinstance(write, Claim):
            claimed.add(write.stream_id)
        if isinstance(outcome, Head):
            found.append(outcome)
        elif not isinstance(write, Claim) and write.head.stream_id in claimed:
            found.append("refused")
        else:
            found.append(type(outcome))
    return found


def _settings(examples_max: int, steps: int) -> settings:
    return settings(
        max_examples=examples_max,
        stateful_step_count=steps,
        deadline=None,
        # to shrink takes minutes of commits
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )


@contextlib.contextmanager
def _sqlite_database() -> Iterator[sa.URL]:
    with tempfile.TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as folder:
        yield make_database(Path(folder) / "log.db")


def test_the_log_in_sqlite_does_what_the_one_in_memory_does() -> None:
    run_state_machine_as_test(lambda: EventLogMachine(_sqlite_database), settings=_settings(15, 30))


def test_the_log_in_postgresql_does_what_the_one_in_memory_does(postgres: PostgresServer) -> None:
    run_state_machine_as_test(lambda: EventLogMachine(postgres.database), settings=_settings(8, 30))
