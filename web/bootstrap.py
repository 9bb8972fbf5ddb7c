"""The only composition root: everything a serving process is made of, put together here."""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Sequence

import falcon

from actors.audit import access
from actors.audit.erasing.eraser import Eraser
from actors.audit.erasing.retention import Retention
from actors.audit.exporting.restoring import Restorable, restore_into
from actors.audit.recorder import Recorder
from actors.audit.watch import LogWatch
from actors.log_lines import LogLines, LogLinesHandler
from actors.memory.keeper import MemoryKeeper
from actors.memory.service import MemoryService
from actors.models.catalog import ModelCatalog
from actors.registry import SessionRegistry
from actors.runs.launcher import RunLauncher
from actors.runs.tracing import NO_TRACER
from actors.timers import Timers, now_ms
from persistence.errors import ConflictError
from persistence.group_commit import Outcomes
from persistence.records import Append, Write
from web.administration import Administration
from web.asked import query_of, request_of
from web.live_config import LiveConfig
from web.metrics import Metrics, process_metrics
from web.settings import ENV_PREFIX, Settings, SettingsError, is_loopback
from web.signing import make_signer, start_signing
from web.slots import Slots
from web.store import Store
from web.tokens import Tokens
from web.tooling import Tooling
from web.tracing.telemetry import make_telemetry

SETTLE_TIMEOUT_S = 2.0
GAUGES_S = 1.0

logger = logging.getLogger(__name__)


class Gateway:
    """A serving process: the log, the sessions over it, and the limits on both.

    Starts threads: make it after the fork.
    """

    def __init__(self, settings: Settings) -> None:
        self.config = LiveConfig(settings)
        self.tokens = Tokens(None if settings.token is None else settings.token.get_secret_value())
        self.tooling = Tooling(settings, lambda: self.settings)
        self.metrics = process_metrics()
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.log_lines = LogLines(lambda: self.settings.log_texts)
        self.log_watch = LogWatch()
        self._store = Store(
            settings,
            owner,
            [BatchMetrics(self.metrics), self.log_watch],
            [self._look, self.log_watch.look],
            self.log_lines,
        )
        self.log = self._store.log
        self.raw_rows = self._store.raw_rows
        self.directory = self._store.directory
        self.owner = owner
        self.timers = Timers()
        self.timers.start()
        self._log_handler = LogLinesHandler(self.log_lines)
        logging.getLogger().addHandler(self._log_handler)
        self.memory = MemoryService(
            self.log, self._store.memories, self._store.shared_writer, lambda: self.settings, now_ms
        )
        self._telemetry = make_telemetry(settings, owner)
        self.registry = self._make_registry(ModelCatalog(settings, os.environ))
        self.admin = Administration(
            self.log, self._store.shared_writer, self.config, self.tokens, shared=self.shared
        )
        self._access = Recorder(self._store.shared_writer, access.STREAM, access.CODEC)
        self.eraser = Eraser(
            self.log,
            self.registry,
            self.memory,
            self.tooling.toolbox.workspaces,
            self._store.scrub,
            lambda: self.settings.primary_session,
            shared=self.shared,
        )
        self.retention = Retention(
            self.log,
            self.eraser,
            lambda: self.settings,
            lambda: self.admin.state,
            self.admin.ask,
            now_ms,
        )
        self.checkpoints = make_signer(
            settings, self._store, lambda: self.admin.signing_keys, self.admin.ask
        )
        self.streams = Slots(_streams_max(settings))
        self.ready = False
        self._stopping = threading.Lock()
        self._stopped = False

    def _make_registry(self, models: ModelCatalog) -> SessionRegistry:
        tracer = self._telemetry.tracer
        keeper = MemoryKeeper(
            self.memory, self.log, models, self.timers, lambda: self.settings, now_ms, tracer
        )
        launcher = RunLauncher(
            self.log,
            models,
            keeper,
            self.tooling.toolbox,
            self.timers,
            lambda: self.settings,
            lambda: str(uuid.uuid4()),
            tracer,
        )
        traced = () if tracer is NO_TRACER else (tracer.committed,)
        return SessionRegistry(
            self.log,
            self._store.writer,
            launcher,
            self.timers,
            self.log_lines,
            lambda: self.settings,
            owner=self.owner,
            others=self._store.ownership,
            now_ms=now_ms,
            observers=[self.metrics.committed, *traced],
            took_over=self.metrics.takeover,
        )

    def _look(self, rows: Sequence[int] | None) -> None:
        self.admin.look(rows)  # the store tells of it, and is there first

    @property
    def storage_path(self) -> str | None:
        """Return the file that everything is stored in, None where a server has it."""
        return self._store.path

    @property
    def shared(self) -> bool:
        """Tell whether other processes may write the log too."""
        return self._store.ownership is not None

    @property
    def settings(self) -> Settings:
        """Return the settings as they are now."""
        return self.config.current

    def restore(self, found: Restorable, principal: str) -> None:
        """Write a session as it was in another log, durably, and that it comes from there.

        Raises ConflictError where it is there already, or another PersistenceError.
        """
        stream_id = found.restore.stream_id
        if self.log.head(stream_id) is not None:
            raise ConflictError(f"{stream_id} is in the log already")
        self.admin.ask(found.command(now_ms(), principal))  # before it is there
        restore_into(self._store.shared_writer, found)

    def record_access(self, request: falcon.Request, resource: str, key: str | None = None) -> None:
        """Have it in the log who is about to be shown what, where the settings want it.

        It is durable when this returns. Raises StoreUnavailableError: then nothing may be shown.
        """
        if self.settings.audit_reads:
            at, query = now_ms(), query_of(request)
            read = access.AccessRead(resource, at, key or "", query, request=request_of(request))
            self._access.record(read, request.context.access.principal)

    def start(self) -> None:
        """Load what has work to carry on with, and take requests. Raises SettingsError."""
        self.admin.load()
        if not self.tokens.required and not is_loopback(self.settings.bind):
            raise SettingsError(
                f"Without a token the gateway serves loopback only, not {self.settings.bind}: "
                f"set {ENV_PREFIX}TOKEN, issue one by sessiond token, or bind to 127.0.0.1."
            )
        self.tooling.start()
        if self._store.ownership is not None:
            self._store.ownership.asked = self.metrics.inbox_ask
            self._store.ownership.start(self.registry.upkeep, self.registry.serve)
        self.registry.start(self.settings.primary_session, lambda: str(uuid.uuid4()))
        self.timers.every(GAUGES_S, self._show_gauges)
        self.retention.start(self.timers)
        start_signing(self.checkpoints, self.settings, self.timers)
        self.ready = True
        logger.info(
            "sessiond serves %s, model %s/%s",
            self.settings.primary_session,
            self.registry.models.default.provider,
            self.registry.models.default.model_id,
        )

    def _show_gauges(self) -> None:
        ownership = self._store.ownership
        self.metrics.refresh(
            sessions_loaded=self.registry.count,
            runs=self.registry.runs_count,
            streams_open=self.streams.held,
            writer_queue=self._store.writer.waiting,
            sessions_followed=self.registry.followed_count,
        )
        if ownership is not None:
            self.metrics.lease_age(ownership.lease_age_s)

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
            self.registry.upkeep.drain(self.settings.grace_s if grace_s is None else grace_s)
            self.memory.close(SETTLE_TIMEOUT_S)
            self.log_watch.close()
            self.tooling.close()
            self.timers.close()
            self.checkpoints.close(SETTLE_TIMEOUT_S)
            self._store.close()
            self._telemetry.close(SETTLE_TIMEOUT_S)
            logging.getLogger().removeHandler(self._log_handler)
            logger.info("sessiond stopped within %.1f s", time.monotonic() - began)


class BatchMetrics:
    """Counts what the writer writes. Implements WriteObserver."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def written(self, writes: Sequence[Write], outcomes: Outcomes, took_s: float) -> None:  # noqa: ARG002 - WriteObserver's
        """See WriteObserver.written."""
        self._metrics.batch(_rows(writes), took_s, False)  # noqa: FBT003 - as Metrics has it

    def write_failed(self, writes: Sequence[Write], took_s: float) -> None:
        """See WriteObserver.write_failed."""
        self._metrics.batch(_rows(writes), took_s, True)  # noqa: FBT003 - as Metrics has it


def _rows(writes: Sequence[Write]) -> int:
    return sum(len(write.events) for write in writes if isinstance(write, Append))


def _streams_max(settings: Settings) -> int:
    """Keep a reserve: a worker full of streams would not even answer /health."""
    held = settings.connections_max if settings.worker_class == "gevent" else settings.threads
    return max(1, min(settings.streams_max, held - max(2, held // 8)))
