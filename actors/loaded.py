"""The sessions that this process works on, and those that it follows in the log."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

import pykka

from actors.errors import SessionNotFound
from actors.feed import Committed, Feed
from actors.mailbox import Message
from actors.replay import decode, replay, state_at, stream_of
from actors.session.evolve import evolve
from actors.session.state import SessionState
from actors.session_actor import SessionActor
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.records import Head, StoredEvent

CHUNK_BYTES = 1024 * 1024

logger = logging.getLogger(__name__)


class Loaded:
    """A session's feed, and its actor where this process owns the session.

    Without one the feed is fed from the log, whoever writes it.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.feed = Feed()
        self.ref: pykka.ActorRef[SessionActor] | None = None
        self.used = time.monotonic()
        self._lock = threading.Lock()

    @property
    def owned(self) -> bool:
        """Tell whether this process owns the session, as far as it knows."""
        return self.ref is not None

    @property
    def works(self) -> bool:
        """Tell whether something of the session runs that would be lost with the process."""
        state = self.feed.state
        return state is not None and state.processing and not state.resumable

    def tell(self, message: Message) -> None:
        """Tell the actor, where there is one."""
        ref = self.ref
        if ref is not None:
            with contextlib.suppress(pykka.ActorDeadError):
                ref.tell(message)

    def catch_up(self, log: EventLog) -> None:
        """Feed what the log has beyond the feed. Raises SessionNotFound or CorruptLogError."""
        with self._lock:
            head = log.head(stream_of(self.key))
            if head is None:
                raise SessionNotFound(self.key)
            state = self.feed.state
            if state is None:
                state = state_at(log, head)
                self.feed.install(state, head.row)
            while state.version < head.version:
                committed, state = replay(log, head, state, bytes_max=CHUNK_BYTES)
                if not committed:
                    raise CorruptLogError(head.stream_id, state.version + 1, "the event is missing")
                self.feed.publish(committed, state)

    def feed_on(self, stream_id: str, stored: Sequence[StoredEvent]) -> None:
        """Feed events that follow in the log; those that are known are left out.

        Raises CorruptLogError.
        """
        with self._lock:
            state = self.feed.state
            assert state is not None
            new = [each for each in stored if each.seq > state.version]
            committed: list[Committed] = []
            for each in new:
                event = decode(stream_id, each)
                state = evolve(state, event)
                committed.append(Committed(each.seq, event, state, len(each.payload or b"")))
            if committed:
                self.feed.publish(committed, state)


class LoadedSessions:
    """Session key -> the session here. With ``shared`` other processes have sessions too."""

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared
        self._lock = threading.Lock()
        self._by_key: dict[str, Loaded] = {}
        self._followed: dict[int, Loaded] = {}

    def get(self, key: str) -> Loaded | None:
        """Return a session that is here."""
        return self._by_key.get(key)

    def all(self) -> list[Loaded]:
        """Return all that are here."""
        return list(self._by_key.values())

    def owned(self) -> Iterator[Loaded]:
        """Yield those that this process owns."""
        return (each for each in self.all() if each.owned)

    @property
    def owned_count(self) -> int:
        """Return how many sessions this process owns."""
        return sum(1 for _each in self.owned())

    @property
    def followed_count(self) -> int:
        """Return how many sessions this process follows that others own."""
        return len(self._followed)

    def watched(self, rows: Iterable[int] | None) -> list[Loaded]:
        """Return the followed sessions that somebody reads; those of the rows, or all."""
        followed = self._followed.copy()
        found = followed.values() if rows is None else map(followed.get, rows)
        return [each for each in found if each is not None and each.feed.has_readers]

    def start(self, key: str, start: Callable[[Feed], pykka.ActorRef[SessionActor]]) -> Loaded:
        """Return a session with its actor, which is started where there is none."""
        loaded = self._by_key.get(key)
        if loaded is None or not loaded.owned:
            with self._lock:
                loaded = self._by_key.get(key) or Loaded(key)
                if not loaded.owned:
                    loaded.ref = start(loaded.feed)
                    self._by_key[key] = loaded
                    self._followed.pop(loaded.feed.row, None)
        loaded.used = time.monotonic()
        return loaded

    def follow(self, key: str, log: EventLog) -> Loaded:
        """Return a session whose feed is as new as the log, unless its actor feeds it.

        Raises SessionNotFound or CorruptLogError.
        """
        with self._lock:
            loaded = self._by_key.get(key)
            if loaded is None:
                loaded = self._by_key[key] = Loaded(key)
        loaded.used = time.monotonic()
        if not loaded.owned:
            loaded.catch_up(log)
            with self._lock:
                if not loaded.owned:
                    self._followed[loaded.feed.row] = loaded
        return loaded

    def leave(self, loaded: Loaded, actor: pykka.ActorRef[SessionActor], *, keep: bool) -> None:
        """Take note that an actor has stopped; with ``keep`` who reads on does so in the log."""
        with self._lock:
            if loaded.ref != actor:
                return
            loaded.ref = None
            fed = loaded.feed.state is not None  # else not even its row is known
            if keep and self.shared and fed and loaded.feed.has_readers:
                self._followed[loaded.feed.row] = loaded
                return
            del self._by_key[loaded.key]
        loaded.feed.close()

    def drop(self, loaded: Loaded) -> None:
        """Forget a session that can't be followed; its readers have to come again."""
        with self._lock:
            self._followed.pop(loaded.feed.row, None)
            if loaded.owned:  # its actor feeds it by now
                return
            if self._by_key.get(loaded.key) == loaded:
                del self._by_key[loaded.key]
        loaded.feed.close()

    def forget_unread(self, loaded: Loaded) -> None:
        """Forget a session that nobody reads and that is not owned here."""
        with self._lock:
            if loaded.owned or loaded.feed.has_readers or self._by_key.get(loaded.key) != loaded:
                return
            del self._by_key[loaded.key]
            self._followed.pop(loaded.feed.row, None)
        loaded.feed.close()


def state_in(log: EventLog, head: Head, known: SessionState | None) -> SessionState:
    """Return a session's state at its head, from an earlier one where that is known."""
    if known is None or known.version > head.version:
        return state_at(log, head)
    return replay(log, head, known)[1]
