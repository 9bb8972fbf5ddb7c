"""What is left beside an SQLite database of something that was erased in it."""

from typing import Any

from persistence.native import Caller

BUSY_TIMEOUT_MS = 5_000


def scrub(connection: Any, call_in: Caller) -> bool:  # noqa: ANN401 - a driver's connection
    """Empty SQLite's write-ahead log, which may hold erased text; tell whether that is done.

    ``connection`` is the one that writes: before 3.51.3 two that write or fold the log at once can
    damage the database. Does not wait for readers: while one reads, it is for the next call.
    """
    cursor = connection.cursor()
    try:
        cursor.execute("PRAGMA busy_timeout = 0")
        row = call_in(lambda: cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
    finally:
        cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        cursor.close()
    return bool(row[0] == 0)
