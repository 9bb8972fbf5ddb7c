"""Load over HTTP/1.1 with kept-alive raw sockets, made to cost as little as it can.

One selector, requests made beforehand, answers read by Content-Length or, for streams, by how
they end. Greenlets would cost this process about as much as the answers cost the server.
"""

import re
import selectors
import socket
import time
from collections.abc import Callable

from benchmarks._measure import Figures, percentile

TIMEOUT_S = 60.0
RECEIVE_BYTES = 262_144
STREAM_END = b"0\r\n\r\n"

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_EVENT_ID = re.compile(rb"^id: (\d+)$", re.MULTILINE)


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """Return a whole request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class _Connection:
    """One kept-alive connection with at most one request under way."""

    def __init__(self, port: int, request: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = request
        self.received = b""
        self.sent_at = 0.0

    def send(self) -> None:
        self.received = b""
        self.sent_at = time.perf_counter()
        self.socket.sendall(self.request)

    def receive(self) -> None:
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionError(f"closed after {self.received[-200:]!r}")
        self.received += data

    def answered(self) -> bool:
        """Tell whether the answer is whole. Raises RuntimeError when it is not a success."""
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self.received[:500].decode(errors="replace"))
        length = _LENGTH.search(head)
        return body.endswith(STREAM_END) if length is None else len(body) >= int(length[1])


def requests(port: int, requests: list[str], seconds: float) -> Figures:
    """Send each request over and over on a connection of its own; return rate and latency."""
    connections = [_Connection(port, request.encode()) for request in requests]
    _rounds(connections, lambda _done: False)  # warm: sessions loaded, connections accepted
    latencies: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    def go_on(connection: _Connection) -> bool:
        now = time.perf_counter()
        latencies.append(now - connection.sent_at)
        return now < end

    _rounds(connections, go_on)
    elapsed = time.perf_counter() - began
    _close(connections)
    return {
        "per_s": len(latencies) / elapsed,
        "p50_ms": percentile(latencies, 0.5) * 1_000,
        "p99_ms": percentile(latencies, 0.99) * 1_000,
    }


def streams(port: int, requests: list[str], rounds: int) -> Figures:
    """Send all requests at once and read their streams to the end, ``rounds`` times over."""
    connections = [_Connection(port, request.encode()) for request in requests]
    left = [rounds * len(connections)]

    def go_on(_connection: _Connection) -> bool:
        left[0] -= 1
        return left[0] >= len(connections)

    began = time.perf_counter()
    _rounds(connections, go_on)
    elapsed = time.perf_counter() - began
    _close(connections)
    return {"per_s": rounds * len(connections) / elapsed}


def _rounds(connections: list[_Connection], go_on: Callable[[_Connection], bool]) -> None:
    """Send on all; where an answer is whole ask ``go_on`` whether to send again."""
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        under_way = len(connections)
        while under_way:
            ready = selector.select(TIMEOUT_S)
            if not ready:
                raise TimeoutError(f"{under_way} requests have no answer")
            for key, _ in ready:
                connection = key.data
                connection.receive()
                if not connection.answered():
                    continue
                if go_on(connection):
                    connection.send()
                else:
                    under_way -= 1


def fan_out(port: int, readers: int, events: str, prompt: str, prompts: int) -> Figures:
    """Read one session's events on many connections while prompts go in one after the other.

    Returns frames/s over all readers, frames and bytes of each reader, and for each frame by how
    much the last reader had it after the first.
    """
    connections = [_Connection(port, events.encode()) for _ in range(readers)]
    seen = [_Arrivals() for _ in connections]
    with selectors.DefaultSelector() as selector:
        for connection, arrivals in zip(connections, seen, strict=True):
            selector.register(connection.socket, selectors.EVENT_READ, (connection, arrivals))
            connection.send()
        _until(selector, lambda: all(arrivals.newest for arrivals in seen))
        for arrivals in seen:
            arrivals.begin()
        writer = _Connection(port, prompt.encode())
        writer_seen = _Arrivals()
        selector.register(writer.socket, selectors.EVENT_READ, (writer, writer_seen))
        began = time.perf_counter()
        for _ in range(prompts):
            writer.send()
            _until(selector, writer.answered)
        newest = max(arrivals.newest for arrivals in seen)
        _until(selector, lambda: min(arrivals.newest for arrivals in seen) >= newest)
        elapsed = time.perf_counter() - began
    _close([*connections, writer])
    return _fan_out_figures(seen, elapsed)


class _Arrivals:
    """When which frame came to one reader."""

    def __init__(self) -> None:
        self.newest = 0
        self.bytes = 0
        self.at: dict[int, float] = {}
        self._tail = b""

    def begin(self) -> None:
        self.bytes = 0
        self.at = {}

    def take(self, data: bytes) -> None:
        now = time.perf_counter()
        self.bytes += len(data)
        lines = self._tail + data
        whole = lines.rfind(b"\n") + 1
        self._tail = lines[whole:]
        for seq in _EVENT_ID.findall(lines[:whole]):
            self.newest = int(seq)
            self.at[self.newest] = now


def _until(selector: selectors.BaseSelector, done: Callable[[], bool]) -> None:
    while not done():
        ready = selector.select(TIMEOUT_S)
        if not ready:
            raise TimeoutError("nothing more comes")
        for key, _ in ready:
            connection, arrivals = key.data
            before = len(connection.received)
            connection.receive()
            arrivals.take(connection.received[before:])
            if b"text/event-stream" in connection.received[:400] or arrivals.newest:
                connection.received = b""


def _fan_out_figures(seen: list[_Arrivals], elapsed_s: float) -> Figures:
    frames = seen[0].at.keys()
    behind = []
    for seq in frames:
        at = [arrivals.at[seq] for arrivals in seen]
        behind.append(max(at) - min(at))
    return {
        "per_s": sum(len(arrivals.at) for arrivals in seen) / elapsed_s,
        "frames": len(frames),
        "bytes": seen[0].bytes,
        "behind_p50_ms": percentile(behind, 0.5) * 1_000,
        "behind_max_ms": max(behind) * 1_000,
    }


def _close(connections: list[_Connection]) -> None:
    for connection in connections:
        connection.socket.close()
