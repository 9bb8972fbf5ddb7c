"""Bad input gets its answer and nothing else: no 5xx, no event, no worker lost, no waiting."""

import contextlib
import json
import os
import re
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from persistence.engine import parse_url, read_engine
from persistence.schema import streams
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    HOST,
    Background,
    RunningGateway,
    database_url,
    stored_events,
    text_of,
)

KEY = "bad:input"
MESSAGES = f"/sessions/{KEY}/messages"
BODY = b'{"text":"a"}'
JSON_TYPE = "Content-Type: application/json"
TOKEN = "secret-token"


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(memory_enabled=False) as running:
        assert running.post(MESSAGES, {"text": "begin"}).status == 200
        running.until_idle(KEY)
        before = workers(running)
        yield running
        assert workers(running) == before, "a worker was replaced"


@pytest.fixture(scope="module")
def guarded(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, memory_enabled=False) as running:
        authorization = {"Authorization": f"Bearer {TOKEN}"}
        assert running.post(MESSAGES, {"text": "begin"}, **authorization).status == 200
        before = workers(running)
        yield running
        assert workers(running) == before, "a worker was replaced"


@pytest.fixture
def unchanged(gateway: RunningGateway) -> Iterator[RunningGateway]:
    with nothing_else_changes(gateway):
        yield gateway


@contextlib.contextmanager
def nothing_else_changes(gateway: RunningGateway, **headers: str) -> Iterator[None]:
    """Check that what is done inside leaves every log as it was, and the gateway answering."""
    before = heads(gateway)
    yield
    assert gateway.get(f"/sessions/{KEY}/history?limit=1", **headers).status == 200
    assert heads(gateway) == before
    for worker in workers(gateway):
        os.kill(worker, 0)


def heads(gateway: RunningGateway) -> dict[str, tuple[int, bytes]]:
    engine = read_engine(parse_url(database_url(gateway.folder)))
    try:
        with engine.connect() as connection:
            columns = (streams.c.stream_id, streams.c.version, streams.c.hash)
            rows = connection.execute(sa.select(*columns))
            return {name: (version, hash_) for name, version, hash_ in rows}
    finally:
        engine.dispose()


def workers(gateway: RunningGateway) -> list[int]:
    found = [int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", gateway.log)]
    assert len(found) == 1
    return found


def head(method: str, target: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *lines, "", ""]).encode("latin-1")


def raw(gateway: RunningGateway, data: bytes, *, ends: bool = False) -> tuple[int, bytes]:
    """Send bytes as they are; return the answer's status, 0 for a closed connection, and it."""
    with socket.create_connection((HOST, gateway.port), DEADLINE_S) as connection:
        with contextlib.suppress(ConnectionError):  # the server may answer before it has it all
            connection.sendall(data)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while b"\r\n\r\n" not in answer and (more := connection.recv(65_536)):
                answer += more
    return (int(answer.split()[1]) if answer else 0), answer


def sent(body: bytes, *lines: str, target: str = MESSAGES) -> bytes:
    return head("POST", target, f"Content-Length: {len(body)}", *lines) + body


BODIES = {
    "empty": b"",
    "cut off": b'{"text":"a"',
    "trailing comma": b'{"text":"a",}',
    "trailing text": b'{"text":"a"} x',
    "single quotes": b"{'text':'a'}",
    "comment": b'{"text":"a"/**/}',
    "control character": b'{"text":"a\x01"}',
    "raw NUL": b'{"text":"a\x00"}',
    "array": b'[{"text":"a"}]',
    "null": b"null",
    "string": b'"a"',
    "NaN": b'{"text":"a","n":NaN}',
    "Infinity": b'{"text":"a","n":Infinity}',
    "-Infinity": b'{"text":"a","n":-Infinity}',
    "1e999": b'{"text":"a","n":1e999}',
    "-1e999": b'{"text":"a","n":-1e999}',
    "duplicate key": b'{"text":"a","text":"b"}',
    "duplicate key by escape": b'{"text":"a","\\u0074ext":"b"}',
    "duplicate key inside": b'{"text":"a","x":[{"y":1,"y":1}]}',
    "invalid UTF-8": b'{"text":"\xff"}',
    "overlong UTF-8": b'{"text":"\xc0\xaf"}',
    "UTF-8 surrogate": b'{"text":"\xed\xa0\x80"}',
    "BOM": b"\xef\xbb\xbf" + BODY,
    "UTF-16": BODY.decode().encode("utf-16"),
    "UTF-16-LE": BODY.decode().encode("utf-16-le"),
    "deep array": b'{"text":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep object": b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    "2**64": b'{"text":"a","n":18446744073709551616}',
    "-2**63-1": b'{"text":"a","n":-9223372036854775809}',
    "10,000 digits": b'{"text":"a","n":' + b"9" * 10_000 + b"}",
    "blank": b'{"text":" \\n\\t"}',
}


@pytest.mark.parametrize("resource", ["messages", "chat", "steer", "enqueue"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_malformed_body_is_400(unchanged: RunningGateway, body: bytes, resource: str) -> None:
    answer = unchanged.request("POST", f"/sessions/{KEY}/{resource}", body)
    assert answer.status == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.body["error"] == answer.body["detail"]


@pytest.mark.parametrize("limit", ["-1", "0", "1_0", "٣", "1e9", "9" * 3_900, "%2B1", "1.0", "0x1"])
@pytest.mark.parametrize(
    "path", [f"/sessions/{KEY}/history", f"/sessions/{KEY}/state", "/sessions"]
)
def test_a_limit_that_is_no_positive_integer_is_400(
    unchanged: RunningGateway, path: str, limit: str
) -> None:
    assert unchanged.get(f"{path}?limit={quote(limit, safe='%')}").status == 400


@pytest.mark.parametrize(
    "target",
    [
        f"/sessions/{KEY}/history?limit=1&limit=1",
        f"/sessions/{KEY}/history?limit=1&limit=2",
        f"/sessions/{KEY}/history?before=1&before=2",
        f"/sessions/{KEY}/events?after=0&after=1",
        "/sessions?cursor=1&cursor=2",
        "/sessions?prefix=a&prefix=b",
        "/sessions?active=true&active=false",
        "/sessions?active=perhaps",
        "/sessions?prefix=a%00",
        "/sessions?prefix=%zz",
        "/sessions?prefix=%",
    ],
)
def test_query_parameters_that_mean_two_things_or_nothing_are_400(
    unchanged: RunningGateway, target: str
) -> None:
    assert unchanged.get(target).status == 400


@pytest.mark.parametrize("place", ["x", "-1", "1e3", "1.5", "1,2", "", "9" * 3_900, "\xb2"])
def test_a_last_event_id_that_is_no_number_is_400(unchanged: RunningGateway, place: str) -> None:
    target = f"/sessions/{KEY}/events"
    assert raw(unchanged, head("GET", target, f"Last-Event-ID: {place}"))[0] == 400


def test_two_last_event_ids_are_400(unchanged: RunningGateway) -> None:
    lines = ("Last-Event-ID: 1", "Last-Event-ID: 1")
    assert raw(unchanged, head("GET", f"/sessions/{KEY}/events", *lines))[0] == 400


@pytest.mark.parametrize("place", [9_999, 2**53, 10**17])
def test_a_last_event_id_beyond_the_head_is_412(unchanged: RunningGateway, place: int) -> None:
    answer = unchanged.get(f"/sessions/{KEY}/events", **{"Last-Event-ID": str(place)})
    assert answer.status == 412


KEYS = {
    "": 400,
    "..": 400,
    ".": 400,
    "%2e%2e": 400,
    "a%00": 400,
    "a%0d%0aX-Injected:%201": 400,
    "a%ff": 400,
    "a%c0%af": 400,
    "a%ed%a0%80": 400,
    "a%zz": 400,
    "a%": 400,
    "a%2": 400,
    "a%5Cb": 400,
    "a%E2%80%AE": 400,
    "a%F0%9F%92%A5": 400,
    "x" * 201: 400,
    "a%2Fb": 404,
    "a%2fb": 404,
    "..%2f..%2fetc%2fpasswd": 404,
    "x" * 3_000: 414,
    "x" * 10_000: 414,
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("key", "status"), KEYS.items(), ids=[f"{len(key)}-{key[:24]}" for key in KEYS]
)
def test_a_key_that_cannot_be_one_is_refused(
    unchanged: RunningGateway, key: str, status: int, method: str
) -> None:
    target = f"/sessions/{key}/" + ("history" if method == "GET" else "messages")
    body = b"" if method == "GET" else BODY
    lines = () if method == "GET" else (JSON_TYPE, f"Content-Length: {len(body)}")
    found, answer = raw(unchanged, head(method, target, *lines) + body)
    assert found == status
    assert b"X-Injected" not in answer.partition(b"\r\n\r\n")[0]


def test_an_encoded_slash_does_not_reach_another_route(unchanged: RunningGateway) -> None:
    for target in (f"/sessions/{KEY}%2Fhistory", f"/sessions%2F{KEY}", f"/sessions/{KEY}%2freset"):
        method = "POST" if target.endswith("reset") else "GET"
        assert raw(unchanged, head(method, target))[0] == 404


def test_a_body_shorter_than_announced_is_refused_when_its_sender_ends(
    unchanged: RunningGateway,
) -> None:
    data = head("POST", MESSAGES, JSON_TYPE, "Content-Length: 100") + BODY
    assert raw(unchanged, data, ends=True)[0] in (0, 400, 408)


def test_what_never_ends_is_408_or_closed_and_keeps_nobody_waiting(
    unchanged: RunningGateway,
) -> None:
    unfinished = {
        "body": head("POST", MESSAGES, JSON_TYPE, "Content-Length: 100") + BODY,
        "chunk": head("POST", MESSAGES, JSON_TYPE, "Transfer-Encoding: chunked") + b"ff\r\n{",
        "chunks": head("POST", MESSAGES, JSON_TYPE, "Transfer-Encoding: chunked") + b"1\r\n{\r\n",
        "header": b"GET /health HTTP/1.1\r\nHost: x\r\nX-Unfinished: ",
        "request line": b"GET /hea",
    }
    waiting = [
        Background(lambda data=data: raw(unchanged, data)[0])  # type: ignore[misc]
        for data in unfinished.values()
    ]
    assert unchanged.get("/health").status == 200
    assert all(each.running for each in waiting)
    statuses = dict(zip(unfinished, [each.result() for each in waiting], strict=True))
    assert statuses == {"body": 408, "chunk": 408, "chunks": 408, "header": 0, "request line": 0}


def test_a_chunked_body_is_decoded(gateway: RunningGateway) -> None:
    data = head("POST", "/sessions/chunked/messages", JSON_TYPE, "Transfer-Encoding: chunked")
    data += b"5\r\n" + BODY[:5] + b"\r\n%x\r\n" % len(BODY[5:]) + BODY[5:] + b"\r\n0\r\n\r\n"
    assert raw(gateway, data)[0] == 200


@pytest.mark.parametrize(
    "chunks",
    [b"zz\r\n", b"-1\r\n", b"5\r\n{", b"1\r\n{XX", b"", b"0\r\n\r\n", b"2\r\n[]\r\n0\r\n\r\n"],
)
def test_chunks_that_are_none_are_400(unchanged: RunningGateway, chunks: bytes) -> None:
    data = head("POST", MESSAGES, JSON_TYPE, "Transfer-Encoding: chunked") + chunks
    assert raw(unchanged, data, ends=True)[0] in (0, 400)


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: -1",),
        ("Content-Length: 1_0",),
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked, chunked",),
    ],
)
def test_a_length_that_can_be_read_in_two_ways_is_400(
    unchanged: RunningGateway, lines: tuple[str, ...]
) -> None:
    assert raw(unchanged, head("POST", MESSAGES, JSON_TYPE, *lines) + BODY, ends=True)[0] == 400


@pytest.mark.parametrize("action", ["messages", "chat", "steer", "enqueue", "abort", "reset"])
def test_a_body_of_100_mb_is_413_before_it_is_sent(unchanged: RunningGateway, action: str) -> None:
    target = f"/sessions/{KEY}/{action}"
    data = head("POST", target, JSON_TYPE, "Content-Length: 100000000") + b'{"text":"aaaa'
    assert raw(unchanged, data)[0] == 413  # whoever waits for the rest says 408


def test_101_headers_are_431(unchanged: RunningGateway) -> None:
    lines = [f"X-{number}: a" for number in range(100)]
    assert raw(unchanged, head("GET", f"/sessions/{KEY}", *lines))[0] == 431
    assert raw(unchanged, head("GET", f"/sessions/{KEY}", *lines[:99]))[0] == 200
    assert raw(unchanged, head("GET", f"/sessions/{KEY}", f"X: {'a' * 20_000}"))[0] in (400, 431)


TYPES: dict[str, tuple[str, ...]] = {
    "text": ("Content-Type: text/plain",),
    "form": ("Content-Type: application/x-www-form-urlencoded",),
    "multipart": ("Content-Type: multipart/form-data; boundary=x",),
    "none": (),
    "empty": ("Content-Type: ",),
    "nonsense": ("Content-Type: json",),
    "almost": ("Content-Type: application/jsonp",),
    "latin-1": ("Content-Type: application/json; charset=iso-8859-1",),
    "utf-16": ('Content-Type: application/json; charset="utf-16"',),
    "gzip": (JSON_TYPE, "Content-Encoding: gzip"),
    "br": (JSON_TYPE, "Content-Encoding: br"),
    "twice": (JSON_TYPE, "Content-Encoding: identity, gzip"),
}


@pytest.mark.parametrize("action", ["messages", "chat", "steer", "enqueue", "abort"])
@pytest.mark.parametrize("lines", TYPES.values(), ids=TYPES.keys())
def test_a_body_that_does_not_say_it_is_json_is_415(
    unchanged: RunningGateway, lines: tuple[str, ...], action: str
) -> None:
    assert raw(unchanged, sent(BODY, *lines, target=f"/sessions/{KEY}/{action}"))[0] == 415


def test_a_compressed_transfer_is_415(unchanged: RunningGateway) -> None:
    data = head("POST", MESSAGES, JSON_TYPE, "Transfer-Encoding: gzip, chunked")
    assert raw(unchanged, data + b"c\r\n" + BODY + b"\r\n0\r\n\r\n")[0] == 415


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Type: APPLICATION/JSON",),
        ("Content-Type: application/json;charset=UTF-8",),
        ('Content-Type: application/json; charset="utf-8"; x=y',),
        ("Content-Type: application/vnd.api+json",),
        (JSON_TYPE, "Content-Encoding: identity"),
    ],
)
def test_a_body_that_says_it_is_json_is_taken(
    gateway: RunningGateway, lines: tuple[str, ...]
) -> None:
    assert raw(gateway, sent(BODY, *lines, target="/sessions/typed/messages"))[0] == 200


def test_a_request_without_a_body_needs_no_type(gateway: RunningGateway) -> None:
    assert raw(gateway, head("POST", f"/sessions/{KEY}/abort"))[0] == 200
    assert raw(gateway, sent(b"", target=f"/sessions/{KEY}/abort"))[0] == 200


AUTHORIZATIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "empty": ("Authorization:",),
    "scheme only": ("Authorization: Bearer",),
    "empty token": ("Authorization: Bearer ",),
    "wrong": ("Authorization: Bearer wrong",),
    "longer": (f"Authorization: Bearer {TOKEN}x",),
    "shorter": (f"Authorization: Bearer {TOKEN[:-1]}",),
    "wrong case": (f"Authorization: Bearer {TOKEN.upper()}",),
    "space inside": (f"Authorization: Bearer {TOKEN[:6]} {TOKEN[6:]}",),
    "two spaces": (f"Authorization: Bearer  {TOKEN}",),
    "non-ASCII": (f"Authorization: Bearer {TOKEN}\xe9",),
    "other scheme": (f"Authorization: Basic {TOKEN}",),
    "no scheme": (f"Authorization: {TOKEN}",),
    "twice": (f"Authorization: Bearer {TOKEN}", f"Authorization: Bearer {TOKEN}"),
    "wrong one first": ("Authorization: Bearer wrong", f"Authorization: Bearer {TOKEN}"),
    "wrong one last": (f"Authorization: Bearer {TOKEN}", "Authorization: Bearer wrong"),
    "another header": (f"X-Authorization: Bearer {TOKEN}",),
    "cookie": (f"Cookie: token={TOKEN}",),
}


@pytest.mark.parametrize("query", ["", f"?token={TOKEN}", f"?access_token={TOKEN}"])
@pytest.mark.parametrize("lines", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
def test_whoever_does_not_show_the_token_in_its_header_gets_401(
    guarded: RunningGateway, lines: tuple[str, ...], query: str
) -> None:
    with nothing_else_changes(guarded, Authorization=f"Bearer {TOKEN}"):
        for data in (
            head("GET", f"/sessions/{KEY}{query}", *lines),
            head("GET", f"/sessions/unknown{query}", *lines),
            sent(BODY, JSON_TYPE, *lines, target=MESSAGES + query),
        ):
            status, answer = raw(guarded, data)
            assert status == 401
            assert b"\r\nwww-authenticate: bearer\r\n" in answer.lower()


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_schemes_name_is_case_insensitive(guarded: RunningGateway, scheme: str) -> None:
    assert guarded.get(f"/sessions/{KEY}", Authorization=f"{scheme} {TOKEN}").status == 200


@pytest.mark.parametrize(
    ("method", "action"),
    [
        ("PUT", ""),
        ("POST", ""),
        ("GET", "/messages"),
        ("DELETE", "/messages"),
        ("PATCH", "/history"),
        ("POST", "/events"),
        ("GET", "/reset"),
        ("TRACE", ""),
        ("TRACE", "/messages"),
    ],
)
def test_a_wrong_method_is_405(unchanged: RunningGateway, method: str, action: str) -> None:
    status, answer = raw(unchanged, head(method, f"/sessions/{KEY}{action}", "X-Echo: canary"))
    assert status == 405
    assert b"\r\nallow: " in answer.lower()
    assert b"canary" not in answer


@pytest.mark.parametrize("path", ["/sessions", "/health", "/ready"])
def test_trace_is_405_everywhere(unchanged: RunningGateway, path: str) -> None:
    assert raw(unchanged, head("TRACE", path))[0] == 405


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_in_a_header_is_ignored(unchanged: RunningGateway, name: str) -> None:
    assert unchanged.get(f"/sessions/{KEY}", **{name: "DELETE"}).status == 200
    assert unchanged.get(f"/sessions/{KEY}/history?_method=DELETE").status == 200
    assert unchanged.get(f"/sessions/{KEY}/messages", **{name: "POST"}).status == 405


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"\\ud800"}',
        b'{"text":"a\\uDFFFb"}',
        b'{"text":"\\udc00\\ud800"}',
        b'{"prompt":"\\ud83d"}',
        b'{"text":"a","x":{"\\ud800":1}}',
        b'{"text":"a\\u0000b"}',
    ],
)
@pytest.mark.parametrize("resource", ["messages", "chat", "steer", "enqueue"])
def test_text_that_cannot_be_stored_is_422(
    unchanged: RunningGateway, resource: str, body: bytes
) -> None:
    if resource == "messages":
        body = body.replace(b'"prompt"', b'"text"')
    assert unchanged.request("POST", f"/sessions/{KEY}/{resource}", body).status == 422


@pytest.mark.parametrize(
    "name", [b"7", b"null", b"true", b'["a"]', b'""', b'"\\ud800"', b'"\\u0000"']
)
def test_a_name_of_a_wrong_type_is_422(unchanged: RunningGateway, name: bytes) -> None:
    answer = unchanged.request("PATCH", f"/sessions/{KEY}", b'{"name":' + name + b"}")
    assert answer.status == 422


INERT = {
    "SQL": "'; DROP TABLE events; -- \" % _ \\ ) OR 1=1 /*",
    "CRLF": "a\r\nb\rc\nd\r\n\r\ndata: forged\nid: 1\nevent: x\n\ne",
    "separators": "a\u2028b\u2029c\u0085d\x0be",
    "emoji": "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 💥",
    "right-to-left": "\u202egnp.exe\u202c \u200f שלום \u2066x\u2069",
    "markup": "</script><script>alert(1)</script> {{7*7}} ${7*7} %s %n",
    "largest": "\U0010ffff \ufffe \ufeff",
}


@pytest.mark.parametrize("text", INERT.values(), ids=INERT.keys())
def test_odd_text_is_taken_as_it_is_and_stays_in_its_frame(
    gateway: RunningGateway, text: str
) -> None:
    key = f"inert:{list(INERT.values()).index(text)}"
    assert gateway.post(f"/sessions/{key}/messages", {"text": text}).status == 200
    gateway.until_idle(key)
    messages = gateway.get(f"/sessions/{key}/history").body["messages"]
    assert text_of(messages[0]) == text
    version = len(stored_events(gateway.folder, key))
    lines: list[bytes] = []
    with gateway.stream(f"/sessions/{key}/events?after=0") as stream:
        for line in stream.lines():
            lines.append(line)
            if line == b"\n" and b"id: %d\n" % version in lines:
                break
    check_frames(lines)


@pytest.mark.parametrize("text", INERT.values(), ids=INERT.keys())
def test_odd_text_stays_in_its_frame_of_a_chat(gateway: RunningGateway, text: str) -> None:
    target = f"/sessions/inert:chat:{list(INERT.values()).index(text)}/chat"
    with gateway.stream(target, method="POST", body={"text": text}) as stream:
        assert stream.status == 200
        check_frames(list(stream.lines()))


def check_frames(lines: list[bytes]) -> None:
    """Check that every line is a field of SSE, and every data line a whole document."""
    assert any(line.startswith(b"data: ") for line in lines)
    for line in lines:
        assert b"\r" not in line
        if line.startswith(b"data: ") and line != b"data: [DONE]\n":
            decoded: Any = json.loads(line.removeprefix(b"data: "))
            assert isinstance(decoded, dict)
        else:
            assert re.fullmatch(rb"(id: \d+|retry: \d+|:.*|data: \[DONE\])?\n", line), line


@pytest.mark.parametrize(
    "prefix", ["'; DROP TABLE streams; --", '" OR 1=1', "%", "_", "\\", "*", "\u2028", "💥"]
)
def test_sql_in_a_filter_is_only_text(unchanged: RunningGateway, prefix: str) -> None:
    answer = unchanged.get(f"/sessions?prefix={quote(prefix, safe='')}")
    assert (answer.status, answer.body["sessions"]) == (200, [])


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_an_unknown_origin_gets_no_cors_header(
    unchanged: RunningGateway, method: str, origin: str
) -> None:
    lines = (f"Origin: {origin}", "Access-Control-Request-Method: POST")
    status, answer = raw(unchanged, head(method, f"/sessions/{KEY}", *lines))
    assert status == (200 if method == "GET" else 405)
    assert b"access-control-" not in answer.lower()
