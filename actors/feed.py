"""The committed events of one session, for all who watch it.

A reader is a cursor, not a queue: it wakes, takes everything that is new, and sleeps again. What
nobody reads is not kept; a reader that falls behind the window reads the log instead. So a slow
reader costs no memory, and nobody waits for it.
"""

import threading
from collections import deque
from collections.abc import Sequence

from actors.session.events import Event
from actors.session.record_events import StreamErased
from actors.session.state import SessionState

WINDOW_EVENTS = 1_024
WINDOW_BYTES_MAX = 4 * 1024 * 1024
"""What the window's events take in the log; the newest append stays whole, however large."""


class Committed:
    """An event that is in the log, with the state it led to, and its payload's size in bytes.

    The state has no draft: each delta of a long message would hold all the text before it.
    ``frame`` is room for its encoding: the first reader to need it fills it in for all.
    """

    __slots__ = ("event", "frame", "seq", "size", "state")

    def __init__(self, seq: int, event: Event, state: SessionState, size: int) -> None:
        self.seq = seq
        self.event = event
        self.state = state.without_draft()
        self.size = size
        self.frame: bytes | None = None


class FeedClosedError(Exception):
    """Nothing more will come: the session's owner is gone, or the reader was stopped.

    What was committed is in the log.
    """


class Reader:
    """One reader's place in a feed: ``after`` is the seq of the last event it has taken."""

    def __init__(self, feed: "Feed", after: int) -> None:
        self.after = after
        self._feed = feed
        self._wake = threading.Lock()
        self._asleep = False
        self._stopped = False

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there is something to take; tell whether there is."""
        with self._feed.lock:
            if self._stopped or self._feed.closed or self._feed.seq > self.after:
                return True
            self._wake.acquire(blocking=False)
            self._asleep = True
        return self._wake.acquire(timeout=timeout_s)

    def take(self) -> Sequence[Committed] | None:
        """Return what is new, in order; None when some of it has left the window.

        Raises FeedClosedError when nothing more will come.
        """
        with self._feed.lock:
            if self._stopped:
                raise FeedClosedError
            entries = self._feed.entries
            new = self._feed.seq - self.after
            if new <= 0:
                if self._feed.closed:
                    raise FeedClosedError
                return ()
            if new > len(entries):
                return None
            taken = [entries[index] for index in range(-new, 0)]
            self.after = taken[-1].seq
            return taken

    def stop(self) -> None:
        """Let whoever waits go, and take nothing more."""
        with self._feed.lock:
            self._stopped = True
            self.rouse()

    def close(self) -> None:
        """Leave the feed."""
        self._feed.leave(self)

    def rouse(self) -> None:
        """Wake the reader; the feed's lock is held."""
        if self._asleep:
            self._asleep = False
            self._wake.release()


class Feed:
    """Publishes one session's events. ``state`` and ``seq`` are the newest committed ones."""

    def __init__(
        self, window: int = WINDOW_EVENTS, window_bytes_max: int = WINDOW_BYTES_MAX
    ) -> None:
        self.lock = threading.Lock()
        self.entries: deque[Committed] = deque()
        self._entries_bytes = 0
        self._window = window
        self._window_bytes_max = window_bytes_max
        self.seq = 0
        self.row = 0
        self.state: SessionState | None = None
        self.closed = False
        self._readers: set[Reader] = set()

    @property
    def has_readers(self) -> bool:
        """Tell whether anybody is reading."""
        return bool(self._readers)

    def install(self, state: SessionState, row: int) -> None:
        """Set the state that was loaded; its events are in the log for those who wait for them.

        ``row`` is the stream's, see records.Head.
        """
        with self.lock:
            self.row = row
            if self.state is not None and state.version <= self.seq:
                return
            self.state = state
            self.seq = state.version
            self.entries.clear()
            self._entries_bytes = 0
            for reader in self._readers:
                reader.rouse()

    def publish(self, committed: Sequence[Committed], state: SessionState) -> None:
        """Hand out events that are in the log, and the state that they led to.

        The session's actor does so, or where another process has it, whoever reads its log: of
        both only what follows counts, once.
        """
        with self.lock:
            if committed[0].seq != self.seq + 1:
                committed = [each for each in committed if each.seq > self.seq]
                if not committed or committed[0].seq != self.seq + 1:
                    return
            if self._readers:
                self._keep(committed)
            self.state = state
            self.seq = state.version
            for reader in self._readers:
                reader.rouse()

    def reader(self, after: int | None = None) -> Reader:
        """Return a reader that has seen everything up to ``after``; by default all there is."""
        with self.lock:
            reader = Reader(self, self.seq if after is None else after)
            self._readers.add(reader)
            return reader

    def leave(self, reader: Reader) -> None:
        """Forget a reader, and the window with the last one."""
        with self.lock:
            self._readers.discard(reader)
            if not self._readers:
                self.entries.clear()
                self._entries_bytes = 0

    def close(self) -> None:
        """Tell the readers that nothing more will come."""
        with self.lock:
            self.closed = True
            for reader in self._readers:
                reader.rouse()

    def _keep(self, committed: Sequence[Committed]) -> None:
        for index, each in enumerate(committed):
            if isinstance(each.event, StreamErased):  # what came before is erased: look in the log
                self.entries.clear()
                self._entries_bytes = 0
                committed = committed[index:]
                break
        self.entries.extend(committed)
        self._entries_bytes += sum([each.size for each in committed])
        while len(self.entries) > self._window or (
            len(self.entries) > len(committed) and self._entries_bytes > self._window_bytes_max
        ):
            self._entries_bytes -= self.entries.popleft().size
