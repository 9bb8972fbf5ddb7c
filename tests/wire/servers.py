"""A scripted server, and the two wire protocols it can speak."""

import json
import socket
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from actors.session.messages import Usage
from tests.wire.lists import Offer, anthropic_list, openai_list

DEADLINE_S = 60.0
IDLE_S = 10.0
"""How long a connection is kept on which no request comes."""


class Say(NamedTuple):
    pieces: Sequence[str]


class Think(NamedTuple):
    """Thinking; ``redacted`` is what it is when it comes encrypted."""

    pieces: Sequence[str]
    signature: str = ""
    redacted: str = ""


class Ask(NamedTuple):
    """A tool call whose arguments come in pieces."""

    call_id: str
    name: str
    pieces: Sequence[str]


class Finish(NamedTuple):
    stop_reason: str = "stop"
    usage: Usage = Usage()
    reasoning_tokens: int | None = None


class Raw(NamedTuple):
    """Bytes of the body as they are."""

    data: bytes


class Report(NamedTuple):
    """An error inside an answer that has begun."""

    kind: str
    message: str


class Stall(NamedTuple):
    """Nothing until the server is released."""


class Meet(NamedTuple):
    """Nothing until every party of the barrier is here."""

    barrier: threading.Barrier


class Cut(NamedTuple):
    """The connection, closed in the middle of the answer."""


class Refuse(NamedTuple):
    """A whole answer: an error. ``fields`` come in addition to its message."""

    status: int
    message: str
    headers: Mapping[str, str] = {}
    fields: Mapping[str, Any] = {}


Listing = Sequence[Offer] | Refuse | Raw | Stall | Meet
"""What GET /models is answered with; after a meeting with an empty list."""

Reply = Sequence["Step"] | Refuse | Stall
"""What a call is answered with; a stall is a request that was read, and nothing after it."""

Step = Say | Think | Ask | Finish | Raw | Report | Stall | Meet | Cut


class Recorded(NamedTuple):
    """A request; the headers' names are in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class ToldResult(NamedTuple):
    call_id: str
    text: str


class Wire(Protocol):
    """One provider's protocol: what it sends, and what it was sent."""

    def encode(self, steps: Iterable[Step]) -> Iterator[bytes | Stall | Meet | Cut]: ...

    def refusal(self, refuse: Refuse) -> dict[str, Any]: ...

    def listing(self, offers: Iterable[Offer]) -> dict[str, Any]: ...

    def told_tools(self, body: dict[str, Any]) -> list[str]: ...

    def told_calls(self, body: dict[str, Any]) -> list[Ask]: ...

    def told_results(self, body: dict[str, Any]) -> list[ToldResult]: ...


class OpenAIWire:
    """Chat Completions."""

    reasons: Mapping[str, str] = {"tool_use": "tool_calls"}
    listing = staticmethod(openai_list)

    def encode(self, steps: Iterable[Step]) -> Iterator[bytes | Stall | Meet | Cut]:
        calls = 0
        yield self._delta({"role": "assistant", "content": ""})
        for step in steps:
            match step:
                case Say(pieces):
                    yield from (self._delta({"content": piece}) for piece in pieces)
                case Think(pieces, _, _):
                    yield from (self._delta({"reasoning_content": piece}) for piece in pieces)
                case Ask(call_id, name, pieces):
                    head = {"id": call_id, "type": "function"}
                    yield self._call(calls, head, {"name": name, "arguments": ""})
                    for piece in pieces:
                        yield self._call(calls, {}, {"arguments": piece})
                    calls += 1
                case Finish(stop_reason, usage, reasoning):
                    yield self._delta({}, self.reasons.get(stop_reason, stop_reason))
                    counted = self._usage(usage)
                    if reasoning is not None:
                        counted["completion_tokens_details"] = {"reasoning_tokens": reasoning}
                    yield self._event({"choices": [], "usage": counted})
                    yield b"data: [DONE]\n\n"
                case Report(kind, message):
                    yield self._event({"error": {"type": kind, "message": message}})
                case Raw(data):
                    yield data
                case _:
                    yield step

    def refusal(self, refuse: Refuse) -> dict[str, Any]:
        error = {"message": refuse.message, "type": "test", "param": None, "code": None}
        return {"error": {**error, **refuse.fields}}

    def told_tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["function"]["name"] for tool in body.get("tools", ())]

    def told_calls(self, body: dict[str, Any]) -> list[Ask]:
        return [
            Ask(call["id"], call["function"]["name"], [call["function"]["arguments"]])
            for message in body["messages"]
            for call in message.get("tool_calls", ())
        ]

    def told_results(self, body: dict[str, Any]) -> list[ToldResult]:
        return [
            ToldResult(message["tool_call_id"], message["content"])
            for message in body["messages"]
            if message["role"] == "tool"
        ]

    def _call(self, index: int, head: dict[str, Any], function: dict[str, Any]) -> bytes:
        return self._delta({"tool_calls": [{"index": index, **head, "function": function}]})

    def _delta(self, delta: dict[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return self._event({"choices": [choice], "usage": None})

    def _event(self, fields: dict[str, Any]) -> bytes:
        chunk = {"id": "r1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return b"data: " + json.dumps({**chunk, **fields}).encode() + b"\n\n"

    def _usage(self, usage: Usage) -> dict[str, Any]:
        prompt = usage.input + usage.cache_read + usage.cache_write
        return {
            "prompt_tokens": prompt,
            "completion_tokens": usage.output,
            "total_tokens": prompt + usage.output,
            "prompt_tokens_details": {
                "cached_tokens": usage.cache_read,
                "cache_write_tokens": usage.cache_write,
            },
        }


class AnthropicWire:
    """The Messages API."""

    reasons: Mapping[str, str] = {
        "stop": "end_turn",
        "length": "max_tokens",
        "content_filter": "refusal",
    }
    listing = staticmethod(anthropic_list)

    def encode(self, steps: Iterable[Step]) -> Iterator[bytes | Stall | Meet | Cut]:
        steps = list(steps)
        usage = next((step.usage for step in steps if isinstance(step, Finish)), Usage())
        yield self._start(usage)
        yield self._event("ping")
        index = 0
        head: dict[str, Any]
        for step in steps:
            match step:
                case Say(pieces):
                    deltas = [{"type": "text_delta", "text": piece} for piece in pieces]
                    yield from self._block(index, {"type": "text", "text": ""}, deltas)
                case Think(_, _, redacted) if redacted:
                    head = {"type": "redacted_thinking", "data": redacted}
                    yield from self._block(index, head, [])
                case Think(pieces, signature, _):
                    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
                    deltas.append({"type": "signature_delta", "signature": signature})
                    yield from self._block(index, {"type": "thinking", "thinking": ""}, deltas)
                case Ask(call_id, name, pieces):
                    head = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
                    kind = "input_json_delta"
                    deltas = [{"type": kind, "partial_json": piece} for piece in ["", *pieces]]
                    yield from self._block(index, head, deltas)
                case Finish(stop_reason, _, reasoning):
                    reason = self.reasons.get(stop_reason, stop_reason)
                    delta = {"stop_reason": reason, "stop_sequence": None}
                    counted: dict[str, Any] = {"output_tokens": usage.output}
                    if reasoning is not None:
                        counted["output_tokens_details"] = {"thinking_tokens": reasoning}
                    yield self._event("message_delta", delta=delta, usage=counted)
                    yield self._event("message_stop")
                case Report(kind, message):
                    yield self._event("error", error={"type": kind, "message": message})
                case Raw(data):
                    yield b"event: content_block_delta\n" + data
                case _:
                    yield step
            index += isinstance(step, Say | Think | Ask)

    def refusal(self, refuse: Refuse) -> dict[str, Any]:
        error = {"type": "test", "message": refuse.message, **refuse.fields}
        return {"type": "error", "error": error}

    def told_tools(self, body: dict[str, Any]) -> list[str]:
        return [tool["name"] for tool in body.get("tools", ())]

    def told_calls(self, body: dict[str, Any]) -> list[Ask]:
        return [
            Ask(block["id"], block["name"], [json.dumps(block["input"], separators=(",", ":"))])
            for block in self._blocks(body)
            if block["type"] == "tool_use"
        ]

    def told_results(self, body: dict[str, Any]) -> list[ToldResult]:
        return [
            ToldResult(block["tool_use_id"], "".join(part["text"] for part in block["content"]))
            for block in self._blocks(body)
            if block["type"] == "tool_result"
        ]

    def _blocks(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for message in body["messages"]:
            yield from message["content"]

    def _start(self, usage: Usage) -> bytes:
        counted = {
            "input_tokens": usage.input,
            "cache_read_input_tokens": usage.cache_read,
            "cache_creation_input_tokens": usage.cache_write,
            "output_tokens": 1,
        }
        message: dict[str, Any] = {
            "id": "r1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": counted,
        }
        return self._event("message_start", message=message)

    def _block(
        self, index: int, head: dict[str, Any], deltas: Iterable[dict[str, Any]]
    ) -> Iterator[bytes]:
        yield self._event("content_block_start", index=index, content_block=head)
        for delta in deltas:
            yield self._event("content_block_delta", index=index, delta=delta)
        yield self._event("content_block_stop", index=index)

    def _event(self, kind: str, **fields: object) -> bytes:
        data = json.dumps({"type": kind, **fields})
        return f"event: {kind}\ndata: {data}\n\n".encode()


class _Http(ThreadingHTTPServer):
    # Threads are joined when the server closes: one that hangs is a connection left open.
    daemon_threads = False
    script: "ModelServer"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: _Http

    def do_GET(self) -> None:
        script = self.server.script
        script.listings.append(Recorded(self.path, self._lower_headers(), {}))
        match script.listing:
            case Refuse() as refuse:
                self._refuse(refuse)
            case Stall():
                self._stall()
            case Raw(data):
                self._send(200, data)
            case Meet(barrier):
                barrier.wait(DEADLINE_S)
                self._offer(())
            case offers:
                self._offer(offers)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.server.script.take(Recorded(self.path, self._lower_headers(), body))
        match reply:
            case Refuse():
                self._refuse(reply)
            case Stall():
                self._stall()
            case steps:
                self._answer(steps)

    def _stall(self) -> None:
        self.server.script.released.wait(DEADLINE_S)
        self.close_connection = True

    def _offer(self, offers: Sequence[Offer]) -> None:
        self._send(200, json.dumps(self.server.script.wire.listing(offers)).encode())

    def _lower_headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.headers.items()}

    def _refuse(self, refuse: Refuse) -> None:
        data = json.dumps(self.server.script.wire.refusal(refuse)).encode()
        self._send(refuse.status, data, refuse.headers)

    def _send(self, status: int, data: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _answer(self, steps: Sequence[Step]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for step in self.server.script.wire.encode(steps):
            match step:
                case Stall():
                    self.server.script.released.wait(DEADLINE_S)
                case Meet(barrier):
                    barrier.wait(DEADLINE_S)
                case Cut():
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                case data:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            pass  # the client has closed the call, as it may
        except Exception as error:  # noqa: BLE001 - whatever it is, the test fails with it
            self.server.script.failures.append(error)

    def finish(self) -> None:
        try:
            super().finish()
        except ConnectionError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


class ModelServer:
    """Answers each call with the next reply; use it as a context manager.

    ``listing`` is what it says about its models, and ``listings`` are the requests for it.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.listing: Listing = ()
        self.listings: list[Recorded] = []
        self.requests: list[Recorded] = []
        self.released = threading.Event()
        self.failures: list[Exception] = []
        self.replies: deque[Reply] = deque()
        self._http = _Http(("127.0.0.1", 0), _Handler)
        self._http.script = self
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def reply(self, *replies: Reply) -> None:
        """Add replies to the script."""
        self.replies.extend(replies)

    def take(self, request: Recorded) -> Reply:
        """Record a request and return its reply."""
        self.requests.append(request)
        return self.replies.popleft()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join(DEADLINE_S)
        self._http.server_close()
        if error is None:
            assert not self.failures, self.failures
