"""One process's connections to the store: its view of the log, its writer, inbox and lease."""

from collections.abc import Sequence
from typing import Any, Protocol

from persistence.errors import PersistenceError, StoreUnavailableError
from persistence.inbox import Message
from persistence.notices import Notice
from persistence.records import Answer, Append, Claim, Head, Snapshot, Write
from tests.simulator.scheduler import wait
from tests.simulator.store import LEASE_US, Store

LOST = "The connection is lost."


class Client(Protocol):
    """The process, as its connections see it."""

    name: str
    connected: bool
    dead: bool

    def trace(self, line: str) -> None:
        """Note what the process did."""

    def count(self, what: str) -> None:
        """Count it, for the table of coverage."""


class View:
    """The shared log, as long as it can be reached. Implements EventLog for reads."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store = store
        self._client = client

    def check(self) -> None:
        if self._client.dead or not self._client.connected:
            raise StoreUnavailableError(LOST)

    def snapshot(self, *args: Any, **kwargs: Any) -> Snapshot | None:
        self.check()
        found: Snapshot | None = self._store.log.snapshot(*args, **kwargs)
        if found is not None:
            self._client.count("snapshot read")
        return found

    def __getattr__(self, name: str) -> Any:
        self.check()
        return getattr(self._store.log, name)


class Ticket:
    """What a write leads to."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.outcome: Head | PersistenceError | None = None

    def ready(self) -> bool:
        return self.outcome is not None

    def result(self) -> Head:
        while self.outcome is None:
            wait(self)
        if isinstance(self.outcome, Head):
            return self.outcome
        raise self.outcome


class Writer:
    """Stands in for GroupCommit: the scheduler says when a batch commits, and when that is known.

    ``fault`` says what becomes of the next batch: ``before`` it is lost, ``after`` only the news
    of it is, ``late`` it commits when nobody waits for it any more.
    """

    def __init__(self, store: Store, client: Client) -> None:
        self.fault = ""
        self._store = store
        self._client = client
        self._queue: list[Ticket] = []
        self._batch: list[Ticket] = []
        self._outcomes: Sequence[Head | PersistenceError] = ()

    @property
    def has_work(self) -> bool:
        return bool(self._queue or self._batch)

    def submit(self, write: Write) -> Ticket:
        ticket = Ticket(write)
        self._queue.append(ticket)
        return ticket

    def step(self) -> str:
        """Commit what waits, or resolve what was committed; say which."""
        if self._batch:
            return self._resolve()
        self._batch, self._queue = self._queue, []
        writes = [ticket.write for ticket in self._batch]
        fault, self.fault = self.fault, ""
        if not self._client.connected:
            fault = "before"
        if fault in ("before", "late"):
            if fault == "late":
                self._store.late.append(writes)
            self._outcomes = [StoreUnavailableError(LOST)] * len(writes)
            return f"loses {describe(writes)} {fault} commit"
        outcomes = self._store.log.write(writes)
        self._announce(writes, outcomes)
        self._outcomes = outcomes
        if fault == "after":
            self._outcomes = [StoreUnavailableError(LOST)] * len(writes)
        return f"commits {describe(writes)} {fault} -> {', '.join(map(describe_outcome, outcomes))}"

    def _resolve(self) -> str:
        batch, self._batch = self._batch, []
        for ticket, outcome in zip(batch, self._outcomes, strict=True):
            ticket.outcome = outcome
        return f"acknowledges {len(batch)}"

    def _announce(
        self, writes: Sequence[Write], outcomes: Sequence[Head | PersistenceError]
    ) -> None:
        streams: list[int] = []
        claimed: list[int] = []
        answered: list[str] = []
        for write, outcome in zip(writes, outcomes, strict=True):
            if isinstance(outcome, Head):
                (claimed if isinstance(write, Claim) else streams).append(outcome.row)
                if isinstance(write, Append):
                    answered.extend([answer.asker for answer in write.answers])
        self._store.tell(
            Notice(
                self._client.name,
                tuple(streams),
                answered=tuple(answered),
                claimed=tuple(claimed),
            )
        )


class InboxClient:
    """Stands in for persistence.inbox.Inbox; each call is a round trip."""

    def __init__(self, store: Store, client: Client, view: View) -> None:
        self._store = store
        self._name = client.name
        self._view = view
        self._trace = client.trace

    def put(self, owner: str, stream_id: str, body: bytes) -> int:
        self._view.check()
        number = self._store.put(owner, self._name, stream_id, body)
        self._trace(f"asks {owner} as {number}: {body.decode()}")
        wait()
        self._view.check()
        return number

    def messages(self) -> list[Message]:
        self._view.check()
        found = [
            row.message
            for row in self._store.rows.values()
            if row.owner == self._name and row.answer is None and not row.withdrawn
        ]
        if found:
            wait()
        return found

    def answer(self, message: Message, body: bytes) -> None:
        self._view.check()
        self._store.take_answer(Answer(message.id, message.asker, body))
        self._trace(f"answers {message.id}: {body.decode()}")
        self._store.tell(Notice(self._name, answered=(message.asker,)))

    def answers(self, ids: Sequence[int]) -> dict[int, bytes]:
        self._view.check()
        rows = [(number, self._store.rows.get(number)) for number in ids]
        return {
            number: row.answer
            for number, row in rows
            if row is not None and row.answer is not None and not row.withdrawn
        }

    def withdraw(self, message_id: int) -> bool:
        wait()
        self._view.check()
        row = self._store.rows[message_id]
        row.withdrawn = row.answer is None
        self._trace(f"withdraws {message_id}: {row.withdrawn}")
        return row.withdrawn

    def is_over(self, message_id: int, owner: str) -> bool:
        """Tell whether whoever looks for an answer finds something; a wait's condition."""
        row = self._store.rows[message_id]
        return row.answer is not None or owner not in self._store.workers

    def is_alive(self, owner: str) -> bool:
        self._view.check()
        return owner in self._store.workers


class LeaseClient:
    """Stands in for persistence.leases.Leases."""

    def __init__(self, store: Store, client: Client, view: View) -> None:
        self.name = client.name
        self._store = store
        self._view = view
        self._unlocked: frozenset[str] = frozenset()

    def connect(self) -> None:
        self.drop()
        self._view.check()
        self._register()
        self._unlocked = frozenset()

    def renew(self) -> bool:
        self._require_lock()
        known = self.name in self._store.workers
        self._register()
        return known

    def reap(self) -> list[str]:
        self._require_lock()
        store, unlocked = self._store, self._unlocked
        others = [name for name in store.workers if name != self.name]
        dead = [
            name
            for name in others
            if store.workers[name] < store.now_us - LEASE_US
            or (name in unlocked and name not in store.locks)
        ]
        for name in dead:
            del store.workers[name]
        self._unlocked = frozenset([name for name in others if name not in store.locks])
        return dead

    def resign(self) -> None:
        self._require_lock()
        self._store.workers.pop(self.name, None)

    def drop(self) -> None:
        self._store.locks.discard(self.name)

    def _register(self) -> None:
        self._store.locks.add(self.name)
        self._store.workers[self.name] = self._store.now_us

    def _require_lock(self) -> None:
        self._view.check()
        if self.name not in self._store.locks:
            raise StoreUnavailableError(LOST)


def describe(writes: Sequence[Write]) -> str:
    return "; ".join([_described(write) for write in writes])


def _described(write: Write) -> str:
    if isinstance(write, Claim):
        return f"claim of {write.stream_id}"
    what = type(write).__name__.lower()
    if isinstance(write, Append):
        what = " ".join([event.type for event in write.events]) or "snapshot"
    return f"{write.head.stream_id}@{write.head.version}/{write.head.epoch} {what}"


def describe_outcome(outcome: Head | PersistenceError) -> str:
    if isinstance(outcome, Head):
        return f"{outcome.version}/{outcome.epoch}"
    return type(outcome).__name__
