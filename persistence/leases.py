"""Which processes live: each renews its row, and holds a lock that ends with its connection.

A lease says who should act for the streams that it owns. Who may write says the epoch alone.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from persistence.engine import translated_errors
from persistence.errors import StoreUnavailableError
from persistence.notices import CHANNEL, Notice, decoded
from persistence.postgres import CONNECT_ARGUMENTS, FLEETING, NOW_US

if TYPE_CHECKING:
    import psycopg

LOCK_CLASS = 0x5E55
"""The first number of the advisory locks that workers hold; the second is their row's id."""

LOCKED = f"""EXISTS (
    SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND classid = {LOCK_CLASS} AND granted
    AND objid = workers.id::oid AND objsubid = 2
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""  # noqa: S608 - made of constants

logger = logging.getLogger(__name__)


class Leases:
    """This process's lease, and what it notices of the others. Used by one thread.

    Every method raises StoreUnavailableError when the database can't be reached; then the
    connection is gone, and with it the lock.
    """

    def __init__(self, url: sa.URL, name: str, *, lease_s: float) -> None:
        self.name = name
        self._conninfo = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._lease_us = int(lease_s * 1_000_000)
        self._connection: psycopg.Connection[Any] | None = None
        self._unlocked: frozenset[str] = frozenset()

    def connect(self) -> None:
        """Take the lease, on a connection of its own, and listen."""
        import psycopg

        self.drop()
        with self._translated():
            connection = psycopg.connect(
                self._conninfo, autocommit=True, options=FLEETING, **CONNECT_ARGUMENTS
            )
            self._connection = connection
            connection.execute(f"LISTEN {CHANNEL}")
            self._register(connection)
        self._unlocked = frozenset()

    def renew(self) -> bool:
        """Show that this process lives; tell whether everybody thought so until now."""
        with self._translated():
            connection = self._require_connection()
            renewed = connection.execute(
                f"UPDATE workers SET renewed_at = {NOW_US} WHERE name = %s",  # noqa: S608
                (self.name,),
            )
            if renewed.rowcount:
                return True
            self._register(connection)
        return False

    def reap(self) -> list[str]:
        """Delete the workers that died; return their names.

        One died that was not heard of for the time of a lease, or whose lock was free twice in
        a row: once may have been the moment in which it connected anew.
        """
        with self._translated():
            connection = self._require_connection()
            dead = connection.execute(
                f"DELETE FROM workers WHERE name <> %s AND (renewed_at < {NOW_US} - %s"  # noqa: S608
                f" OR (name = ANY(%s) AND NOT {LOCKED})) RETURNING name",
                (self.name, self._lease_us, list(self._unlocked)),
            ).fetchall()
            unlocked = connection.execute(
                f"SELECT name FROM workers WHERE name <> %s AND NOT {LOCKED}",  # noqa: S608
                (self.name,),
            ).fetchall()
        self._unlocked = frozenset([name for (name,) in unlocked])
        return [name for (name,) in dead]

    def wait(self, timeout_s: float) -> list[Notice]:
        """Wait for notices of others; return those that have come, none when the time is over."""
        with self._translated():
            found = self._require_connection().notifies(timeout=timeout_s, stop_after=1)
            notices = [decoded(each.payload) for each in found]
        return [each for each in notices if each is not None and each.sender != self.name]

    def resign(self) -> None:
        """Let anybody own what this process owns, and end the lease."""
        with self._translated():
            connection = self._require_connection()
            connection.execute("UPDATE streams SET owner = NULL WHERE owner = %s", (self.name,))
            connection.execute("DELETE FROM workers WHERE name = %s", (self.name,))

    def drop(self) -> None:
        """Close the connection; the lock is free then."""
        import psycopg

        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

    def _register(self, connection: "psycopg.Connection[Any]") -> None:
        """Insert the row, with its lock taken before anybody can see it."""
        found: Any = connection.execute(
            "SELECT id, pg_try_advisory_lock(%s, id::integer) FROM workers WHERE name = %s",
            (LOCK_CLASS, self.name),
        ).fetchone()
        if found is None or not found[1]:  # the lock may still be a connection's that is gone
            connection.execute("DELETE FROM workers WHERE name = %s", (self.name,))
            found = connection.execute(
                "SELECT id, pg_advisory_lock(%s, id::integer) FROM"
                " (SELECT nextval(pg_get_serial_sequence('workers', 'id')) AS id) AS fresh",
                (LOCK_CLASS,),
            ).fetchone()
        connection.execute(
            f"INSERT INTO workers (id, name, started_at, renewed_at)"  # noqa: S608
            f" VALUES (%s, %s, {NOW_US}, {NOW_US})"
            f" ON CONFLICT (name) DO UPDATE SET renewed_at = {NOW_US}",
            (found[0], self.name),
        )

    def _require_connection(self) -> "psycopg.Connection[Any]":
        if self._connection is None:
            raise StoreUnavailableError("There is no connection for this process's lease.")
        return self._connection

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        import psycopg

        try:
            with translated_errors(psycopg.Error):
                yield
        except StoreUnavailableError:
            self.drop()
            raise
