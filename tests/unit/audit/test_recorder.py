"""Records that many threads make at once, over one stream that others write too."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from actors.audit.access import CODEC, STREAM, AccessRead
from actors.audit.recorder import Recorder
from persistence import chain
from persistence.errors import PersistenceError, StoreUnavailableError
from persistence.group_commit import GroupCommit
from persistence.in_memory import InMemoryEventLog
from persistence.records import Append, Head, Write
from tests.acceptance.gateway import until

DEADLINE_S = 60.0


class SlowLog(InMemoryEventLog):
    """Holds appends back while its gate is shut, fails while told to, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.failing = False
        self.appended: list[int] = []

    def write(self, batch: Sequence[Write]) -> list[Head | PersistenceError]:
        if any(isinstance(write, Append) for write in batch):
            self.entered.set()
            assert self.gate.wait(DEADLINE_S)
            if self.failing:
                raise StoreUnavailableError("The disk is full.")
            self.appended.append(sum(len(w.events) for w in batch if isinstance(w, Append)))
        return super().write(batch)

    def reopen(self) -> None:
        """Nothing to do."""


@pytest.fixture
def log() -> SlowLog:
    return SlowLog()


@pytest.fixture
def writer(log: SlowLog) -> Iterator[GroupCommit]:
    writer = GroupCommit(log, reopen_after_s_max=0.01)
    writer.start()
    yield writer
    writer.close()


def read(number: int) -> AccessRead:
    return AccessRead("history", number, "k")


def recorded(log: InMemoryEventLog) -> list[int]:
    head = log.head(STREAM)
    assert head is not None
    stored = list(log.read(head))
    assert chain.verify(STREAM, stored) == (head.version, head.hash)
    events = [CODEC.decode(each.type, 1, each.payload or b"") for each in stored]
    return sorted(each.at for each in events if isinstance(each, AccessRead))


def test_what_comes_while_an_append_is_in_flight_is_the_next_append(
    log: SlowLog, writer: GroupCommit
) -> None:
    recorder = Recorder(writer, STREAM, CODEC)
    log.gate.clear()
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(recorder.record, read(0), "token:a")
        assert log.entered.wait(DEADLINE_S)
        others = [pool.submit(recorder.record, read(n), "token:a") for n in range(1, 20)]
        assert not first.done()
        until(lambda: len(recorder._waiting) == 19, "all have come")
        log.gate.set()
        for each in (first, *others):
            each.result(DEADLINE_S)
    assert recorded(log) == list(range(20))
    assert log.appended == [1, 19]


def test_two_processes_lose_and_repeat_nothing(log: SlowLog) -> None:
    writers = [GroupCommit(log), GroupCommit(log)]
    for each in writers:
        each.start()
    recorders = [Recorder(each, STREAM, CODEC) for each in writers]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: recorders[n % 2].record(read(n), "token:a"), range(200)))
    for each in writers:
        each.close()
    assert recorded(log) == list(range(200))


def test_a_failure_reaches_all_who_wait_and_what_comes_later_is_recorded(
    log: SlowLog, writer: GroupCommit
) -> None:
    recorder = Recorder(writer, STREAM, CODEC)
    recorder.record(read(0), "token:a")
    log.failing = True
    with ThreadPoolExecutor(5) as pool:
        failed = [pool.submit(recorder.record, read(n), "token:a") for n in range(1, 6)]
        errors = [each.exception(DEADLINE_S) for each in failed]
    assert [type(each) for each in errors] == [StoreUnavailableError] * 5
    log.failing = False
    until(lambda: is_recorded(recorder), "the writer has tried again by itself")
    assert recorded(log) == [0, 9]


def is_recorded(recorder: Recorder) -> bool:
    try:
        recorder.record(read(9), "token:a")
    except StoreUnavailableError:
        return False
    return True
