"""A session's events in the time in which they were recorded, or faster, or slower."""

import threading
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from actors.feed import Committed, FeedClosedError
from actors.replay import decode, stream_of
from actors.session.evolve import evolve
from actors.session.state import SessionState
from persistence.native import give_way
from persistence.records import StoredEvent

SPEED_MIN = 0.1
SPEED_MAX = 1_000.0
AT_ONCE = "max"
GAP_MAX_S = 5.0
BATCH_EVENTS = 256
BATCH_BYTES = 256 * 1024
LOOK_S = 0.25
"""How often a replay that waits looks whether it may go on at all."""


class SpeedError(Exception):
    """A text is no speed; the message says what is."""


class Pace(Struct, frozen=True):
    """How fast: ``speed`` times as fast as it was, None for at once; gaps are cut."""

    speed: float | None = 1.0
    gap_max_s: float = GAP_MAX_S

    def gap_s(self, from_us: int, to_us: int) -> float:
        """Return how long to wait between two events, by their times in microseconds."""
        if self.speed is None:
            return 0.0
        return min(max(0, to_us - from_us) / 1e6 / self.speed, self.gap_max_s)


def speed_of(text: str) -> float | None:
    """Return the speed that a text names, as in 4 or 4x; None for ``max``. Raises SpeedError."""
    if text == AT_ONCE:
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise SpeedError(f"A speed is a number from {SPEED_MIN:g} to {SPEED_MAX:g}, or {AT_ONCE}.")
    return speed


class Played(Struct, frozen=True, gc=False):
    """An event as it is in the log, and as it happened."""

    stored: StoredEvent
    committed: Committed


class Playback:
    """Plays the events that follow a state; ``closing`` tells when to end early.

    ``rows`` are read as they are played. ``wait`` sleeps for so many seconds, or until the event
    is set.
    """

    def __init__(
        self,
        rows: Iterator[StoredEvent],
        state: SessionState,
        pace: Pace,
        *,
        closing: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.state = state
        self._rows = rows
        self._pace = pace
        self._closing = closing
        self._clock = clock
        self._wait = wait
        self._stopped = threading.Event()
        self._next: StoredEvent | None = None
        self._last_us: int | None = None
        self._due_s = clock()

    def batches(self, idle_s: float) -> Iterator[list[Played]]:
        """Yield the events as they are due, an empty list after each ``idle_s`` without one.

        Raises FeedClosedError once the playback is stopped.
        """
        self._advance()
        while self._next is not None:
            if self._waited(idle_s):
                yield self._batch()
                give_way()
            else:
                yield []

    def stop(self) -> None:
        """End the waiting, from another thread."""
        self._stopped.set()

    def close(self) -> None:
        """Play nothing more."""
        self.stop()

    def _advance(self) -> None:
        """Take the next event off the log, and note when it is due."""
        self._next = next(self._rows, None)
        if self._next is None:
            return
        at_us = self._next.recorded_at
        if self._last_us is not None:
            self._due_s += self._pace.gap_s(self._last_us, at_us)
        self._last_us = at_us

    def _waited(self, idle_s: float) -> bool:
        """Wait until the next event is due, or ``idle_s``; tell whether it is."""
        until = self._clock() + idle_s
        while True:
            if self._stopped.is_set() or self._closing():
                raise FeedClosedError
            now = self._clock()
            if now >= self._due_s:
                return True
            if now >= until:
                return False
            self._wait(self._stopped, min(LOOK_S, self._due_s - now, until - now))

    def _batch(self) -> list[Played]:
        """Return what is due by now."""
        played: list[Played] = []
        size = 0
        now = self._clock()
        while self._next is not None and self._due_s <= now:
            played.append(self._played(self._next))
            size += played[-1].committed.size
            self._advance()
            if len(played) == BATCH_EVENTS or size >= BATCH_BYTES:
                break
        return played

    def _played(self, stored: StoredEvent) -> Played:
        event = decode(stream_of(self.state.key), stored)
        self.state = evolve(self.state, event)
        size = len(stored.payload or b"")
        return Played(stored, Committed(stored.seq, event, self.state, size))
