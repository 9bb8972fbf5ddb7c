"""Events of a stream that every process writes and none folds: gathered, durable, in any order."""

import contextlib
import threading
from collections.abc import Sequence

from actors.session.codec import Codec
from actors.session.events import Event
from persistence.errors import (
    ConflictError,
    LeaseLostError,
    PersistenceError,
    StoreUnavailableError,
)
from persistence.group_commit import GroupCommit
from persistence.records import SHARED, Append, Claim, Head, NewEvent, Summary

UNLISTED = Summary(listed=False, active=False, body=b"")
ATTEMPTS_MAX = 20
"""How often a batch is appended anew because another process was ahead."""

BATCH_EVENTS_MAX = 500


class _Waiting:
    __slots__ = ("done", "error", "event")

    def __init__(self, event: NewEvent) -> None:
        self.event = event
        self.done = False
        self.error: PersistenceError | None = None


class Recorder:
    """Appends to one shared stream, for any number of threads.

    What comes while an append is in flight gathers, and is the next one: whoever's turn it is
    appends for all who wait.
    """

    def __init__(self, writer: GroupCommit, stream_id: str, codec: Codec) -> None:
        self._writer = writer
        self._stream_id = stream_id
        self._codec = codec
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._head: Head | None = None

    def record(self, event: Event, principal: str) -> None:
        """Append an event; it is durable when this returns. Raises StoreUnavailableError."""
        payload = self._codec.encode(event)
        mine = _Waiting(NewEvent(event.wire_name, event.schema_version, payload, principal))
        with self._lock:
            self._waiting.append(mine)
        while not mine.done:
            with self._turn:
                if not mine.done:
                    self._append_next()
        if mine.error is not None:
            raise mine.error

    def _append_next(self) -> None:
        with self._lock:
            batch = self._waiting[:BATCH_EVENTS_MAX]
            del self._waiting[:BATCH_EVENTS_MAX]
        error: PersistenceError | None = StoreUnavailableError(
            f"{self._stream_id} can't be written."
        )
        try:
            self._append([each.event for each in batch])
            error = None
        except StoreUnavailableError as failure:
            error = failure
        finally:  # nobody waits for good, or takes it for done, whatever happened
            for each in batch:
                each.error = error
                each.done = True

    def _append(self, events: Sequence[NewEvent]) -> None:
        for _attempt in range(ATTEMPTS_MAX):
            with contextlib.suppress(ConflictError, LeaseLostError):
                head = self._head or self._writer.submit(Claim(self._stream_id, SHARED)).result()
                self._head = None  # unknown until the append has succeeded
                self._head = self._writer.submit(Append(head, tuple(events), UNLISTED)).result()
                return
        raise StoreUnavailableError(f"Others write {self._stream_id} all the time; try again.")
