"""A model call over a vendor's SDK, and how it is ended at once from another thread.

The SDKs and their HTTP library are imported on first use.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from actors.models._failures import Failures
from actors.models._sdk import CONNECT_TIMEOUT_S
from actors.models.base import ModelError, Part
from persistence.native import run_soon

if TYPE_CHECKING:
    import ssl

    import httpx2

CONNECTIONS_MAX = 1_000


class SdkStream(Protocol):
    """What this module needs of an SDK's stream of events."""

    response: "httpx2.Response"


S = TypeVar("S", bound=SdkStream)


def http_client(
    make: Callable[..., "httpx2.Client"],
    stall_timeout_s: float,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
) -> "httpx2.Client":
    """Return an HTTP client for one model, made by its SDK's factory of default clients.

    A connection serves one call: closing a call shuts its socket down, which must never be
    able to reach another call, and nothing stays open between calls.
    """
    import httpx2

    return make(
        timeout=httpx2.Timeout(stall_timeout_s, connect=connect_timeout_s),
        limits=httpx2.Limits(max_connections=CONNECTIONS_MAX, max_keepalive_connections=0),
        event_hooks={"request": [_follow]},
        verify=_trusted(),
    )


@cache
def _trusted() -> "ssl.SSLContext":
    """Return whom to trust, once for all clients: to read it takes longer than a short call."""
    import httpx2

    return httpx2.create_ssl_context()


@contextlib.contextmanager
def calling(
    begin: Callable[[], S], read: Callable[[S], Iterator[Part]], failures: Failures
) -> Iterator["Call[S]"]:
    """Give a call that ``begin`` makes and ``read`` turns into parts; leaving ends it."""
    call = Call(begin, read, failures)
    try:
        yield call
    finally:
        call.end()


class Call(Generic[S]):
    """A model call over an SDK's stream. Implements ModelStream.

    What blocks until the provider answers runs on a thread of its own, which is left behind
    when the call is closed meanwhile: nothing else ends a wait for a name server or a
    connection. It ends by its own timeouts, and lets go of what it had opened.
    """

    def __init__(
        self, begin: Callable[[], S], read: Callable[[S], Iterator[Part]], failures: Failures
    ) -> None:
        self._begin = begin
        self._read = read
        self._failures = failures
        self._lock = threading.Lock()
        self._settled = threading.Event()
        self._closed = False
        self._error: Exception | None = None
        self._stream: S | None = None
        self._connection: socket.socket | None = None

    def __iter__(self) -> Iterator[Part]:
        """See ModelStream; what is wrong after close() is that it was closed."""
        try:
            with self._failures.told():
                for part in self._read(self._open()):
                    self._check()
                    yield part
        except ModelError as error:
            if not self._closed:
                raise
            raise _closed() from error
        self._check()

    def close(self) -> None:
        """See ModelStream; shuts the socket down, so that a blocked read ends at once.

        The response is left to the thread that reads it: closing a socket does not wake a
        thread that waits for it, and its number may be another socket's by then.
        """
        with self._lock:
            self._closed = True
            if self._connection is not None:
                _shut_down(self._connection)
        self._settled.set()

    def end(self) -> None:
        """Close the call and its connection, from the thread that reads it."""
        self.close()
        with self._lock:
            stream, self._stream = self._stream, None
            connection, self._connection = self._connection, None
        if stream is not None:
            stream.response.close()
        if connection is not None:
            connection.close()

    def connected(self, connection: socket.socket) -> None:
        """Take note of the call's socket.

        A duplicate is kept: encryption replaces the socket object by another one, and shutting
        the duplicate down reaches the connection all the same.
        """
        with self._lock:
            if self._closed:
                _shut_down(connection)
                return
            if self._connection is not None:  # of an address that sent us elsewhere
                self._connection.close()
            self._connection = connection.dup()

    def _open(self) -> S:
        self._check()
        run_soon(self._begin_apart)
        self._settled.wait()
        self._check()
        if self._error is not None:
            raise self._error
        assert self._stream is not None
        return self._stream

    def _begin_apart(self) -> None:
        _SENDING.set(self)  # the thread's own, and so is its context
        try:
            self._keep(self._begin())
        except Exception as error:  # noqa: BLE001 - raised again where the call is read
            self._error = error
        finally:
            self._settled.set()

    def _keep(self, stream: S) -> None:
        with self._lock:
            if not self._closed:
                self._stream = stream
                return
        stream.response.close()

    def _check(self) -> None:
        if self._closed:
            raise _closed()


_SENDING: ContextVar[Call[Any] | None] = ContextVar("sending", default=None)
"""The call that this thread is sending the request of."""


def _follow(request: "httpx2.Request") -> None:
    """Have the call told of its connection, as soon as there is one."""
    call = _SENDING.get()
    if call is None:
        return

    def trace(step: str, about: Mapping[str, Any]) -> None:
        if step.endswith("connect_tcp.complete"):
            call.connected(about["return_value"].get_extra_info("socket"))

    request.extensions["trace"] = trace


def _shut_down(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _closed() -> ModelError:
    return ModelError("The call was closed.")
