"""What a database says of itself to an operator who asks whether all is well."""

import time

import sqlalchemy as sa
from msgspec import Struct

from persistence.engine import is_sqlite, translated_errors
from persistence.leases import LOCKED
from persistence.postgres import NOW_US, missing_grants


class Diagnosis(Struct, frozen=True):
    """A database's server, what serves it, and what its clock and its newest event say; in µs.

    ``clock_off_us`` is how far its clock is from this machine's, None where it has none of its
    own; ``newest_us`` when it was last written, None where it is empty; ``not_granted`` what a
    gateway does and its role may not.
    """

    server: str
    clock_off_us: int | None
    newest_us: int | None
    workers: tuple[str, ...]
    not_granted: tuple[str, ...] = ()


def diagnose(engine: sa.Engine) -> Diagnosis:
    """Ask a database whose schema is current. Raises StoreUnavailableError."""
    with translated_errors(), engine.connect() as connection:
        newest = connection.scalar(
            sa.text("SELECT recorded_at FROM events ORDER BY position DESC LIMIT 1")
        )
        if is_sqlite(engine.url):
            version = connection.scalar(sa.text("SELECT sqlite_version()"))
            return Diagnosis(f"SQLite {version}", None, newest, ())
        version = connection.scalar(sa.text("SHOW server_version"))
        now_us = connection.scalar(sa.text(f"SELECT {NOW_US}"))
        off_us = time.time_ns() // 1_000 - int(now_us or 0)
        workers = connection.scalars(
            sa.text(f"SELECT name FROM workers WHERE {LOCKED} ORDER BY name")  # noqa: S608 - a constant
        )
        missing = missing_grants(connection)
        return Diagnosis(f"PostgreSQL {version}", off_us, newest, tuple(workers), tuple(missing))
