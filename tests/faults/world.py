"""Gateways to raise faults in, and clients that outlive them."""

import contextlib
import dataclasses
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.acceptance.gateway import (
    DEADLINE_S,
    POLL_S,
    Answer,
    ExecutedGateway,
    RunningGateway,
    Stream,
    database_url,
    is_idle,
    parsed,
    until,
)
from tests.faults.checker import ReaderSeen, Seen, check

HEARTBEAT_S = 0.1
LEASE_S = 3.0
"""Short, as a new process waits for a part of it, and long for a process that gets no time."""

STREAM_S_MAX = 600.0
CUT = (OSError, http.client.HTTPException)
"""What a client sees of a process that ends: refused, reset, or an answer that breaks off."""


class FaultyGateway(ExecutedGateway):
    """The gateway, with what faults need: its processes, and a start of another kind."""

    def workers(self) -> list[int]:
        """Return the process ids of its workers."""
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(each) for each in path.read_text().split()] if path.exists() else []

    @property
    def worker(self) -> int:
        """Return the process id of its only worker."""
        (pid,) = self.workers()
        return pid

    def signal(self, number: signal.Signals) -> None:
        """Send the master a signal."""
        os.kill(self.pid, number)

    def start_with(self, **variables: str) -> None:
        """Start it with further variables of the environment, for this once."""
        before, self._variables = self._variables, self._variables | variables
        try:
            self.start()
        finally:
            self._variables = before

    def set(self, **settings: object) -> None:
        """Change settings; they count from the next start on."""
        self._settings = self._settings | settings

    @property
    def database(self) -> str:
        """Return the URL of its database."""
        return str(self._settings["database_url"])

    def until_dead(self, pid: int) -> None:
        """Wait until a worker is gone, then kill whatever has taken its place."""
        until(lambda: not is_alive(pid), f"the worker {pid} dies")
        self.kill()

    def check(self, seen: Seen | None = None, *, settled: bool = True) -> None:
        """Check the log, what was seen of it, and that this gateway agrees with it."""
        check(self.database, seen, gateways=[self.url], settled=settled)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


@dataclasses.dataclass
class Place:
    """Where gateways run: a folder, and a database that they share where they can."""

    folder: Path
    name: str
    url: str

    def gateway(self, **settings: object) -> FaultyGateway:
        """Return a gateway that is not started yet."""
        defaults: dict[str, object] = {
            "database_url": self.url or database_url(self.folder),
            "heartbeat_s": HEARTBEAT_S,
            "lease_s": LEASE_S,
        }
        return FaultyGateway(self.folder, None, **defaults | settings)


def path_of(session: str, rest: str = "") -> str:
    """Return the path of a session."""
    return f"/sessions/{quote(session, safe='')}{rest}"


def may_be_repeated(answer: Answer) -> bool:
    """Tell whether an answer asks the client to try again."""
    return answer.status == 503 and "Retry-After" in answer.headers


def prompt(
    gateways: RunningGateway | list[RunningGateway],
    seen: Seen,
    session: str,
    text: str,
    key: str,
    *,
    route: str = "enqueue",
    again: Callable[[Answer], bool] = may_be_repeated,
    deadline_s: float = DEADLINE_S,
) -> Answer:
    """Prompt a session, again with the same key until it is answered, and take note of that.

    With several gateways each attempt goes to the next one.
    """
    targets = gateways if isinstance(gateways, list) else [gateways]
    deadline = time.monotonic() + deadline_s
    noted = False
    for attempt in range(1_000_000):
        target = targets[attempt % len(targets)]
        with contextlib.suppress(*CUT):
            path, body = path_of(session, f"/{route}"), {"text": text}
            answer = target.post(path, body, **{"Idempotency-Key": key})
            if answer.status in (200, 202):
                seen.acknowledged(session, _prompt_id(answer), key)
            if not again(answer):
                return answer
        if not noted:
            seen.unacknowledged(session, key)
            noted = True
        assert time.monotonic() < deadline, f"{key} is not answered"
        time.sleep(POLL_S)
    raise AssertionError("unreachable")


def _prompt_id(answer: Answer) -> str:
    return str(answer.body.get("promptId", ""))


class Following:
    """A reader of a session on a thread of its own, which comes back however it is cut off."""

    def __init__(self, gateways: list[RunningGateway], session: str, seen: ReaderSeen) -> None:
        self._gateways = gateways
        self._session = session
        self._seen = seen
        self._stopped = threading.Event()
        self.connections = 0
        self.refused: list[tuple[int, Any]] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stopped.set()
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive(), "the reader does not stop"

    def has(self, kind: str) -> bool:
        """Tell whether a frame of this type has come."""
        return self.count(kind) > 0

    def count(self, kind: str) -> int:
        """Return how many frames of this type have come."""
        return sum(frame.data["type"] == kind for frame in self._seen.frames)

    @property
    def settled(self) -> bool:
        """Tell whether the newest frame says that nothing runs or waits, and something has."""
        if not self._seen.frames:
            return False
        data = self._seen.frames[-1].data
        return data["type"] == "session_state" and (
            is_idle(data["snapshot"]) and data["snapshot"]["messageCount"] > 0
        )

    def until_at(self, seq: int) -> None:
        """Wait until it has read so far."""
        until(
            lambda: (self._seen.last_id or 0) >= seq,
            f"a reader of {self._session} is at {seq}, not {self._seen.last_id}",
        )

    def _run(self) -> None:
        while not self._stopped.is_set():
            gateway = self._gateways[self.connections % len(self._gateways)]
            self.connections += 1
            with contextlib.suppress(*CUT), self._opened(gateway) as stream:
                if stream.status == 200:
                    for frame in parsed(self._lines(stream)):
                        self._seen.take(frame)
                elif stream.status not in (404, 503):
                    self.refused.append((stream.status, stream.read(1_000)))
            self._stopped.wait(POLL_S)

    def _opened(self, gateway: RunningGateway) -> Stream:
        path = path_of(self._session, f"/events?after={self._seen.last_id or 0}")
        return gateway.stream(path, deadline_s=STREAM_S_MAX)

    def _lines(self, stream: Stream) -> Iterator[bytes]:
        for line in stream.lines():  # a heartbeat at the latest
            yield line
            if self._stopped.is_set() and line == b"\n":
                return


def until_idle(gateway: RunningGateway, sessions: Iterable[str]) -> None:
    """Wait until nothing runs or waits in sessions, also of a gateway that starts only now."""

    def idle(session: str) -> bool:
        with contextlib.suppress(*CUT):
            answer = gateway.get(path_of(session))
            return answer.status == 404 or (
                answer.status == 200 and is_idle(answer.body["session"])
            )
        return False

    for session in sessions:
        until(lambda session=session: idle(session), f"{session} is idle")  # type: ignore[misc]


def head_of(gateway: RunningGateway, session: str) -> int:
    """Return the seq of a session's last event."""
    return int(gateway.get(path_of(session, "/state?limit=1")).body["seq"])


def may_wait(answer: Answer) -> bool:
    """Tell whether an answer asks the client to try again, or has no room in the queue yet."""
    return answer.status in (429, 503) and "Retry-After" in answer.headers


class Load:
    """Clients that prompt sessions, one thread and one reader each, until it is over.

    A client repeats a request with the same key where it was cut off or asked to try again;
    ``failed`` are all other answers that are no success.
    """

    def __init__(
        self, gateways: list[RunningGateway], seen: Seen, sessions: Iterable[str], text: str
    ) -> None:
        self._gateways = gateways
        self._seen = seen
        self._text = text
        self._stopped = threading.Event()
        self._readers = {
            session: Following(gateways, session, seen.reader(session)) for session in sessions
        }
        self._threads = [
            threading.Thread(target=self._prompt, args=(session,), daemon=True)
            for session in self._readers
        ]
        self.sent = 0
        self.failed: list[object] = []

    def __enter__(self) -> Self:
        for reader in self._readers.values():
            reader.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()
        for reader in self._readers.values():
            reader.__exit__(*exception)

    def stop(self) -> None:
        """Prompt no more."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a client still waits for its answer"

    def settle(self) -> None:
        """Prompt no more, wait until all is done and read, and check that nothing failed."""
        self.stop()
        until_idle(self._gateways[0], self._readers)
        for session, reader in self._readers.items():
            reader.until_at(head_of(self._gateways[0], session))
            self.failed += reader.refused
        assert not self.failed, self.failed[:5]

    def _prompt(self, session: str) -> None:
        number = 0
        while not self._stopped.is_set():
            number += 1
            try:
                answer = prompt(
                    self._gateways, self._seen, session, self._text, str(number), again=may_wait
                )
            except Exception as error:  # noqa: BLE001 - shown with the rest
                self.failed.append(error)
                return
            if answer.status == 202:
                self.sent += 1
            else:
                self.failed.append(answer)
