"""What a serving process stores in, and what it shares with others that store there."""

import os
from collections.abc import Sequence

import sqlalchemy as sa

from actors.log_lines import LogLines
from actors.others import Questions
from actors.ownership import Ownership, Watch
from persistence.engine import is_sqlite, parse_url, read_engine, side_engine, write_engine
from persistence.event_log import EventLog
from persistence.fail_points import log_class
from persistence.group_commit import GroupCommit, WriteObserver
from persistence.inbox import Inbox
from persistence.leases import Leases
from persistence.memories import Memories, SqlMemories
from persistence.migration import ensure_schema
from persistence.native import call_here, native_caller
from persistence.notices import Announcer
from persistence.single_process import SingleProcessLock
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
            self.log: EventLog = log_class(os.environ)(
                writer,
                reader,
                commit_in=call_here if self._lock is None else native_caller(),
                lease_s=settings.lease_s,
            )
            self.memories: Memories = SqlMemories(reader)
            self.log.reopen()
        except BaseException:
            self._unlock()
            raise
        if self._lock is None:
            self._shared = _Shared(url, name, self.log, settings.lease_s, watches, log_lines)
            self.ownership = self._shared.ownership
            observers = (*observers, self._shared.announcer)
        self.writer = GroupCommit(self.log, observers=observers)
        self.writer.start()

    def close(self) -> None:
        """Write what is queued and let the next process have what this one had."""
        self.writer.close()
        if self._shared is not None:
            self._shared.close()
        self.log.close()
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
        lease_s: float,
        watches: Sequence[Watch],
        log_lines: LogLines,
    ) -> None:
        self._engine = side_engine(url)
        inbox = Inbox(self._engine, name)
        self.announcer = Announcer(self._engine, name)
        self.ownership = Ownership(
            Leases(url, name, lease_s=lease_s),
            inbox,
            Questions(log, inbox, name),
            lease_s=lease_s,
            watches=watches,
            log_lines=log_lines,
        )
        self.ownership.connect()
        self.announcer.start()

    def close(self) -> None:
        self.ownership.close()
        self.announcer.close()
        self._engine.dispose()
