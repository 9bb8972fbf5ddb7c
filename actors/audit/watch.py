"""Who follows the log is told here that it has gone on; what is new they read themselves."""

import threading
from collections.abc import Collection, Sequence

from persistence.group_commit import Outcomes
from persistence.records import Append, Head, Restore, Write

EVERY = 0
"""Stands for all streams; no stream has it as its row."""


class Watcher:
    """One follower. ``stopped``: to end at once; ``ending``: to end with what there is."""

    def __init__(self, watch: "LogWatch", row: int) -> None:
        self.row = row
        self.stopped = False
        self.ending = False
        self._watch = watch
        self._bell = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until the log may have gone on; tell whether that is why this returns."""
        rung = self._bell.wait(timeout_s)
        self._bell.clear()
        return rung

    def ring(self) -> None:
        """Wake whoever waits."""
        self._bell.set()

    def stop(self) -> None:
        """End the following, from another thread."""
        self.stopped = True
        self.ring()

    def close(self) -> None:
        """Leave."""
        self._watch.leave(self)


class LogWatch:
    """Wakes followers after what was written here, or where others may have. A WriteObserver."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watchers: dict[int, set[Watcher]] = {}
        self._closed = False

    def watcher(self, row: int = EVERY) -> Watcher:
        """Return a follower of one stream, by its row, or of all."""
        watcher = Watcher(self, row)
        with self._lock:
            watcher.ending = self._closed
            self._watchers.setdefault(row, set()).add(watcher)
        return watcher

    def leave(self, watcher: Watcher) -> None:
        """Forget a follower."""
        with self._lock:
            watchers = self._watchers.get(watcher.row, set())
            watchers.discard(watcher)
            if not watchers:
                self._watchers.pop(watcher.row, None)

    def written(self, writes: Sequence[Write], outcomes: Outcomes, took_s: float) -> None:  # noqa: ARG002 - WriteObserver's
        """See WriteObserver.written."""
        if self._watchers:
            written = zip(writes, outcomes, strict=True)
            self.look(
                {
                    outcome.row
                    for write, outcome in written
                    if isinstance(outcome, Head) and isinstance(write, Append | Restore)
                }
            )

    def write_failed(self, writes: Sequence[Write], took_s: float) -> None:  # noqa: ARG002 - WriteObserver's
        """See WriteObserver.write_failed; it may be in the log all the same."""
        self.look(None)

    def look(self, rows: Collection[int] | None) -> None:
        """Wake those who follow streams of these rows, or any; the log may have gone on."""
        for watcher in self._found(rows):
            watcher.ring()

    def close(self) -> None:
        """Have everybody end with what there is."""
        with self._lock:
            self._closed = True
        for watcher in self._found(None):
            watcher.ending = True
            watcher.ring()

    def _found(self, rows: Collection[int] | None) -> list[Watcher]:
        with self._lock:
            wanted = [*self._watchers] if rows is None else [*rows, EVERY] if rows else []
            return [each for row in wanted for each in self._watchers.get(row, ())]
