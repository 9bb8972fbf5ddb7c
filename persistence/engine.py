"""Engines, their settings, and the one place that translates a driver's errors."""

import contextlib
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError

from persistence._statements import Statements
from persistence.errors import PersistenceError, StoreUnavailableError
from persistence.postgres import (
    ALIASES,
    CONNECT_ARGUMENTS,
    DRIVER,
    DURABLE,
    FLEETING,
    PostgresStatements,
)

BUSY_TIMEOUT_MS = 5_000
READ_CONNECTIONS_MAX = 8
CHECKPOINT_PAGES = 8_000
"""Size of the WAL that is folded into the database: 32 MB, so that the pages which every commit
changes are written back once for many commits."""


class DatabaseUrlError(PersistenceError):
    """The database URL can't be used; the message says why."""


def parse_url(url: str) -> sa.URL:
    """Return the parsed URL. Raises DatabaseUrlError."""
    try:
        parsed = sa.make_url(url)
    except ArgumentError as error:
        raise DatabaseUrlError(
            f"The database URL {url!r} can't be parsed: sqlite:///path/to/file.db and "
            "postgresql://user@host/database are some that can."
        ) from error
    if parsed.drivername in ALIASES:
        parsed = parsed.set(drivername=DRIVER)
    if not is_sqlite(parsed) and parsed.drivername != DRIVER:
        raise DatabaseUrlError(
            f"{parsed.drivername!r} is no database for an event log: use sqlite or postgresql."
        )
    if is_sqlite(parsed) and (not parsed.database or parsed.database == ":memory:"):
        raise DatabaseUrlError("An SQLite database needs a file: sqlite:///path/to/file.db")
    return parsed


def is_sqlite(url: sa.URL) -> bool:
    """Tell whether the URL names an embedded SQLite database."""
    return url.get_backend_name() == "sqlite"


def statements_for(dialect: sa.Dialect, lease_s: float) -> Statements:
    """Return the statements that a database understands, and is quick with."""
    if dialect.name == "postgresql":
        return PostgresStatements(dialect, lease_s=lease_s)
    return Statements(dialect)


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


def side_engine(url: sa.URL) -> sa.Engine:
    """Return the engine for what processes tell each other, of which nothing has to last."""
    return _engine(url, FLEETING, isolation_level="AUTOCOMMIT", pool_size=4, max_overflow=4)


def _engine(
    url: sa.URL,
    durability: str = DURABLE,
    *,
    query_only: bool = False,
    **options: Any,  # noqa: ANN401 - SQLAlchemy's own options
) -> sa.Engine:
    if is_sqlite(url):
        arguments: dict[str, Any] = {"check_same_thread": False}
    else:
        arguments = CONNECT_ARGUMENTS | {"options": durability}
        options["paramstyle"] = "format"  # parameters by their order, as SQLite has them
    engine = sa.create_engine(url, poolclass=sa.QueuePool, connect_args=arguments, **options)
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
            "secure_delete = ON",  # what is erased is overwritten
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
