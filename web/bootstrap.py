"""The only composition root: everything a serving process is made of, put together here."""

import logging
import os
import socket
import threading
import time
import uuid
from typing import Any

from actors.gateway_actor import GatewayActor, Loaded, PatchConfig
from actors.models.catalog import ModelCatalog
from actors.registry import ASK_TIMEOUT_S, SessionRegistry
from actors.timers import Timers
from persistence.engine import (
    SingleProcessLock,
    is_sqlite,
    parse_url,
    read_engine,
    write_engine,
)
from persistence.event_log import EventLog, SqlEventLog
from persistence.group_commit import GroupCommit
from persistence.memories import Memories, SqlMemories
from persistence.migration import ensure_schema
from persistence.native import native_caller
from web.live_config import LiveConfig
from web.settings import Settings

SIBLING_WAIT_EXTRA_S = 15.0

logger = logging.getLogger(__name__)


class Store:
    """The event log of this process, what is projected from it, its lock and its writer."""

    def __init__(self, settings: Settings) -> None:
        url = parse_url(settings.database_url)
        self._lock: SingleProcessLock | None = None
        if is_sqlite(url) and url.database is not None:
            self._lock = SingleProcessLock(url.database)
            self._lock.acquire(sibling_wait_s=settings.grace_s + SIBLING_WAIT_EXTRA_S)
        try:
            writer = write_engine(url)
            ensure_schema(writer)
            reader = read_engine(url)
            self.log: EventLog = SqlEventLog(writer, reader, commit_in=native_caller())
            self.memories: Memories = SqlMemories(reader)
            self.log.reopen()
        except BaseException:
            self._unlock()
            raise
        self.writer = GroupCommit(self.log)
        self.writer.start()

    def close(self) -> None:
        """Write what is queued and let the next process have the database."""
        self.writer.close()
        self.log.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.release()


class Gateway:
    """A serving process: the log, the sessions over it, and the limits on both.

    Starts threads: make it after the fork.
    """

    def __init__(self, settings: Settings) -> None:
        self.config = LiveConfig(settings)
        models = ModelCatalog(settings, os.environ)
        self._store = Store(settings)
        self.log = self._store.log
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.timers = Timers()
        self.timers.start()
        self.registry = SessionRegistry(
            self.log,
            self._store.writer,
            models,
            self.timers,
            lambda: self.config.current,
            owner=owner,
        )
        self._actor = GatewayActor.start(self.log, self._store.writer, owner, self.config.install)
        self.streams = threading.BoundedSemaphore(_streams_max(settings))
        self.ready = False
        self._stopping = threading.Lock()
        self._stopped = False

    @property
    def settings(self) -> Settings:
        """Return the settings as they are now."""
        return self.config.current

    def patch_config(self, changes: dict[str, Any], principal: str | None) -> None:
        """Change settings, durably. Raises PersistenceError."""
        command = PatchConfig(changes, self.registry.now_ms(), principal)
        self._actor.ask(command, block=True, timeout=ASK_TIMEOUT_S)

    def start(self) -> None:
        """Load what has work to carry on with, and take requests."""
        self._actor.ask(Loaded(), block=True, timeout=ASK_TIMEOUT_S)
        self.registry.start(self.settings.primary_session, lambda: str(uuid.uuid4()))
        self.ready = True
        logger.info(
            "sessiond serves %s, model %s/%s",
            self.settings.primary_session,
            self.registry.models.default.provider,
            self.registry.models.default.model_id,
        )

    def stop(self, grace_s: float | None = None) -> None:
        """Drain: let runs end, interrupt the rest, end the streams, write everything.

        Blocks for ``grace_s`` (by default the setting) and a moment at most. A second call
        waits for the first.
        """
        with self._stopping:
            if self._stopped:
                return
            self._stopped = True
            self.ready = False
            began = time.monotonic()
            self.registry.drain(self.settings.grace_s if grace_s is None else grace_s)
            self.timers.close()
            self._store.close()
            logger.info("sessiond stopped within %.1f s", time.monotonic() - began)


def _streams_max(settings: Settings) -> int:
    """Keep a reserve: a worker full of streams would not even answer /health."""
    held = settings.connections_max if settings.worker_class == "gevent" else settings.threads
    return max(1, min(settings.streams_max, held - max(2, held // 8)))
