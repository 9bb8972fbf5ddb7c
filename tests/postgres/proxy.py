"""A TCP proxy that cuts a connection at its COMMIT, before it arrives or before its answer does."""

import contextlib
import socket
import threading
from typing import Literal

Cut = Literal["nowhere", "before", "after"]

COMMIT = b"COMMIT\0"
READY = b"Z\0\0\0\x05I"
"""The server is done, and in no transaction."""

CHUNK = 1 << 16


class CommitProxy:
    """Passes bytes on to a server, until it is told to cut; then it cuts the next COMMIT."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = [self._listener]
        self.port: int = self._listener.getsockname()[1]
        self.cut: Cut = "nowhere"
        self.cuts = 0
        self._start(self._accept)

    def close(self) -> None:
        """Cut all connections and stop."""
        for each in self._sockets:
            _close(each)
        for thread in self._threads:
            thread.join()

    def _start(self, *work: object) -> None:
        function, *arguments = work
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._sockets += [client, server]
                self._start(self._ask, client, server, committing := threading.Event())
                self._start(self._answer, client, server, committing)

    def _ask(
        self, client: socket.socket, server: socket.socket, committing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                if self.cut != "nowhere" and COMMIT in data:
                    self.cuts += 1
                    if self.cut == "before":
                        break
                    committing.set()
                server.sendall(data)
        if not committing.is_set():
            _close(client, server)

    def _answer(
        self, client: socket.socket, server: socket.socket, committing: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK):
                if not committing.is_set():
                    client.sendall(data)
                elif READY in data:  # committed, and nobody is told
                    break
        _close(client, server)


def _close(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
