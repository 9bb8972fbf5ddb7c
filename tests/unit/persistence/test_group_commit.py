import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future

import pytest

from persistence.errors import (
    ConflictError,
    CorruptLogError,
    LeaseLostError,
    PersistenceError,
    StoreBusyError,
    StoreUnavailableError,
)
from persistence.group_commit import GroupCommit, Ticket
from persistence.in_memory import InMemoryEventLog
from persistence.records import (
    Append,
    Claim,
    EpisodeRow,
    Head,
    NewEvent,
    Reproject,
    Summary,
    Write,
)

DEADLINE_S = 60.0
SUMMARY = Summary(listed=True, active=False, body=b"{}")

# The stores below log each failure on purpose; pytest shows it only when a test fails.


class GatedLog(InMemoryEventLog):
    """Holds each write back while its gate is shut, and notes the batches' sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        self.batches.append(len(batch))
        self.entered.set()
        assert self.gate.wait(DEADLINE_S)
        return super().write(batch)


class FailingLog(GatedLog):
    """Fails as often as it is told; ``written_anyway`` writes first, as a lost answer does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.write_errors: list[Exception] = []
        self.reopen_errors: list[Exception] = []
        self.written_anyway = False

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        self.calls.append("write")
        if not self.write_errors:
            return super().write(batch)
        if self.written_anyway:
            super().write(batch)
        else:
            self.batches.append(len(batch))
            self.entered.set()
            assert self.gate.wait(DEADLINE_S)
        raise self.write_errors.pop(0)

    def reopen(self) -> None:
        self.calls.append("reopen")
        if self.reopen_errors:
            raise self.reopen_errors.pop(0)


def append(head: Head, events: int = 1) -> Append:
    return Append(head, (NewEvent("text.delta", 1, b"{}"),) * events, SUMMARY)


def claimed(log: InMemoryEventLog, stream_id: str) -> Head:
    (head,) = InMemoryEventLog.write(log, [Claim(stream_id, "me")])
    assert isinstance(head, Head)
    return head


def version(log: InMemoryEventLog, head: Head) -> int:
    found = log.head(head.stream_id)
    assert found is not None
    return found.version


def result(ticket: Ticket) -> Head:
    """Wait for the outcome, but not for ever: a ticket has no time limit of its own."""
    outcome: Future[Head] = Future()

    def wait() -> None:
        try:
            outcome.set_result(ticket.result())
        except PersistenceError as error:
            outcome.set_exception(error)

    threading.Thread(target=wait, daemon=True).start()
    return outcome.result(DEADLINE_S)


def occupy(log: GatedLog, writer: GroupCommit) -> Ticket:
    """Have the writer stand in a write of its own, at the shut gate."""
    ticket = writer.submit(Claim("occupied", "me"))
    assert log.entered.wait(DEADLINE_S)
    return ticket


def submit_until_refused(
    writer: GroupCommit, tickets: list[Ticket], closer: threading.Thread
) -> None:
    """Submit claims while ``closer`` has not begun to close; it blocks at the gate."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        tickets.append(writer.submit(Claim(f"s{len(tickets)}", "me")))
        closer.join(0.001)


@pytest.fixture
def log() -> FailingLog:
    return FailingLog()


@pytest.fixture
def writer(log: FailingLog) -> Iterator[GroupCommit]:
    writer = GroupCommit(log, queue_max=100, batch_rows_max=1_000, reopen_after_s_max=0)
    writer.start()
    yield writer
    log.gate.set()
    writer.close()


def test_a_write_is_in_the_log_when_its_ticket_has_the_head(
    log: FailingLog, writer: GroupCommit
) -> None:
    log.gate.set()
    head = result(writer.submit(Claim("a", "me")))
    for expected in (1, 2, 3):
        head = result(writer.submit(append(head)))
        assert head.version == expected
        assert log.head("a") == head


def test_the_appends_of_many_threads_become_one_batch_while_a_write_is_blocked(
    log: FailingLog, writer: GroupCommit
) -> None:
    heads = [claimed(log, f"s{n}") for n in range(50)]
    submitted = threading.Semaphore(0)
    outcomes: dict[str, Head] = {}

    def append_one(head: Head) -> None:
        ticket = writer.submit(append(head))
        submitted.release()
        outcomes[head.stream_id] = result(ticket)

    occupy(log, writer)
    threads = [threading.Thread(target=append_one, args=(head,)) for head in heads]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert submitted.acquire(timeout=DEADLINE_S)
    assert outcomes == {}
    log.gate.set()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert log.batches == [1, 50]
    assert outcomes == {head.stream_id: log.head(head.stream_id) for head in heads}
    assert {head.version for head in outcomes.values()} == {1}


def test_each_ticket_gets_its_own_outcome(log: FailingLog, writer: GroupCommit) -> None:
    good, old, stale = (claimed(log, stream_id) for stream_id in ("good", "old", "stale"))
    InMemoryEventLog.write(log, [Claim("old", "another"), append(stale)])
    occupy(log, writer)
    tickets = [writer.submit(append(head)) for head in (stale, good, old)]
    log.gate.set()
    with pytest.raises(ConflictError):
        result(tickets[0])
    assert result(tickets[1]) == log.head("good")
    with pytest.raises(LeaseLostError):
        result(tickets[2])
    assert log.batches == [1, 3]
    assert "reopen" not in log.calls


def test_a_full_queue_refuses_and_writes_nothing_of_what_it_refused(log: FailingLog) -> None:
    writer = GroupCommit(log, queue_max=3)
    writer.start()
    queued = [claimed(log, f"s{n}") for n in range(3)]
    refused = claimed(log, "refused")
    occupy(log, writer)
    tickets = [writer.submit(append(head)) for head in queued]
    with pytest.raises(StoreBusyError):
        writer.submit(append(refused))
    log.gate.set()
    assert [result(ticket).version for ticket in tickets] == [1, 1, 1]
    assert version(log, refused) == 0
    assert result(writer.submit(append(refused))).version == 1
    writer.close()
    assert version(log, refused) == 1


@pytest.mark.parametrize(
    "error", [StoreUnavailableError("gone"), OSError(5, "I/O error"), RuntimeError("a bug")]
)
def test_a_failing_write_fails_the_whole_batch(
    log: FailingLog, writer: GroupCommit, error: Exception
) -> None:
    heads = [claimed(log, f"s{n}") for n in range(3)]
    first = occupy(log, writer)
    tickets = [writer.submit(append(head)) for head in heads]
    log.write_errors.append(error)
    log.gate.set()
    assert result(first).version == 0
    for ticket in tickets:
        with pytest.raises(StoreUnavailableError):
            result(ticket)
    assert log.batches == [1, 3]
    assert [version(log, head) for head in heads] == [0, 0, 0]


def test_after_a_failed_write_the_log_is_reopened_once_before_the_next(
    log: FailingLog, writer: GroupCommit
) -> None:
    log.gate.set()
    head = claimed(log, "a")
    log.write_errors.append(StoreUnavailableError("gone"))
    with pytest.raises(StoreUnavailableError):
        result(writer.submit(append(head)))
    head = result(writer.submit(append(head)))
    head = result(writer.submit(append(head)))
    assert log.calls == ["write", "reopen", "write", "write"]
    assert head.version == 2


def test_a_write_that_held_after_all_is_a_conflict_when_it_is_repeated(
    log: FailingLog, writer: GroupCommit
) -> None:
    log.gate.set()
    head = claimed(log, "a")
    log.write_errors.append(StoreUnavailableError("the answer was lost"))
    log.written_anyway = True
    with pytest.raises(StoreUnavailableError):
        result(writer.submit(append(head)))
    with pytest.raises(ConflictError):
        result(writer.submit(append(head)))
    assert version(log, head) == 1


def test_nothing_is_acknowledged_until_the_log_reopens(
    log: FailingLog, writer: GroupCommit
) -> None:
    log.gate.set()
    head = claimed(log, "a")
    log.write_errors.append(StoreUnavailableError("gone"))
    log.reopen_errors += [
        StoreUnavailableError("still gone"),
        CorruptLogError("a", 1, "a bad head"),
    ]
    for expected in (StoreUnavailableError, StoreUnavailableError, CorruptLogError):
        with pytest.raises(expected):
            result(writer.submit(append(head)))
        assert version(log, head) == 0
    assert log.calls == ["write", "reopen", "reopen"]
    assert result(writer.submit(append(head))).version == 1
    assert log.calls == ["write", "reopen", "reopen", "reopen", "write"]


def test_close_writes_what_is_queued_and_refuses_what_comes_later(log: FailingLog) -> None:
    writer = GroupCommit(log, queue_max=20_000)
    writer.start()
    tickets = [occupy(log, writer), *(writer.submit(Claim(f"q{n}", "me")) for n in range(3))]
    closer = threading.Thread(target=writer.close)
    closer.start()
    with pytest.raises(StoreUnavailableError, match="closed"):
        submit_until_refused(writer, tickets, closer)
    assert closer.is_alive()
    log.gate.set()
    closer.join(DEADLINE_S)
    assert not closer.is_alive()
    heads = [result(ticket) for ticket in tickets]
    assert [log.head(head.stream_id) for head in heads] == heads


def test_a_write_after_close_is_refused(log: FailingLog, writer: GroupCommit) -> None:
    log.gate.set()
    writer.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        writer.submit(Claim("a", "me"))
    assert log.head("a") is None


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ((3, 3, 3, 3, 3, 3, 3), [3, 3, 1]),  # a fourth would make 12 rows
        ((5, 5, 5), [2, 1]),
        ((25, 1, 1), [1, 2]),  # an append is never split, so it goes alone
        ((1, 25, 1), [1, 1, 1]),
        ((1,) * 21, [10, 10, 1]),
    ],
)
def test_a_batch_has_no_more_rows_than_allowed(
    log: FailingLog, sizes: tuple[int, ...], batches: list[int]
) -> None:
    writer = GroupCommit(log, batch_rows_max=10)
    writer.start()
    heads = [claimed(log, f"s{n}") for n in range(len(sizes))]
    occupy(log, writer)
    tickets = [writer.submit(append(head, size)) for head, size in zip(heads, sizes, strict=True)]
    log.gate.set()
    assert tuple(result(ticket).version for ticket in tickets) == sizes
    writer.close()
    assert log.batches == [1, *batches]


def test_claims_count_as_rows_too(log: FailingLog) -> None:
    writer = GroupCommit(log, batch_rows_max=10)
    writer.start()
    occupy(log, writer)
    tickets = [writer.submit(Claim(f"s{n}", "me")) for n in range(12)]
    log.gate.set()
    assert [result(ticket).stream_id for ticket in tickets] == [f"s{n}" for n in range(12)]
    writer.close()
    assert log.batches == [1, 10, 2]


def test_projected_rows_count_as_rows_too(log: FailingLog) -> None:
    writer = GroupCommit(log, batch_rows_max=10)
    writer.start()
    heads = [claimed(log, f"s{n}") for n in range(4)]
    rows = tuple(EpisodeRow(number, "k", "id", "user", "text", 1) for number in range(1, 5))
    occupy(log, writer)
    event = (NewEvent("text.delta", 1, b"{}"),)
    tickets = [
        *(writer.submit(Append(head, event, SUMMARY, None, rows)) for head in heads[:3]),
        *(writer.submit(Reproject(head, rows)) for head in (heads[3], heads[3])),
    ]
    log.gate.set()
    assert [result(ticket).version for ticket in tickets] == [1, 1, 1, 0, 0]
    writer.close()
    assert log.batches == [1, 2, 2, 1]
    assert [log.rows(head.stream_id) for head in heads] == [list(rows)] * 4


def test_the_writer_falls_asleep_and_wakes_many_times(log: FailingLog, writer: GroupCommit) -> None:
    """One writer thread against threads that each wait for every append: no wake-up is lost."""
    log.gate.set()
    finished: list[int] = []

    def append_many(stream_id: str) -> None:
        head = writer.submit(Claim(stream_id, "me")).result()
        for _ in range(200):
            head = writer.submit(append(head)).result()
        finished.append(head.version)

    threads = [threading.Thread(target=append_many, args=(f"s{n}",), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert finished == [200] * 4
