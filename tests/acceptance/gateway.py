"""The real ``sessiond serve`` as a process, spoken to over real HTTP, and its log read back."""

import contextlib
import fcntl
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import sqlalchemy as sa

from actors.replay import STREAM_PREFIX, decode, state_at, stream_of
from actors.session import events as e
from actors.session.evolve import evolve
from actors.session.state import SessionState
from persistence import chain
from persistence.engine import parse_url, read_engine
from persistence.event_log import EventLog, SqlEventLog
from persistence.records import Head, StoredEvent
from persistence.schema import streams
from tests.postgres.server import shared_server
from tests.sqlite import make_database
from web.views import digest_of

T = TypeVar("T")

TWO_PROCESSES = "TEST_TWO_PROCESSES" in os.environ
"""Whether each gateway is two over one PostgreSQL, asked in turns: no client may notice."""

COMMAND = Path(sys.executable).with_name("sessiond")
CONFIGURATION = Path(__file__).parents[2] / "web" / "gunicorn_conf.py"
GUNICORN = (sys.executable, "-m", "gunicorn", "-c", CONFIGURATION)
HOST = "127.0.0.1"
DEADLINE_S = 60.0
POLL_S = 0.01
HIDDEN_VARIABLES = ("OPENAI_", "ANTHROPIC_", "SESSIOND_", "GUNICORN_")
RUN_ENDS = (e.RunCompleted, e.RunFailed, e.RunAborted, e.RunInterrupted)


def until(probe: Callable[[], T | None], what: str, *, deadline_s: float = DEADLINE_S) -> T:
    """Ask again and again until the answer is truthy, and return it; fail at the deadline."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {deadline_s:g} s")
        time.sleep(POLL_S)


class Answer(NamedTuple):
    """An HTTP answer; ``body`` is decoded where it is JSON."""

    status: int
    headers: http.client.HTTPMessage
    body: Any


class Frame(NamedTuple):
    """One server-sent event: its id where it has one, its data, and its bytes as they came."""

    id: int | None
    data: Any
    raw: bytes


class Stream:
    """An open response that streams; every read ends at the deadline."""

    def __init__(
        self, sock: socket.socket, response: http.client.HTTPResponse, deadline: float
    ) -> None:
        self.status = response.status
        self.headers = response.headers
        self._sock = sock
        self._response = response
        self._deadline = deadline

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection, whatever is still to come."""
        self._response.close()
        self._sock.close()

    def read(self, size: int) -> bytes:
        """Return what has come, at most ``size`` bytes; nothing at the end of the stream."""
        self._arm()
        return self._response.read1(size)

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines until it ends."""
        while True:
            self._arm()
            line = self._response.readline()
            if not line:
                return
            yield line

    def frames(self) -> Iterator[Frame]:
        """Yield the events until the stream ends; comments and ``retry`` are left out."""
        return parsed(self.lines())

    def _arm(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise AssertionError("the stream did not end before its deadline")
        self._sock.settimeout(left)


def parsed(lines: Iterable[bytes]) -> Iterator[Frame]:
    """Yield the events in some lines; one without its closing blank line is left out."""
    gathered: list[bytes] = []
    for line in lines:
        if line != b"\n":
            gathered.append(line)
            continue
        fields = dict(each.rstrip(b"\n").split(b": ", 1) for each in gathered if each[:1] != b":")
        if b"data" in fields:
            data = fields[b"data"].decode()
            yield Frame(
                int(fields[b"id"]) if b"id" in fields else None,
                data if data == "[DONE]" else json.loads(data),
                b"".join(gathered),
            )
        gathered.clear()


def environment(settings: dict[str, object]) -> dict[str, str]:
    """Return this process's environment without keys of model vendors, plus the settings."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(HIDDEN_VARIABLES)
    }
    given = {f"SESSIOND_{name.upper()}": str(value) for name, value in settings.items()}
    return kept | given


def run_command(
    folder: Path, *arguments: str, deadline_s: float = DEADLINE_S, **settings: object
) -> subprocess.CompletedProcess[str]:
    """Run ``sessiond`` to its end, on the database of a folder."""
    settings = {"database_url": database_url(folder), "port": 0} | settings
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=deadline_s,
        check=False,
    )


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        port: int = sock.getsockname()[1]
        return port


class RunningGateway:
    """``sessiond serve`` in a folder of its own; the keyword arguments are its settings.

    ``variables`` are further variables of its environment.
    """

    command: tuple[str | Path, ...] = (COMMAND, "serve")

    def __init__(
        self, folder: Path, variables: dict[str, str] | None = None, **settings: object
    ) -> None:
        self.folder = folder
        self._variables = variables or {}
        self.port = free_port()
        self._settings = {
            "database_url": database_url(folder),
            "port": self.port,
            "demo_delay_ms": 1,
            "grace_s": 1,
            "memory_writer_enabled": False,  # or a scripted model would be asked once more
        } | settings
        self._process: subprocess.Popen[bytes] | None = None
        self._log_file = folder / "gateway.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()

    @property
    def log(self) -> str:
        """Return what the gateway has written to its output so far."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    @property
    def pid(self) -> int:
        """Return the process id of the master."""
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        """Return the address that it serves."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start it, in a process group of its own, and wait until it is ready.

        A new database has its schema already: to migrate one takes longer than to copy it.
        """
        database = self.folder / "sessiond.db"
        if self._settings["database_url"] == f"sqlite:///{database}":
            make_database(database)
        with self._log_file.open("ab") as output:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=environment(self._settings) | self._variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            until(self._is_ready, "the gateway is ready")
        except BaseException as error:
            self.kill()
            raise AssertionError(f"The gateway does not start:\n{self.log}") from error

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"it ended with status {self._process.returncode}")
        try:
            return bool(self.get("/health").body["ready"])
        except OSError:
            return False

    def kill(self) -> None:
        """Kill -9 all its processes at once, and wait until they are gone."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(DEADLINE_S)
        self._wait_for_release()

    def terminate(self) -> None:
        """Send SIGTERM to the master, and wait for its end, which has to be an orderly one.

        A worker that has to be killed because it does not end in time says no such thing.
        """
        process = self._process
        assert process is not None
        written = self._log_file.stat().st_size
        process.send_signal(signal.SIGTERM)
        status = process.wait(DEADLINE_S)
        self.kill()
        assert status == 0, f"the gateway ended with status {status}:\n{self.log}"
        workers = int(self._settings.get("workers", 1))  # type: ignore[call-overload]
        assert self._log_file.read_bytes().count(b"Worker exiting", written) == workers, self.log

    def restart(self) -> None:
        """Start it again over the same folder, on the same port."""
        self.kill()
        self.start()

    def _wait_for_release(self) -> None:
        """Wait until the kernel has taken the lock from the worker that was killed."""
        lock = self.folder / "sessiond.db.lock"

        def is_free() -> bool:
            with lock.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                return True

        if lock.exists():
            until(is_free, "the killed worker is gone")

    def get(self, path: str, **headers: str) -> Answer:
        """GET and return the answer."""
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        """POST a JSON body and return the answer."""
        content = b"" if body is None else json.dumps(body).encode()
        return self.request("POST", path, content, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        headers: dict[str, str] | None = None,
        before_sending: Callable[[], object] = lambda: None,
    ) -> Answer:
        """Send any request; ``before_sending`` is called once the connection stands."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=DEADLINE_S)
        with contextlib.closing(connection):
            connection.connect()
            before_sending()
            connection.request(method, path, body, headers=_typed(headers, body))
            response = connection.getresponse()
            content = response.read()
            kind = response.headers.get("Content-Type", "")
            is_json = content and "json" in kind and "ndjson" not in kind
            return Answer(
                response.status, response.headers, json.loads(content) if is_json else content
            )

    def stream(
        self,
        path: str,
        *,
        headers: dict[str, str] | None = None,
        method: str = "GET",
        body: object = None,
        deadline_s: float = DEADLINE_S,
    ) -> Stream:
        """Send a request and return its open response; close it when done."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=deadline_s)
        deadline = time.monotonic() + deadline_s
        connection.connect()
        sock = connection.sock
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content, headers=_typed(headers, content))
            return Stream(sock, connection.getresponse(), deadline)
        except BaseException:
            sock.close()
            raise

    def snapshot(self, key: str) -> dict[str, Any]:
        """Return a session's snapshot, an empty one where there is no such session."""
        answer = self.get(f"/sessions/{key}")
        found: dict[str, Any] = answer.body["session"] if answer.status == 200 else {}
        return found

    def until_idle(self, key: str) -> None:
        """Wait until nothing runs or waits in a session."""
        until(lambda: is_idle(self.snapshot(key)), f"{key} is idle")

    def until_answering(self, key: str) -> str:
        """Wait until a part of a session's next answer is there, and return it."""
        return until(lambda: self._draft_text(key), f"{key} is answering")

    def _draft_text(self, key: str) -> str:
        answer = self.get(f"/sessions/{key}/state")
        if answer.status != 200 or not answer.body["messages"]:
            return ""
        last = answer.body["messages"][-1]
        return text_of(last) if last["id"].startswith("draft:") else ""


class ExecutedGateway(RunningGateway):
    """What ``sessiond serve`` executes, at once: the command by itself takes as long as gunicorn.

    Gateways of fixtures are such ones; most others are started by the command.
    """

    command = (*GUNICORN, "web.wsgi:app")


class TwinGateway(ExecutedGateway):
    """Two of them over one database; each request goes to the one that the last did not go to."""

    def __init__(
        self, folder: Path, variables: dict[str, str] | None = None, **settings: object
    ) -> None:
        self._ports: Iterator[int] = iter(())
        super().__init__(folder, variables, **settings)
        twin = folder / "twin"
        twin.mkdir()
        shared = {"database_url": database_url(folder), "workspaces_dir": folder / "workspaces"}
        self._settings = shared | self._settings
        self._twin = ExecutedGateway(twin, variables, **(shared | settings))

    @property
    def port(self) -> int:
        """Return the port whose turn it is."""
        return next(self._ports, self._port)

    @port.setter
    def port(self, port: int) -> None:
        self._port = port

    @property
    def log(self) -> str:
        """Return what both have written."""
        return super().log + self._twin.log

    def start(self) -> None:
        """Start both, and wait for each by itself."""
        self._twin.start()
        self._ports = iter(())
        super().start()
        self._ports = itertools.cycle((self._port, self._twin.port))

    def kill(self) -> None:
        """Kill both."""
        self._twin.kill()
        super().kill()

    def terminate(self) -> None:
        """Terminate both, one after the other."""
        self._twin.terminate()
        super().terminate()


def _typed(headers: dict[str, str] | None, body: bytes | None) -> dict[str, str]:
    """Return headers that say what a body is, where they don't already."""
    given = headers or {}
    if body is None or any(name.lower() == "content-type" for name in given):
        return given
    return {"Content-Type": "application/json"} | given


def is_idle(snapshot: dict[str, Any]) -> bool:
    """Tell whether a snapshot shows a session without work."""
    return bool(snapshot) and not snapshot["processing"] and snapshot["queueDepth"] == 0


def text_of(message: dict[str, Any]) -> str:
    """Return the text of a message as history shows it."""
    return "".join(part["text"] for part in message["parts"] if part["type"] == "text")


def words(count: int, name: str = "word") -> str:
    """Return a prompt of so many different words; the demo model takes its delay for each."""
    return " ".join(f"{name}-{number}" for number in range(count))


class Background:
    """A call on a thread of its own; ``result`` waits for what it returned or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self._error = error

    @property
    def running(self) -> bool:
        """Tell whether the call has not returned yet."""
        return self._thread.is_alive()

    def result(self) -> Any:
        """Return what the call returned; raise what it raised."""
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the call has not returned before the deadline"
        if self._error is not None:
            raise self._error
        return self._value


def at_once(calls: Iterable[Callable[[Callable[[], object]], T]]) -> list[T]:
    """Make calls on threads; each gets a function that returns when all have called it."""
    made = list(calls)
    barrier = threading.Barrier(len(made))
    running = [
        Background(lambda call=call: call(lambda: barrier.wait(DEADLINE_S)))  # type: ignore[misc]
        for call in made
    ]
    return [each.result() for each in running]


@cache
def database_url(folder: Path) -> str:
    """Return the URL of the database of a folder."""
    if TWO_PROCESSES:
        url = shared_server().new_database(migrated=True)
        return url.render_as_string(hide_password=False)
    return f"sqlite:///{folder / 'sessiond.db'}"


@contextlib.contextmanager
def opened_log(folder: Path) -> Iterator[EventLog]:
    """Open a folder's log for reading; the gateway may go on writing it."""
    log = SqlEventLog(*_reading_engines(folder))
    try:
        yield log
    finally:
        log.close()


def _reading_engines(folder: Path) -> tuple[sa.Engine, sa.Engine]:
    url = parse_url(database_url(folder))
    return read_engine(url), read_engine(url)


def stored_events(folder: Path, key: str) -> list[StoredEvent]:
    """Return a session's whole log as it is stored."""
    return stored_stream(folder, stream_of(key))


def stored_stream(folder: Path, stream_id: str) -> list[StoredEvent]:
    """Return a stream as it is stored."""
    with opened_log(folder) as log:
        head = log.head(stream_id)
        return [] if head is None else list(log.read(head))


def events(folder: Path, key: str) -> list[e.Event]:
    """Return a session's whole log as events."""
    return [decode(stream_of(key), stored) for stored in stored_events(folder, key)]


def check_log(folder: Path, gateway: RunningGateway | None = None) -> None:
    """Check every stream of a folder's log, and that a running gateway agrees with it."""
    reader, _ = engines = _reading_engines(folder)
    with reader.connect() as connection:
        names = list(connection.scalars(sa.select(streams.c.stream_id)))
    assert names
    log = SqlEventLog(*engines)
    try:
        for name in names:
            head = log.head(name)
            assert head is not None
            _check_stream(log, head)
            if gateway is not None and name.startswith(STREAM_PREFIX):
                _check_digest(log, gateway, name)
    finally:
        log.close()


def _check_stream(log: EventLog, head: Head) -> None:
    name = head.stream_id
    stored = list(log.read(head))
    assert [each.seq for each in stored] == list(range(1, head.version + 1)), f"{name} has gaps"
    assert chain.verify(name, stored) == (head.version, head.hash), f"{name}: its head is another"
    epochs = [each.epoch for each in stored]
    assert epochs == sorted(epochs), f"{name}: an epoch fell"
    assert not epochs or epochs[-1] <= head.epoch, f"{name}: the head's epoch is an old one"
    if not name.startswith(STREAM_PREFIX):
        return
    decoded = [decode(name, each) for each in stored]
    _check_runs(name, decoded)
    assert state_at(log, head) == _folded(name, decoded), f"{name}: a snapshot is wrong"


def _check_runs(name: str, decoded: Iterable[e.Event]) -> None:
    """Check that runs follow one another, each with exactly one end; the last may be open."""
    running: str | None = None
    ended: set[str] = set()
    for event in decoded:
        if isinstance(event, e.RunStarted):
            assert running is None, f"{name}: {event.prompt_id} runs beside {running}"
            assert event.prompt_id not in ended, f"{name}: {event.prompt_id} runs again"
            running = event.prompt_id
        elif isinstance(event, RUN_ENDS):
            assert running == event.prompt_id, f"{name}: {event.prompt_id} ends without a start"
            ended.add(event.prompt_id)
            running = None


def _check_digest(log: EventLog, gateway: RunningGateway, name: str) -> None:
    """Check that the gateway's state is the one that the log folds to at the same place."""
    key = name.removeprefix(STREAM_PREFIX)
    live = gateway.get(f"/sessions/{quote(key)}/state?limit=1").body
    head = log.head(name)
    assert head is not None
    stored = log.read(head, before=live["seq"] + 1)
    state = _folded(name, [decode(name, each) for each in stored])
    assert digest_of(state) == live["digest"], f"{name}: the gateway's state is another"


def _folded(name: str, decoded: Iterable[e.Event]) -> SessionState:
    state = SessionState(name.removeprefix(STREAM_PREFIX))
    for event in decoded:
        state = evolve(state, event)
    return state
