"""One bounded writer per process: many appends, one transaction, one ticket each."""

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence

from persistence.errors import PersistenceError, StoreBusyError, StoreUnavailableError
from persistence.event_log import EventLog
from persistence.records import Append, Head, Write

QUEUE_MAX = 10_000
BATCH_ROWS_MAX = 1_000

logger = logging.getLogger(__name__)


class Ticket:
    """What a write leads to, for the one who waits for it: a future of one lock.

    concurrent.futures.Future was measured at four times the cost of a whole wait like this one.
    """

    __slots__ = ("_outcome", "_pending")

    def __init__(self) -> None:
        self._pending = threading.Lock()
        self._pending.acquire()
        self._outcome: Head | PersistenceError | None = None

    def resolve(self, outcome: Head | PersistenceError) -> None:
        """Set the outcome, once."""
        self._outcome = outcome
        self._pending.release()

    def result(self) -> Head:
        """Wait for the new head, or raise what went wrong; call it once.

        The wait has no time limit of its own: the writer resolves every ticket, and a timeout
        would double what a wait costs.
        """
        self._pending.acquire()
        if isinstance(self._outcome, Head):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome


class GroupCommit:
    """Gathers writes while one batch commits, then writes them as the next batch.

    There is no timer by default: ``window_ms`` makes the writer wait that long for company.
    After a failed write nothing is acknowledged until the log has been reopened and checked.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        queue_max: int = QUEUE_MAX,
        batch_rows_max: int = BATCH_ROWS_MAX,
        window_ms: int = 0,
    ) -> None:
        self._log = log
        self._queue_max = queue_max
        self._batch_rows_max = batch_rows_max
        self._window_s = window_ms / 1000
        self._waiting: deque[tuple[Write, Ticket]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Lock()  # held while the writer sleeps
        self._sleeping = False
        self._closing = False
        self._suspect = False
        self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)

    def start(self) -> None:
        """Start the writer; call it after the fork."""
        self._thread.start()

    def submit(self, write: Write) -> Ticket:
        """Queue a write; the ticket holds the new head once the write is durable.

        Raises StoreBusyError when the queue is full. The ticket raises ConflictError or
        LeaseLostError when nothing was written, StoreUnavailableError when that is unknown.
        """
        ticket = Ticket()
        with self._lock:
            if self._closing:
                raise StoreUnavailableError("The log is closed.")
            if len(self._waiting) >= self._queue_max:
                raise StoreBusyError(f"{self._queue_max} writes are waiting.")
            self._waiting.append((write, ticket))
            self._rouse()
        return ticket

    def close(self) -> None:
        """Write what is queued, then stop; blocks until that is done."""
        with self._lock:
            self._closing = True
            self._rouse()
        if self._thread.is_alive():
            self._thread.join()

    def _rouse(self) -> None:
        if self._sleeping:
            self._sleeping = False
            self._wake.release()

    def _run(self) -> None:
        while batch := self._take():
            writes = [write for write, _ in batch]
            try:
                outcome = self._write(writes)
            except BaseException as error:
                self._suspect = True
                logger.exception("The log can't be written.")
                outcome = [_unavailable(error)] * len(batch)
            for (_, ticket), result in zip(batch, outcome, strict=True):
                ticket.resolve(result)

    def _write(self, writes: Sequence[Write]) -> list[Head | PersistenceError]:
        if self._suspect:
            self._log.reopen()
            self._suspect = False
        return self._log.write(writes)

    def _take(self) -> list[tuple[Write, Ticket]]:
        """Wait for writes and take as many as fit one batch; none when closing."""
        with self._lock:
            if not self._waiting:
                if self._closing:
                    return []
                self._sleeping = True
                self._wake.acquire(blocking=False)
        if self._sleeping:
            self._wake.acquire()
            self._wake.release()
        # Even without a window, let those who are ready queue theirs first: otherwise the first
        # to come commits alone, and everyone else waits for that commit as well as their own.
        time.sleep(self._window_s)
        batch: list[tuple[Write, Ticket]] = []
        rows = 0
        with self._lock:
            while self._waiting and (not batch or rows < self._batch_rows_max):
                write = self._waiting[0][0]
                rows += len(write.events) if isinstance(write, Append) else 1
                if batch and rows > self._batch_rows_max:
                    break
                batch.append(self._waiting.popleft())
        return batch


def _unavailable(error: BaseException) -> PersistenceError:
    if isinstance(error, PersistenceError):
        return error
    return StoreUnavailableError(f"The log can't be written: {error}")
