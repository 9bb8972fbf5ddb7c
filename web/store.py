"""What a serving process stores in, and what it shares with others that store there."""

import os
from collections.abc import Sequence
from functools import partial

import sqlalchemy as sa

from actors.gateway_state import STREAM as GATEWAY_STREAM
from actors.log_lines import LogLines
from actors.others import Questions
from actors.ownership import Ownership, Watch
from persistence.directory import Directory
from persistence.engine import is_sqlite, parse_url, read_engine, side_engine, write_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.fail_points import log_class
from persistence.group_commit import GroupCommit, WriteObserver
from persistence.inbox import Inbox
from persistence.leases import Leases
from persistence.memories import Memories, SqlMemories
from persistence.migration import ensure_schema
from persistence.native import call_here, native_caller
from persistence.notices import Announcer
from persistence.raw_rows import opened_rows
from persistence.records import SHARED, Claim
from persistence.single_process import SingleProcessLock
from persistence.tree import SqlTree, Tree
from persistence.vault import Vault, open_vault
from web.settings import Settings

SIBLING_WAIT_EXTRA_S = 15.0


class Store:
    """The event log of this process, what is projected from it, and its writer.

    On SQLite there is one process, which has the lock; on PostgreSQL there may be others, which
    the ``ownership`` tells apart. ``watches`` are told what streams may have gone on.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        observers: Sequence[WriteObserver],
        watches: Sequence[Watch],
        log_lines: LogLines,
    ) -> None:
        url = parse_url(settings.database_url)
        self.path = url.database if is_sqlite(url) else None
        self.ownership: Ownership | None = None
        self._lock: SingleProcessLock | None = None
        self._shared: _Shared | None = None
        if self.path is not None:
            self._lock = SingleProcessLock(self.path)
            self._lock.acquire(sibling_wait_s=settings.grace_s + SIBLING_WAIT_EXTRA_S)
        try:
            writer = write_engine(url)
            ensure_schema(writer)
            reader = read_engine(url)
            self.vault = open_vault(
                url, reader, settings.encryption_key_file, settings.encryption_keys_url
            )
            self._sql_log = log_class(os.environ)(
                writer,
                reader,
                commit_in=call_here if self._lock is None else native_caller(),
                lease_s=settings.lease_s,
                vault=self.vault,
            )
            self._sql_log.unscrubbed = self.path is not None  # the last process may have died
            self.log: EventLog = self._sql_log
            self.raw_rows = partial(opened_rows, reader, self.vault)
            self.memories: Memories = SqlMemories(reader)
            self.tree: Tree = SqlTree(reader)
            self.directory = Directory(reader, self.vault)
            self.log.reopen()
        except BaseException:
            self._unlock()
            raise
        if self._lock is None:
            self._shared = _Shared(url, name, self.log, reader, settings, observers, self.vault)
            self.ownership = self._shared.owned_by(watches, log_lines)
            observers = (*observers, self._shared.announcer)
        self.writer = GroupCommit(self.log, observers=observers)
        self.writer.start()
        self.shared_writer = self.writer if self._shared is None else self._shared.writer

    def scrub(self) -> bool:
        """Have erased text leave the database's own files; tell whether it has.

        PostgreSQL drops it with a VACUUM only. Raises PersistenceError.
        """
        if self.path is None:
            return False
        if self._sql_log.unscrubbed:  # every write tries
            self.writer.submit(Claim(GATEWAY_STREAM, SHARED)).result()
        return not self._sql_log.unscrubbed

    def close(self) -> None:
        """Write what is queued and let the next process have what this one had."""
        self.writer.close()
        if self._shared is not None:
            self._shared.close()
        self.log.close()
        if self.vault is not None:
            self.vault.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()


class _Shared:
    """What ties this process to the others over one PostgreSQL."""

    def __init__(
        self,
        url: sa.URL,
        name: str,
        log: EventLog,
        reader: sa.Engine,
        settings: Settings,
        observers: Sequence[WriteObserver],
        vault: Vault | None,
    ) -> None:
        self._engine = side_engine(url)
        self._inbox = Inbox(self._engine, name)
        self._questions = Questions(log, self._inbox, name)
        self._leases = Leases(url, name, lease_s=settings.lease_s)
        self._lease_s = settings.lease_s
        self._ownership: Ownership | None = None
        self.announcer = Announcer(self._engine, name)
        self.announcer.start()
        self._log = SqlEventLog(write_engine(url), reader, lease_s=settings.lease_s, vault=vault)
        self.writer = GroupCommit(self._log, observers=(*observers, self.announcer))
        self.writer.start()

    def owned_by(self, watches: Sequence[Watch], log_lines: LogLines) -> Ownership:
        """Take the lease by which this process owns sessions. Raises StoreUnavailableError."""
        self._ownership = Ownership(
            self._leases,
            self._inbox,
            self._questions,
            lease_s=self._lease_s,
            watches=watches,
            log_lines=log_lines,
        )
        self._ownership.connect()
        return self._ownership

    def close(self) -> None:
        """Write and tell what is left, and let others own what is owned here."""
        self.writer.close()
        if self._ownership is not None:
            self._ownership.close()
        self.announcer.close()
        self._log.close()
        self._engine.dispose()
