"""One bounded writer per process: many appends, one transaction, one ticket each."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from persistence.errors import PersistenceError, StoreBusyError, StoreUnavailableError
from persistence.event_log import EventLog
from persistence.native import Gate, gate_maker
from persistence.records import Append, Head, Reproject, Write

QUEUE_MAX = 10_000
BATCH_ROWS_MAX = 1_000
REOPEN_AFTER_S_MIN = 0.05
REOPEN_AFTER_S_MAX = 5.0
"""Time from a failure to the next attempt to reopen the log, doubled from the least to the most."""

Outcomes = Sequence[Head | PersistenceError]


class WriteObserver(Protocol):
    """Takes note of what a writer did; must not block."""

    def written(self, writes: Sequence[Write], outcomes: Outcomes, took_s: float) -> None:
        """Take note of a batch that is durable, and of what its writes led to."""

    def write_failed(self, writes: Sequence[Write], took_s: float) -> None:
        """Take note of a batch of which it is unknown whether it is in the log."""


logger = logging.getLogger(__name__)


class _Batch:
    """Writes that become one transaction; everyone who waits for it waits at one gate."""

    __slots__ = ("gate", "outcome", "rows", "writes")

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.writes: list[Write] = []
        self.rows = 0
        self.outcome: Outcomes = ()

    def resolve(self, outcome: Outcomes) -> None:
        self.outcome = outcome
        self.gate.set()


class Ticket:
    """What a write leads to, for the one who waits for it.

    concurrent.futures.Future was measured at four times the cost of a whole wait like this one.
    """

    __slots__ = ("_batch", "_index")

    def __init__(self, batch: _Batch, index: int) -> None:
        self._batch = batch
        self._index = index

    def result(self) -> Head:
        """Wait for the new head, or raise what went wrong.

        The wait has no time limit of its own: the writer resolves every batch, and a timeout
        would double what a wait costs.
        """
        self._batch.gate.wait()
        outcome = self._batch.outcome[self._index]
        if isinstance(outcome, Head):
            return outcome
        raise outcome


class GroupCommit:
    """Gathers writes while one batch commits, then writes them as the next batch.

    There is no timer by default: ``window_ms`` makes the writer wait that long for company.
    After a failed write nothing is acknowledged until the log has been reopened and checked;
    while that can't be done writes fail at once, and it is tried less and less often.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        queue_max: int = QUEUE_MAX,
        batch_rows_max: int = BATCH_ROWS_MAX,
        window_ms: int = 0,
        reopen_after_s_max: float = REOPEN_AFTER_S_MAX,
        observers: Sequence[WriteObserver] = (),
    ) -> None:
        self._log = log
        self._observers = observers
        self._queue_max = queue_max
        self._batch_rows_max = batch_rows_max
        self._window_s = window_ms / 1000
        self._make_gate = gate_maker()
        self._lock = threading.Lock()
        self._wake = threading.Lock()  # held while the writer sleeps
        self._batches: deque[_Batch] = deque()
        self._waiting = 0
        self._sleeping = False
        self._closing = False
        self._suspect: PersistenceError | None = None
        self._reopen_after_s_max = reopen_after_s_max
        self._reopen_after_s = 0.0
        self._reopen_at = 0.0
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        """Start the writer; call it after the fork."""
        self._thread.start()

    def submit(self, write: Write) -> Ticket:
        """Queue a write; the ticket holds the new head once the write is durable.

        Raises StoreBusyError when the queue is full. The ticket raises ConflictError or
        LeaseLostError when nothing was written, StoreUnavailableError when that is unknown.
        """
        rows = _rows_of(write)
        with self._lock:
            if self._closing:
                raise StoreUnavailableError("The log is closed.")
            if self._waiting >= self._queue_max:
                raise StoreBusyError(f"{self._queue_max} writes are waiting.")
            if not self._batches or self._batches[-1].rows + rows > self._batch_rows_max:
                self._batches.append(_Batch(self._make_gate()))
            batch = self._batches[-1]
            batch.writes.append(write)
            batch.rows += rows
            self._waiting += 1
            if self._sleeping:
                self._rouse()
            return Ticket(batch, len(batch.writes) - 1)

    def close(self) -> None:
        """Write what is queued, then stop; blocks until that is done."""
        with self._lock:
            self._closing = True
            if self._sleeping:
                self._rouse()
        if self._thread.is_alive():
            self._thread.join()

    def _rouse(self) -> None:
        self._sleeping = False
        self._wake.release()

    @property
    def waiting(self) -> int:
        """Return how many writes wait."""
        return self._waiting

    def _run(self) -> None:
        while (batch := self._take()) is not None:
            began = time.monotonic()
            try:
                self._reopen_where_needed()
                outcome = self._log.write(batch.writes)
            except BaseException as error:
                if self._suspect is None:
                    logger.exception("The log can't be written.")
                self._suspect = _unavailable(error)
                batch.resolve([self._suspect] * len(batch.writes))
                for observer in self._observers:
                    observer.write_failed(batch.writes, time.monotonic() - began)
                continue
            batch.resolve(outcome)
            for observer in self._observers:
                observer.written(batch.writes, outcome, time.monotonic() - began)

    def _reopen_where_needed(self) -> None:
        """Check the log after a failure; raise what failed while it is not yet time to."""
        if self._suspect is None:
            return
        if time.monotonic() < self._reopen_at:
            raise self._suspect
        try:
            self._log.reopen()
        except BaseException:
            doubled = max(2 * self._reopen_after_s, REOPEN_AFTER_S_MIN)
            self._reopen_after_s = min(doubled, self._reopen_after_s_max)
            self._reopen_at = time.monotonic() + self._reopen_after_s
            raise
        self._suspect = None
        self._reopen_after_s = 0.0

    def _take(self) -> _Batch | None:
        """Wait for writes and take the oldest batch; None when closing."""
        with self._lock:
            if not self._batches:
                if self._closing:
                    return None
                self._sleeping = True
                self._wake.acquire(blocking=False)
        if self._sleeping:
            with self._wake:
                pass
        # Even without a window, let those who are ready queue theirs first: otherwise the first
        # to come commits alone, and everyone else waits for that commit as well as their own.
        time.sleep(self._window_s)
        with self._lock:
            if not self._batches:
                return None
            batch = self._batches.popleft()
            self._waiting -= len(batch.writes)
            return batch


def _rows_of(write: Write) -> int:
    """Return how many rows a write adds to its batch."""
    if isinstance(write, Append):
        return len(write.events) + len(write.rows)
    return 1 + len(write.rows) if isinstance(write, Reproject) else 1


def _unavailable(error: BaseException) -> PersistenceError:
    if isinstance(error, PersistenceError):
        return error
    return StoreUnavailableError(f"The log can't be written: {error}")
