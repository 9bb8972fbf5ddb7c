"""Servers in processes of their own: the real gateway, and the bare application beside it."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks._store import url_of

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
POLL_S = 0.05


@contextlib.contextmanager
def gateway(database: Path | str, **settings: int) -> Iterator[int]:
    """Yield the port of ``sessiond serve`` on gevent, with the demo model.

    ``database`` is an SQLite file, or a database's URL.
    """
    port = _free_port()
    given = {
        "port": port,
        "database_url": database if isinstance(database, str) else url_of(database),
        "model": "demo/echo",
        "worker_class": "gevent",
        "log_level": "warning",
        "grace_s": 1,
        **settings,
    }
    environment = {f"SESSIOND_{name.upper()}": str(value) for name, value in given.items()}
    command = [str(Path(sys.executable).with_name("sessiond")), "serve"]
    with _serving(command, port, environment):
        yield port


@contextlib.contextmanager
def bare() -> Iterator[int]:
    """Yield the port of the bare application under the same worker class."""
    port = _free_port()
    config = ("--config", "python:benchmarks._bare_conf", "--bind", f"127.0.0.1:{port}")
    command = [sys.executable, "-m", "gunicorn", *config, "benchmarks._bare:app"]
    with _serving(command, port, {}):
        yield port


@contextlib.contextmanager
def _serving(command: Sequence[str], port: int, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        _await_health(port, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_health(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(OSError),  # not there yet, or still starting
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=POLL_S * 20),
        ):
            return
        time.sleep(POLL_S)
    raise RuntimeError(f"{process.args!r} does not answer on its port")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
