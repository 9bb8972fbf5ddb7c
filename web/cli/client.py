"""A running gateway, as the command line's conversations ask it: calls, and streams that resume."""

import contextlib
import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

import click

from web.settings import Settings

CALL_TIMEOUT_S = 30.0
PROBE_TIMEOUT_S = 5.0
SILENCE_S = 60.0
"""A stream that says nothing for so long is taken as lost: a gateway sends heartbeats."""

RETRY_S = (0.2, 0.5, 1.0, 2.0, 2.0, 5.0, 5.0, 5.0, 10.0, 10.0)
"""How long to wait before each attempt to come back to a stream; then it is given up."""

URL_VARIABLE = "SESSIOND_URL"

url_option = click.option(
    "--url",
    envvar=URL_VARIABLE,
    show_envvar=True,
    help="Where the gateway runs; by default where it would listen.",
)


class Refused(click.ClickException):
    """The gateway answered with an error; its status is in ``status``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Unreachable(click.ClickException):
    """No gateway answers there."""


class Client:
    """Asks one gateway, with one token; every failure is a ClickException that says what to do."""

    def __init__(self, url: str, token: str | None) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        port = _port(parts)
        if parts.scheme not in ("http", "https") or not parts.hostname or port is None:
            raise click.UsageError(
                f"{url} is no address of a gateway: it looks like http://localhost:8787."
            )
        self.url = parts.geturl().rstrip("/")
        self._tls = parts.scheme == "https"
        self._host = parts.hostname
        self._port = port
        self._base = parts.path.rstrip("/")
        self._token = token

    @property
    def has_token(self) -> bool:
        """Tell whether it shows one."""
        return self._token is not None

    def answers(self) -> bool:
        """Tell whether a gateway listens there."""
        try:
            return "ready" in self.call("GET", "/health", timeout_s=PROBE_TIMEOUT_S)
        except (Refused, Unreachable, TypeError):
            return False

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float | None = CALL_TIMEOUT_S,
        headers: dict[str, str] | None = None,
    ) -> Any:  # noqa: ANN401 - JSON
        """Return what the gateway answers. Raises Refused or Unreachable."""
        with contextlib.closing(self._connection(timeout_s)) as connection:
            response = self._send(connection, method, path, body, headers or {})
            try:
                return json.loads(response.read())
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._unreachable(error) from error

    def open(self, path: str, accept: str) -> "Lines":
        """Return the lines of a streaming answer. Raises Refused or Unreachable."""
        connection = self._connection(SILENCE_S)
        try:
            connection.connect()
            sock = socket.socket(fileno=os.dup(connection.sock.fileno()))
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            response = self._send(connection, "GET", path, None, {"Accept": accept})
        except BaseException:
            sock.close()
            connection.close()
            raise
        return Lines(connection, sock, response)

    def _connection(self, timeout_s: float | None) -> http.client.HTTPConnection:
        if not self._tls:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            self._host, self._port, timeout=timeout_s, context=context
        )

    def _send(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: object,
        headers: dict[str, str],
    ) -> http.client.HTTPResponse:
        given = {"User-Agent": "sessiond-cli", **headers}
        content = None if body is None else json.dumps(body).encode()
        if content is not None:
            given["Content-Type"] = "application/json"
        if self._token is not None:
            given["Authorization"] = f"Bearer {self._token}"
        try:
            connection.request(method, self._base + path, content, given)
            response = connection.getresponse()
            if response.status >= 400:
                raise self._refusal(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error
        return response

    def _refusal(self, status: int, content: bytes) -> Refused:
        if status == 401:
            wants = "wants a token" if self._token is None else "does not take this token"
            todo = "give one by --token or SESSIOND_TOKEN"
            return Refused(status, f"The gateway at {self.url} {wants}: {todo}.")
        said = f"The gateway at {self.url} answered {status}."
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = str(json.loads(content)["error"])
        if status == 403:
            said = f"{said} sessiond token issue makes one that is."
        return Refused(status, said)

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"No gateway answers at {self.url}: {error or type(error).__name__}. "
            "Start one by sessiond serve, or name another by --url."
        )


class Lines:
    """The lines of an open answer; ``close`` may be called from any thread, and ends them.

    ``broken`` tells that they ended before the answer did.
    """

    def __init__(
        self,
        connection: http.client.HTTPConnection,
        sock: socket.socket,
        response: http.client.HTTPResponse,
    ) -> None:
        self._connection = connection
        self._sock = sock
        self._response = response
        self.broken = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield lines until the answer ends or breaks off."""
        try:
            yield from self._response
        except (OSError, http.client.HTTPException, ValueError):
            self.broken = True
        finally:
            self._response.close()
            self._connection.close()

    def close(self) -> None:
        """Drop the connection; who reads sees its end."""
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


def _port(parts: SplitResult) -> int | None:
    """Return the port of an address, None where it is no number that can be one."""
    try:
        return parts.port or {"https": 443}.get(parts.scheme, 80)
    except ValueError:
        return None


def running_client(settings: Settings, url: str | None) -> Client | None:
    """Return the gateway at ``url``, by default the one that runs where it would, or None."""
    client = client_of(settings, url)
    return client if url is not None or client.answers() else None


def client_of(settings: Settings, url: str | None) -> Client:
    """Return the gateway at ``url``, by default the one that listens where it would."""
    token = None if settings.token is None else settings.token.get_secret_value()
    return Client(url or own_url(settings), token)


def own_url(settings: Settings) -> str:
    """Return where a gateway with these settings listens."""
    host = settings.bind.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - where to call
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def session_path(key: str, *rest: str, **query: object) -> str:
    """Return the path of a session's resource; parameters that are None are left out.

    Raises UsageError for a key that can't stand in a path.
    """
    if "/" in key or key in ("", ".", ".."):
        raise click.UsageError(f"{key!r} is no session's key: docs/http.md says what is one.")
    path = "/".join(["/sessions", quote(key, safe=":@~"), *[quote(each, safe="") for each in rest]])
    return with_query(path, **query)


def with_query(path: str, **query: object) -> str:
    """Return a path with parameters; those that are None are left out."""
    given = urlencode({name: value for name, value in query.items() if value is not None})
    return f"{path}?{given}" if given else path


class Backoff:
    """Says how long to wait before each attempt, until the last; progress starts it anew."""

    def __init__(self) -> None:
        self._attempts = 0

    def reset(self) -> None:
        """Note that something came."""
        self._attempts = 0

    def delay_s(self, error: click.ClickException | None = None) -> float:
        """Return the time before the next attempt. Raises ``error``, or another, after the last."""
        if self._attempts >= len(RETRY_S):
            raise error or Unreachable("The stream ends again and again; is the gateway busy?")
        self._attempts += 1
        return RETRY_S[self._attempts - 1]
