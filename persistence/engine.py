"""Engines, SQLite's settings, and the one place that translates a driver's errors."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from persistence.errors import PersistenceError, StoreLockedError, StoreUnavailableError

BUSY_TIMEOUT_MS = 5_000
READ_CONNECTIONS_MAX = 8
CHECKPOINT_PAGES = 8_000
"""Size of the WAL that is folded into the database: 32 MB, so that the pages which every commit
changes are written back once for many commits."""
LOCK_POLL_S = 0.05
HOLDER_SIGNS_S = 1.0


class DatabaseUrlError(PersistenceError):
    """The database URL can't be used; the message says why."""


def parse_url(url: str) -> sa.URL:
    """Return the parsed URL. Raises DatabaseUrlError."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise DatabaseUrlError(
            f"The database URL {url!r} can't be parsed: sqlite:///path/to/file.db is one that can."
        ) from error
    if is_sqlite(parsed) and (not parsed.database or parsed.database == ":memory:"):
        raise DatabaseUrlError("An SQLite database needs a file: sqlite:///path/to/file.db")
    return parsed


def is_sqlite(url: sa.URL) -> bool:
    """Tell whether the URL names an embedded SQLite database."""
    return url.get_backend_name() == "sqlite"


def write_engine(url: sa.URL) -> sa.Engine:
    """Return the engine of the one writing connection."""
    engine = _engine(url, pool_size=1, max_overflow=0)
    if is_sqlite(url):

        @sa.event.listens_for(engine, "begin")
        def _begun(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def read_engine(url: sa.URL) -> sa.Engine:
    """Return the engine for reads, each a statement of its own; on SQLite it can't write."""
    return _engine(
        url,
        query_only=True,
        isolation_level="AUTOCOMMIT",
        pool_reset_on_return=None,
        pool_size=READ_CONNECTIONS_MAX,
        max_overflow=0,
        pool_timeout=BUSY_TIMEOUT_MS / 1000,
    )


def _engine(url: sa.URL, *, query_only: bool = False, **options: Any) -> sa.Engine:  # noqa: ANN401 - SQLAlchemy's own options
    arguments = {"check_same_thread": False} if is_sqlite(url) else {}
    try:
        engine = sa.create_engine(url, poolclass=sa.QueuePool, connect_args=arguments, **options)
    except NoSuchModuleError as error:
        raise DatabaseUrlError(f"No driver for {url.drivername!r} is known.") from error
    except ModuleNotFoundError as error:
        raise DatabaseUrlError(
            f"{url.drivername!r} needs the package {error.name!r}: install it."
        ) from error
    if is_sqlite(url):
        _settle_sqlite(engine, query_only=query_only)
    return engine


def _settle_sqlite(engine: sa.Engine, *, query_only: bool) -> None:
    @sa.event.listens_for(engine, "connect")
    def _connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - a driver's connection
        connection.isolation_level = None  # transactions begin where we say so, below
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT_MS}",
            "journal_mode = WAL",
            "synchronous = FULL",  # an acknowledged append survives power loss
            "fullfsync = ON",  # on macOS, where a plain fsync leaves it in the drive's cache
            f"wal_autocheckpoint = {CHECKPOINT_PAGES}",
            "foreign_keys = ON",
            "recursive_triggers = ON",  # or INSERT OR REPLACE slips past the delete trigger
            f"query_only = {'ON' if query_only else 'OFF'}",
        ):
            connection.execute(f"PRAGMA {pragma}")


@contextlib.contextmanager
def translated_errors(*driver_errors: type[Exception]) -> Iterator[None]:
    """Turn whatever the driver raises into StoreUnavailableError.

    ``driver_errors`` is for those who use the driver without SQLAlchemy's wrapping.
    """
    expected: tuple[type[Exception], ...] = (
        DBAPIError,
        sa.exc.TimeoutError,
        OSError,
        *driver_errors,
    )
    try:
        yield
    except expected as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        raise StoreUnavailableError(f"The database can't be used now: {cause}") from error


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
