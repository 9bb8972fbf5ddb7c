"""The lock beside an SQLite database that keeps a second process away."""

import fcntl
import os
import time
from pathlib import Path

from persistence.errors import StoreLockedError

LOCK_POLL_S = 0.05
HOLDER_SIGNS_S = 1.0


class SingleProcessLock:
    """An exclusive lock beside an SQLite database: exactly one process serves it.

    A worker that replaces its sibling (same parent process) waits for it to end; anyone else
    is refused at once.
    """

    def __init__(self, database: str) -> None:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
        self._path = Path(f"{database}.lock")
        self._file: int | None = None

    def acquire(self, *, sibling_wait_s: float) -> None:
        """Take the lock or raise StoreLockedError, which names who holds it."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        began = time.monotonic()
        while not self._try():
            waited_s = time.monotonic() - began
            holder = self._holder()
            # A holder that hasn't signed yet may be a sibling: look again in a moment.
            if waited_s > (HOLDER_SIGNS_S if holder is None else 0) and (
                holder is None or holder[1] != os.getppid() or waited_s > sibling_wait_s
            ):
                self.release()
                raise StoreLockedError(
                    f"Process {holder[0] if holder else 'unknown'} already serves "
                    f"{self._path.with_suffix('')}. SQLite carries one process: stop that one "
                    "first, or use PostgreSQL for many."
                )
            time.sleep(LOCK_POLL_S)
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()} {os.getppid()}".encode(), 0)

    def release(self) -> None:
        """Let the next process have the database."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _try(self) -> bool:
        assert self._file is not None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> tuple[int, int] | None:
        """Return the holder's process and its parent; None before it has signed."""
        words = self._path.read_text().split()
        if len(words) != 2 or not _is_alive(int(words[0])):
            return None
        return int(words[0]), int(words[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
