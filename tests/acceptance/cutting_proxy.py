"""A proxy that cuts streams: what a client makes of a connection that breaks off."""

import contextlib
import socket
import threading

from tests.acceptance.gateway import DEADLINE_S, HOST


class CuttingProxy:
    """Passes bytes on, and cuts the first connections that stream after so many of them."""

    def __init__(self, port: int, cuts: list[int]) -> None:
        self._to = port
        self._cuts = cuts
        self.cut = 0
        self._listener = socket.create_server((HOST, 0))
        self.url = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(DEADLINE_S)

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=[client], daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, socket.create_connection((HOST, self._to)) as server:
            request = client.recv(65_536)
            left = None
            if any(each in request for each in (b"/events?after=", b"/log?")) and self._cuts:
                left = self._cuts.pop(0)
            server.sendall(request)
            back = threading.Thread(target=self._copy, args=[server, client, left], daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                while data := client.recv(65_536):
                    server.sendall(data)
                server.shutdown(socket.SHUT_RDWR)
            back.join(DEADLINE_S)

    def _copy(self, server: socket.socket, client: socket.socket, left: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(1_024):
                if left is not None and len(data) >= left:
                    client.sendall(data[:left])
                    self.cut += 1
                    break
                left = None if left is None else left - len(data)
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)
