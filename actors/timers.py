"""Calls at a later time, all from one thread."""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


def now_ms() -> int:
    """Return the time in milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000


class Timer:
    """A call that is due later, unless it is cancelled before."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call

    def cancel(self) -> None:
        """Forget the call; does nothing when it has been made."""
        self._call = None

    def fire(self) -> None:
        """Make the call unless it was cancelled; what it raises is logged."""
        call, self._call = self._call, None
        if call is None:
            return
        try:
            call()
        except Exception:
            logger.exception("A timer's call failed.")


class Timers:
    """Makes calls at their time. A call must be short: the others wait for it."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Timer]] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="timers", daemon=True)

    def start(self) -> None:
        """Start the thread; call it after the fork."""
        self._thread.start()

    def after(self, delay_s: float, call: Callable[[], object]) -> Timer:
        """Make the call once, ``delay_s`` seconds from now."""
        timer = Timer(call)
        due = time.monotonic() + delay_s
        with self._changed:
            heapq.heappush(self._due, (due, next(self._count), timer))
            if self._due[0][2] is timer:
                self._changed.notify()
        return timer

    def every(self, period_s: float, call: Callable[[], object]) -> None:
        """Make the call again and again, until the timers are closed."""

        def again() -> None:
            try:
                call()
            finally:
                self.after(period_s, again)

        self.after(period_s, again)

    def close(self) -> None:
        """Make no further calls."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while (timer := self._next()) is not None:
            timer.fire()

    def _next(self) -> Timer | None:
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._changed.wait()
                elif (left := self._due[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    return heapq.heappop(self._due)[2]
        return None
