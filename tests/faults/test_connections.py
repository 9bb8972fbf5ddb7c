"""Connections that do nothing, send half a request, never read, or are reset."""

import contextlib
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.feed import WINDOW_BYTES_MAX
from tests.acceptance.gateway import DEADLINE_S, HOST, until, words
from tests.faults.checker import Seen
from tests.faults.conftest import Started
from tests.faults.world import FaultyGateway, Following, Place, head_of, path_of, prompt, until_idle

IDLE = 1_000
HALF = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Half: "
THREADS = 64
RESETS = 30
NEVER_READING = 20
RSS_KIB_MAX = NEVER_READING * 2 * WINDOW_BYTES_MAX // 1024
"""What a reader was sent and has not taken is a feed's window at most, in one piece."""

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing resets the connection."""


@contextlib.contextmanager
def connections(
    gateway: FaultyGateway, count: int, sent: bytes = b""
) -> Iterator[list[socket.socket]]:
    """Open connections that send this and no more."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            made = socket.create_connection((HOST, gateway.port), timeout=DEADLINE_S)
            opened.append(stack.enter_context(made))
            if sent:
                made.sendall(sent)
        yield opened


def test_a_thousand_idle_connections_and_half_sent_requests_freeze_nothing(
    sqlite_place: Place, started: Started, worker_class: str
) -> None:
    """There are more of either than a gthread worker has threads."""
    gateway = started(sqlite_place.gateway(worker_class=worker_class, threads=THREADS))
    seen = Seen()
    with connections(gateway, IDLE):
        answers_all(gateway, seen, "idle")
    with connections(gateway, THREADS + 8, HALF):
        answers_all(gateway, seen, "half")
    gateway.check(seen)


def answers_all(gateway: FaultyGateway, seen: Seen, session: str) -> None:
    """Check that whoever asks now is answered, before the deadline."""
    assert gateway.get("/health").status == 200
    assert prompt(gateway, seen, session, "hello", "key").status == 202
    until_idle(gateway, [session])


@pytest.mark.faults
def test_half_sent_requests_that_come_again_and_again_freeze_nothing(
    sqlite_place: Place, started: Started, worker_class: str
) -> None:
    gateway = started(sqlite_place.gateway(worker_class=worker_class, threads=THREADS))
    seen = Seen()
    for number in range(5):
        with connections(gateway, 2 * THREADS, HALF):
            answers_all(gateway, seen, f"half:{number}")
    gateway.check(seen)


def listen(gateway: FaultyGateway, session: str) -> socket.socket:
    """Ask for a session's events over a connection that takes little at once."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    made.settimeout(DEADLINE_S)
    made.connect((HOST, gateway.port))
    made.sendall(f"GET {path_of(session, '/events?after=0')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return made


def test_readers_that_are_reset_give_back_their_streams_and_the_run_goes_on(
    sqlite_place: Place, started: Started
) -> None:
    gateway = started(sqlite_place.gateway(demo_delay_ms=5, streams_max=RESETS + 2))
    seen = Seen()
    prompt(gateway, seen, "reset", words(200), "key")
    with Following([gateway], "reset", seen.reader("reset")) as reader:
        for _ in range(2):
            listening = [listen(gateway, "reset") for _ in range(RESETS)]
            for made in listening:
                assert made.recv(1)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                made.close()
        until_idle(gateway, ["reset"])
        reader.until_at(head_of(gateway, "reset"))
        assert reader.refused == []
        assert reader.connections == 1
    gateway.check(seen)


@pytest.mark.faults
@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="a process's memory is read from /proc"
)
def test_many_readers_that_never_read_cost_little_and_are_dropped(
    sqlite_place: Place, started: Started, worker_class: str
) -> None:
    gateway = started(
        sqlite_place.gateway(
            worker_class=worker_class,
            demo_delay_ms=0,
            demo_deltas=2_000,
            slow_reader_timeout_s=3,
            streams_max=NEVER_READING + 2,
        )
    )
    seen = Seen()
    text = "x" * 500
    ask(gateway, seen, text, "first")
    before = rss_kib(gateway)
    with contextlib.ExitStack() as stack:
        for _ in range(NEVER_READING):
            stack.enter_context(listen(gateway, "flood"))
        for number in range(5):
            ask(gateway, seen, text, str(number))
        assert rss_kib(gateway) - before < RSS_KIB_MAX

        def dropped() -> bool:
            with gateway.stream(path_of("flood", "/events")) as stream:
                return stream.status == 200

        until(dropped, "there is room for a reader again")
    gateway.check(seen)


def ask(gateway: FaultyGateway, seen: Seen, text: str, key: str) -> None:
    prompt(gateway, seen, "flood", text, key)
    until_idle(gateway, ["flood"])


def rss_kib(gateway: FaultyGateway) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{gateway.worker}/status").read_text())
    assert found is not None
    return int(found[1])
