"""What a request costs without sessiond: the same JSON, chunks and worker class, and nothing else.

``gunicorn --config python:benchmarks._bare_conf benchmarks._bare:app``
"""

from collections.abc import Iterator

import falcon
import msgspec

DELTAS_PER_CHAT = 500

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Health:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.data = b'{"ok":true}'


class _Messages:
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        text = _decode(request.bounded_stream.read())["text"]
        response.data = _encode({"ok": True, "response": f"{text} {text}", "sessionKey": key})


class _Chat:
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:  # noqa: ARG002 - Falcon names the arguments
        _decode(request.bounded_stream.read())
        response.content_type = "text/event-stream"
        response.stream = _deltas()


class _Events:
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:  # noqa: ARG002 - Falcon names the arguments
        frames = request.get_param_as_int("frames", required=True)
        size = request.get_param_as_int("bytes", required=True) // frames
        response.content_type = "text/event-stream"
        response.stream = (b"x" * (size - 2) + b"\n\n" for _ in range(frames))


def _deltas() -> Iterator[bytes]:
    for _ in range(DELTAS_PER_CHAT):
        chunk = {"type": "text-delta", "id": "text_0", "delta": "word "}
        yield b"data: %b\n\n" % _encode(chunk)
    yield b"data: [DONE]\n\n"


app = falcon.App()
app.add_route("/health", _Health())
app.add_route("/sessions/{key}/messages", _Messages())
app.add_route("/sessions/{key}/chat", _Chat())
app.add_route("/sessions/{key}/events", _Events())
