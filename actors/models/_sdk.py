"""What the models over vendors' SDKs share: content as it grows, closing a call, and errors.

The SDKs and their HTTP library are imported on first use.
"""

import abc
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import msgspec

from actors.models.base import Finished, ModelError, Part
from actors.session.events import TextDelta, ThinkingDelta, ToolInputDelta
from actors.session.messages import AssistantMessage, Block, Text, Thinking, ToolCall, Usage

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 10.0
CONNECTIONS_MAX = 1_000
RETRY_AFTER_S_MAX = 60.0
"""A provider that asks for a longer pause than this is not asked again."""
ERROR_CHARACTERS_MAX = 500
KEY_CHARACTERS_MIN = 8
"""A shorter key is a placeholder, such as "none" for a local server, and no secret."""

STATUS_OF_TYPE = {
    "api_error": 500,
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "timeout_error": 504,
}
"""The status an error would have had, for errors that come when the answer has begun."""

RETRYABLE = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)

T = TypeVar("T")
B = TypeVar("B", bound="OpenBlock")


class Once(Generic[T]):
    """Makes a value on first use; any number of threads may ask for it."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        """Return the value. Blocks while another thread makes it."""
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


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
        event_hooks={"response": [_refuse_long_pause]},
    )


def _refuse_long_pause(response: "httpx2.Response") -> None:
    """Tell the SDK not to wait; its own waits end only when the provider says so."""
    for header, per_second in (("retry-after", 1), ("retry-after-ms", 1_000)):
        pause = response.headers.get(header, "0")
        try:
            short = float(pause) / per_second <= RETRY_AFTER_S_MAX
        except ValueError:
            short = False  # a date: the provider's clock and ours would have to agree
        if not short:
            response.headers["x-should-retry"] = "false"


def well_formed(text: str) -> str:
    """Return the text with lone surrogates replaced: JSON may hold them, the log may not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


class OpenBlock(abc.ABC):
    """A content block that is being streamed; ``index`` is its place in the message."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._pieces: list[str] = []

    def add(self, text: str | None) -> Iterator[Part]:
        """Take more of the block and yield its delta; nothing yields nothing."""
        if text:
            piece = well_formed(text)
            self._pieces.append(piece)
            yield self._delta(piece)

    @abc.abstractmethod
    def whole(self) -> Block:
        """Return the block as it is now. Raises ModelError."""

    @abc.abstractmethod
    def _delta(self, text: str) -> Part: ...

    def _joined(self) -> str:
        return "".join(self._pieces)


class OpenText(OpenBlock):
    """Text that is being streamed."""

    def whole(self) -> Block:
        """See OpenBlock.whole."""
        return Text(self._joined())

    def _delta(self, text: str) -> Part:
        return TextDelta(self.index, text)


class OpenThinking(OpenBlock):
    """Thinking that is being streamed."""

    signature = ""

    def whole(self) -> Block:
        """See OpenBlock.whole."""
        return Thinking(self._joined(), self.signature)

    def _delta(self, text: str) -> Part:
        return ThinkingDelta(self.index, text)


class OpenToolCall(OpenBlock):
    """A tool call whose arguments are being streamed, as JSON text."""

    def __init__(self, index: int, call_id: str, name: str) -> None:
        super().__init__(index)
        self.call_id = well_formed(call_id)
        self.name = well_formed(name)

    def whole(self) -> Block:
        """See OpenBlock.whole; no text at all means no arguments."""
        text = self._joined()
        try:
            # Stricter than json.loads: what it takes, the log's encoder takes as well.
            arguments = msgspec.json.decode(text) if text.strip() else {}
        except msgspec.DecodeError as error:
            raise ModelError(
                f"The model asked for the tool {self.name!r} with arguments that are not valid "
                f"JSON: {error}"
            ) from error
        return ToolCall(self.call_id, self.name, arguments)

    def _delta(self, text: str) -> Part:
        return ToolInputDelta(self.index, self.call_id, self.name, text)


class Answer:
    """An assistant's message that is being streamed: its blocks in order of appearance."""

    def __init__(self, provider: str, model_id: str) -> None:
        self._provider = provider
        self._model_id = model_id
        self._blocks: list[OpenBlock] = []
        self.stop_reason = ""
        self.usage = Usage()

    @property
    def next_index(self) -> int:
        """The index that the next block will have."""
        return len(self._blocks)

    def open(self, block: B) -> B:
        """Append a block, made with next_index, and return it."""
        self._blocks.append(block)
        return block

    def going_on(self, kind: type[B]) -> B:
        """Return the last block if it is of this kind, else a new one."""
        last = self._blocks[-1] if self._blocks else None
        return last if isinstance(last, kind) else self.open(kind(self.next_index))

    def finished(self) -> Finished:
        """Return the whole message. Raises ModelError."""
        content = tuple(block.whole() for block in self._blocks)
        stop_reason = self.stop_reason
        # Some servers say "stop" when what stopped them is a tool call.
        if stop_reason == "stop" and any(isinstance(block, ToolCall) for block in content):
            stop_reason = "tool_use"
        return Finished(
            AssistantMessage(content, 0, self._provider, self._model_id, stop_reason, self.usage)
        )


class SdkStream(Protocol):
    """What this module needs of an SDK's stream of events."""

    response: "httpx2.Response"


class Failures:
    """Tells a vendor's exceptions as ModelError, without the key."""

    def __init__(
        self,
        provider: str,
        api_key: str,
        stall_timeout_s: float,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self._provider = provider
        self._api_key = api_key
        self._stall_timeout_s = stall_timeout_s
        self._connect_timeout_s = connect_timeout_s

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise whatever is raised inside as ModelError."""
        try:
            yield
        except ModelError:
            raise
        except Exception as error:
            raise self._tell(error) from error

    def ended_early(self) -> ModelError:
        """Return the error for an answer whose end never came."""
        return ModelError(f"{self._provider} ended its answer early.", retryable=True)

    def _tell(self, error: Exception) -> ModelError:
        import httpx2

        provider = self._provider
        for cause in (error, error.__cause__):
            if isinstance(cause, httpx2.ConnectTimeout):
                return ModelError(
                    f"{provider} could not be reached in {self._connect_timeout_s:g} s.",
                    retryable=True,
                )
            if isinstance(cause, httpx2.TimeoutException):
                return ModelError(
                    f"{provider} sent nothing for {self._stall_timeout_s:g} s.", retryable=True
                )
            if isinstance(cause, httpx2.LocalProtocolError | httpx2.UnsupportedProtocol):
                # The text may quote a header, and so the key.
                return ModelError(f"{provider} can't be called: {type(cause).__name__}.")
            if isinstance(cause, httpx2.HTTPError | OSError):
                reason = self._safe(str(cause)) or type(cause).__name__
                return ModelError(f"The connection to {provider} failed: {reason}", retryable=True)
        status, body = getattr(error, "status_code", None), getattr(error, "body", None)
        if status is not None or body is not None:
            return self._tell_report(status, body)
        if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
            return ModelError(f"{provider} sent something that is not JSON.")
        return ModelError(
            f"The call to {provider} failed: {type(error.__cause__ or error).__name__}."
        )

    def _tell_report(self, status: int | None, body: object) -> ModelError:
        """Tell an error that the provider itself reported, in its own words."""
        said = body.get("error", body) if isinstance(body, Mapping) else body
        report = said if isinstance(said, Mapping) else {"message": said}
        if status is None or status < HTTPStatus.BAD_REQUEST:
            status = _status_in(report)  # the answer had begun, and so had a status of its own
        text = report.get("message") or report.get("detail")
        reported = "reported an error" if status is None else f"answered {status}"
        words = f": {self._safe(text)}" if isinstance(text, str) else "."
        return ModelError(
            f"{self._provider} {reported}{words}",
            status=status,
            retryable=status is not None
            and (status in RETRYABLE or status >= HTTPStatus.INTERNAL_SERVER_ERROR),
        )

    def _safe(self, text: str) -> str:
        if len(self._api_key) >= KEY_CHARACTERS_MIN:
            text = text.replace(self._api_key, "[key]")
        return well_formed(" ".join(text.split()))[:ERROR_CHARACTERS_MAX]


def _status_in(said: Mapping[str, Any]) -> int | None:
    code = said.get("code")
    if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) <= 599:
        return int(code)
    for name in (said.get("type"), code):
        if isinstance(name, str) and name in STATUS_OF_TYPE:
            return STATUS_OF_TYPE[name]
    return None


class Call:
    """A model call over an SDK's stream. Implements ModelStream."""

    def __init__(self, stream: SdkStream, parts: Iterator[Part], failures: Failures) -> None:
        self._response = stream.response
        self._parts = parts
        self._failures = failures
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Part]:
        """See ModelStream; what is wrong after close() is that it was closed."""
        try:
            with self._failures.told():
                for part in self._parts:
                    if self._closed.is_set():
                        break
                    yield part
        except ModelError as error:
            if not self._closed.is_set():
                raise
            raise _closed() from error
        if self._closed.is_set():
            raise _closed()

    def close(self) -> None:
        """See ModelStream; shuts the socket down, so that a blocked read ends at once.

        The response is left to the thread that reads it: closing a socket does not wake a
        thread that waits for it, and its number may be another socket's by then.
        """
        self._closed.set()
        stream = self._response.extensions.get("network_stream")
        connection = stream.get_extra_info("socket") if stream is not None else None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Close the call and its connection, from the thread that began it."""
        self.close()
        self._response.close()


def _closed() -> ModelError:
    return ModelError("The call was closed.")
