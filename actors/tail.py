"""A session's events from a cursor on: out of the log, then as they are committed."""

from collections.abc import Sequence

from actors.feed import Committed, Reader
from actors.replay import replay, state_at, stream_of
from actors.session.state import SessionState
from persistence.event_log import EventLog

LOG_CHUNK_EVENTS_MIN = 16
LOG_CHUNK_EVENTS_MAX = 1_000
LOG_CHUNK_BYTES = 256 * 1024
"""What waits in memory for a reader that does not take it."""


class Tail:
    """Follows one session. Close it when done."""

    def __init__(self, log: EventLog, key: str, reader: Reader) -> None:
        self.key = key
        self._log = log
        self._reader = reader
        self._behind: SessionState | None = None
        self._chunk_events = LOG_CHUNK_EVENTS_MIN

    def next(self, timeout_s: float) -> Sequence[Committed]:
        """Return the events that follow, in order; none when nothing came in time.

        Raises FeedClosedError when the session's owner is gone: what it committed has been
        returned by then.
        """
        self._reader.wait(timeout_s)
        taken = self._reader.take()
        if taken is None:
            return self._from_log()
        self._behind = None
        return taken

    def stop(self) -> None:
        """End the waiting, from another thread; the next call raises FeedClosedError."""
        self._reader.stop()

    def close(self) -> None:
        """Leave the feed."""
        self._reader.close()

    def _from_log(self) -> Sequence[Committed]:
        """Read what has left the feed's window, a part of it at a time."""
        head = self._log.head(stream_of(self.key))
        assert head is not None
        after = self._reader.after
        state = self._behind
        if state is None or state.version != after:
            state = state_at(self._log, head, after)
        chunk, self._behind = replay(
            self._log,
            head,
            state,
            before=after + self._chunk_events + 1,
            bytes_max=LOG_CHUNK_BYTES,
        )
        self._chunk_events = min(4 * len(chunk), LOG_CHUNK_EVENTS_MAX)
        self._reader.after = chunk[-1].seq
        return chunk
