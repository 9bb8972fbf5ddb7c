"""Gathers what a model streams, so that the log gets far fewer rows than the model has tokens."""

import threading
import time
from collections.abc import Callable

from msgspec.structs import replace

from actors.session.commands import Delta
from actors.timers import Timer, Timers

GATHER_MS = 40
"""The least time between two rows in a message's first two seconds."""
GATHER_LATER_MS = 100
EARLY_MS = 2_000

Send = Callable[[tuple[Delta, ...], Callable[[], None]], None]


class DeltaGatherer:
    """Hands on one message's deltas: the first at once, later ones gathered.

    They gather while an append is in flight, and for at least GATHER_MS, later GATHER_LATER_MS.
    ``start`` gets the message's first deltas, ``record`` the others, each with what to call once
    they are in the log.
    """

    def __init__(
        self,
        start: Send,
        record: Send,
        timers: Timers,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._start = start
        self._record = record
        self._timers = timers
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._gathered: list[tuple[Delta, list[str]]] = []
        self._began: float | None = None
        self._sent = 0.0
        self._in_flight = False
        self._closed = False
        self._timer: Timer | None = None

    def add(self, delta: Delta) -> None:
        """Take a delta; never blocks on the log."""
        with self._lock:
            if self._gathered and _same_block(self._gathered[-1][0], delta):
                self._gathered[-1][1].append(delta.text)
            else:
                self._gathered.append((delta, [delta.text]))
            send = self._due()
        send()

    def close(self) -> tuple[Delta, ...]:
        """Send nothing more; return what was gathered and not sent."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
            return self._take()

    def _acknowledge(self) -> None:
        with self._lock:
            self._in_flight = False
            send = self._due()
        send()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
            send = self._due()
        send()

    def _due(self) -> Callable[[], object]:
        """Return what sends, if it is time to; without the lock: it may acknowledge at once."""
        if self._in_flight or self._closed or not self._gathered:
            return _nothing
        now = self._clock_s()
        if self._began is not None:
            early = now - self._began < EARLY_MS / 1000
            due = self._sent + (GATHER_MS if early else GATHER_LATER_MS) / 1000
            if now < due:
                if self._timer is None:
                    self._timer = self._timers.after(due - now, self._tick)
                return _nothing
        send = self._record
        if self._began is None:
            self._began = now
            send = self._start
        self._sent = now
        self._in_flight = True
        deltas = self._take()
        return lambda: send(deltas, self._acknowledge)

    def _take(self) -> tuple[Delta, ...]:
        gathered, self._gathered = self._gathered, []
        return tuple([replace(delta, text="".join(texts)) for delta, texts in gathered])


def _nothing() -> None:
    pass


def _same_block(last: Delta, delta: Delta) -> bool:
    return type(last) is type(delta) and last.index == delta.index
