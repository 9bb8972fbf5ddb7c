"""What all processes share: the log, the leases, the inbox, the database's clock."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec

from persistence.errors import ConflictError, PersistenceError
from persistence.in_memory import InMemoryEventLog
from persistence.inbox import Message
from persistence.notices import Notice
from persistence.records import Answer, Append, Head, Release, Reproject, Write

LEASE_US = 10_000_000
START_US = 1_700_000_000_000_000


class SharedLog(InMemoryEventLog):
    """Refuses an append that answers a message which has an answer or was withdrawn, as SQL does.

    ``answer`` tells whether the answer was taken.
    """

    def _write_to(
        self, write: Append | Release | Reproject, recorded_at: int, salts: Iterator[bytes]
    ) -> Head | PersistenceError:
        head = self._streams[write.head.stream_id].head
        fits = (head.epoch, head.version) == (write.head.epoch, write.head.version)
        answers = write.answers if isinstance(write, Append) and fits else ()
        if not all(self._answer(answer) for answer in answers):
            return ConflictError(f"{head.stream_id}: a message was settled before")
        return super()._write_to(write, recorded_at, salts)


class UnfencedLog(SharedLog):
    """Writes whatever comes, under the epoch that the writer believes in: what must be caught."""

    def _write_to(
        self, write: Append | Release | Reproject, recorded_at: int, salts: Iterator[bytes]
    ) -> Head | PersistenceError:
        stream = self._streams[write.head.stream_id]
        if not isinstance(write, Append):
            return super()._write_to(write, recorded_at, salts)
        epoch = stream.head.epoch
        stream.head = msgspec.structs.replace(stream.head, epoch=write.head.epoch)
        fitting = msgspec.structs.replace(write, head=stream.head)
        outcome = super()._write_to(fitting, recorded_at, salts)
        stream.head = msgspec.structs.replace(stream.head, epoch=epoch)
        return outcome


class Row:
    """A message in the inbox."""

    def __init__(self, message: Message, owner: str) -> None:
        self.message = message
        self.owner = owner
        self.answer: bytes | None = None
        self.by: Answer | None = None
        self.withdrawn = False


class Store:
    """The database. ``workers`` has the rows by name, ``locks`` the names with a connection."""

    def __init__(self, rng: random.Random, log_type: type[InMemoryEventLog]) -> None:
        self.now_us = START_US
        self.workers: dict[str, int] = {}
        self.locks: set[str] = set()
        self.rows: dict[int, Row] = {}
        self.late: list[list[Write]] = []
        self.notices: list[tuple[str, Notice]] = []
        self.log: Any = log_type(
            is_alive=self.is_fresh,
            answer=self.take_answer,
            clock_us=lambda: self.now_us,
            random_bytes=rng.randbytes,
        )

    def is_fresh(self, name: str) -> bool:
        """Tell whether a worker's lease holds by the database's clock."""
        return self.workers.get(name, 0) > self.now_us - LEASE_US

    def put(self, owner: str, asker: str, stream_id: str, body: bytes) -> int:
        """Insert a message; return its id."""
        number = len(self.rows) + 1
        self.rows[number] = Row(Message(number, asker, stream_id, body), owner)
        self.tell(Notice(asker, asked=(owner,)))
        return number

    def take_answer(self, answer: Answer) -> bool:
        """Answer a message; tell whether it has this answer now."""
        row = self.rows[answer.id]
        if row.answer is None and not row.withdrawn:
            row.answer = answer.body
            row.by = answer
        return row.by is answer

    def tell(self, notice: Notice) -> None:
        """Send a notice to all others that listen."""
        for name in self.workers:
            if name != notice.sender and name in self.locks:
                self.notices.append((name, notice))
