"""gunicorn's configuration, made from sessiond's settings.

``gunicorn -c web/gunicorn_conf.py web.wsgi:app`` serves as ``sessiond serve`` does.
"""

import gc
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import Any

from persistence.native import patch, run_soon
from web.metrics_files import bury, make_files
from web.settings import Settings, SettingsError, load_settings
from web.ui import secret  # noqa: F401 - made before the fork, so that all workers have the same


def _load() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise SystemExit(f"sessiond: {error}") from error


settings = _load()
if settings.worker_class == "gevent":
    patch()


def _check(settings: Settings) -> None:
    """End with one line when a worker could not start with these settings."""
    from actors.audit.signing.keys import KeyFileError, read_keys
    from actors.models.base import ModelError
    from actors.models.catalog import ModelCatalog
    from persistence.engine import DatabaseUrlError, is_sqlite, parse_url
    from web.tracing.telemetry import check_telemetry

    try:
        if is_sqlite(parse_url(settings.database_url)) and settings.workers > 1:
            raise SettingsError("SQLite carries one worker: use PostgreSQL for more.")
        ModelCatalog(settings, os.environ)
        check_telemetry(settings)
        if settings.signing_key_file is not None:
            read_keys(Path(settings.signing_key_file))
    except KeyFileError as error:
        raise SystemExit(f"sessiond: {error} sessiond keys generate makes one.") from error
    except (SettingsError, DatabaseUrlError, ModelError) as error:
        raise SystemExit(f"sessiond: {error}") from error


_check(settings)

STOP_EXTRA_S = 10
FIRST_BYTE_S = 0.1
"""How long a connection that says nothing holds a thread, before it waits beside the idle ones."""
ACCEPTS_S = 1.5
"""gunicorn looks once a second whether a worker has to stop listening."""

bind = (
    f"[{settings.bind}]:{settings.port}"
    if ":" in settings.bind
    else f"{settings.bind}:{settings.port}"
)
workers = settings.workers
worker_class = settings.worker_class
threads = settings.threads
worker_connections = settings.connections_max
backlog = 2_048
max_requests = settings.max_requests
max_requests_jitter = settings.max_requests // 10
keepalive = 5
graceful_timeout = int(settings.grace_s) + STOP_EXTRA_S
timeout = 60
loglevel = settings.log_level
preload_app = False  # threads and database connections belong to the worker
control_socket_disable = True  # or instances of one user take it from each other
proc_name = "sessiond"


def on_starting(server: Any) -> None:  # noqa: ANN401 - gunicorn's arbiter has no types
    """Refuse what would start threads before the fork; name the place of what workers count."""
    if server.cfg.preload_app:
        raise SystemExit("sessiond: leave out --preload, a worker starts its own threads.")
    server.metrics_files = make_files(server.cfg.uid, server.cfg.gid)  # this module goes by SIGHUP


def post_fork(_server: object, _worker: object) -> None:
    """Look for no cycles until the application is there: what it is made of stays for good."""
    gc.disable()  # web.wsgi enables it


def when_ready(server: Any) -> None:  # noqa: ANN401 - gunicorn's arbiter has no types
    """Bound how long a client holds a gthread worker's thread: workers inherit both.

    A header that stops coming ends the connection after ``keepalive`` seconds, an answer that is
    not taken after ``slow_reader_timeout_s``. Bodies and streams have limits of their own.
    """
    if settings.worker_class != "gthread":
        return
    from gunicorn.workers import gthread

    gthread.DEFAULT_WORKER_DATA_TIMEOUT = FIRST_BYTE_S
    _close_on_threads(gthread)
    for listener in server.LISTENERS:
        for option, limit_s in (
            (socket.SO_RCVTIMEO, keepalive),
            (socket.SO_SNDTIMEO, settings.slow_reader_timeout_s),
        ):
            value = struct.pack("@ll", int(limit_s), int(limit_s % 1 * 1_000_000))
            listener.sock.setsockopt(socket.SOL_SOCKET, option, value)


def _close_on_threads(gthread: Any) -> None:  # noqa: ANN401 - gunicorn's module has no types
    """Have a connection that ends wait for its client on the thread that served it.

    gunicorn 27.0 waits on the one that accepts, up to 2 s for each client that doesn't hang up.
    """
    handle, close = gthread.ThreadWorker.handle, gthread.TConn.close

    def close_once(connection: Any, graceful: bool = False) -> None:  # noqa: ANN401, FBT001, FBT002 - as gunicorn has it
        if connection.sock.fileno() >= 0:
            close(connection, graceful)

    def handle_and_close(worker: Any, connection: Any) -> Any:  # noqa: ANN401 - as gunicorn has it
        kept = handle(worker, connection)
        if not kept:
            close_once(connection, graceful=True)
        return kept

    gthread.ThreadWorker.handle, gthread.TConn.close = handle_and_close, close_once


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 - gunicorn's worker has no types
    """On SIGTERM drain at once; gunicorn alone would wait for streams that never end."""
    stop_worker = signal.getsignal(signal.SIGTERM)
    assert callable(stop_worker)

    def terminate(number: int, frame: Any) -> None:  # noqa: ANN401 - a stack frame
        run_soon(lambda: _stop_gateway(worker))
        stop_worker(number, frame)

    signal.signal(signal.SIGTERM, terminate)
    worker.log.info("sessiond is ready at %s", bind)


def post_request(worker: Any, _request: object, _environ: object, _response: object) -> None:  # noqa: ANN401 - gunicorn's worker has no types
    """Drain a worker that has served as many requests as it may; it stops by itself.

    It goes on to accept connections for a moment, and serves them as ever until then.
    """
    if not worker.alive and not hasattr(worker, "sessiond_stops"):
        worker.sessiond_stops = True
        run_soon(lambda: _stop_gateway(worker, ACCEPTS_S))


def _stop_gateway(worker: Any, after_s: float = 0) -> None:  # noqa: ANN401 - gunicorn's worker has no types
    from web.wsgi import gateway

    time.sleep(after_s)
    gateway.stop()
    worker.cfg.set("graceful_timeout", 0)  # what is still open is idle


def worker_exit(_server: object, _worker: object) -> None:
    """Write what is left, however the worker ends."""
    import sys

    module = sys.modules.get("web.wsgi")  # not there when the worker failed to start
    if module is not None and hasattr(module, "gateway"):
        module.gateway.stop(grace_s=0)


def child_exit(_server: object, worker: Any) -> None:  # noqa: ANN401 - gunicorn's worker has no types
    """Keep what a worker has counted, when it is gone."""
    bury(worker.pid)


def on_exit(server: Any) -> None:  # noqa: ANN401 - gunicorn's arbiter has no types
    """Leave nothing behind."""
    if hasattr(server, "metrics_files"):  # not there when the start was refused
        server.metrics_files.remove()
