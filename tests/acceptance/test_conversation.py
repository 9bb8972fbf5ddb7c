import contextlib
import re
import socket
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from actors.session import events as e
from tests.acceptance.conftest import OpenGateway, StartGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    HOST,
    Answer,
    Background,
    RunningGateway,
    at_once,
    check_log,
    events,
    text_of,
    until,
    words,
)

QUEUE_MAX = 8
BODY_BYTES_MAX = 65_536
SNAPSHOT_FIELDS = [
    "sessionKey",
    "sessionId",
    "messageCount",
    "queueDepth",
    "processing",
    "lastActiveAt",
    "createdAt",
    "updatedAt",
    "lastMessagePreview",
    "modelProvider",
    "modelId",
]
PROBLEM_FIELDS = {"type", "title", "status", "detail", "request_id", "error"}
SLOW = 60
"""Words of a prompt that takes about 0.6 s; the demo model takes its delay for each."""


@pytest.fixture(scope="module")
def gateway(worker_class: str, open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(
        worker_class=worker_class,
        queue_max=QUEUE_MAX,
        body_bytes_max=BODY_BYTES_MAX,
        demo_delay_ms=10,
    ) as opened:
        yield opened


def prompt(gateway: RunningGateway, key: str, text: str) -> Answer:
    return gateway.post(f"/sessions/{key}/messages", {"text": text})


def test_messages_answers_with_the_prompts_words(gateway: RunningGateway) -> None:
    answer = prompt(gateway, "words", "How are you today?")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert list(answer.body.items()) == [
        ("ok", True),
        ("response", "How are you today?"),
        ("sessionKey", "words"),
    ]


def test_a_second_prompt_is_answered_with_its_own_words(gateway: RunningGateway) -> None:
    prompt(gateway, "twice", "first words")
    assert prompt(gateway, "twice", "second words").body["response"] == "second words"


def test_history_has_the_contracts_shapes(gateway: RunningGateway) -> None:
    prompt(gateway, "shapes", 'Look here\n!think hmm, well\n!bash {"command":"pwd"}')
    answer = gateway.get("/sessions/shapes/history")
    session_id = gateway.snapshot("shapes")["sessionId"]
    assert answer.status == 200
    assert list(answer.body) == ["messages"]
    messages = answer.body["messages"]
    assert [message["role"] for message in messages] == [
        "user",
        "assistant",
        "toolResult",
        "assistant",
    ]
    for message in messages:
        assert list(message) == ["id", "role", "parts", "timestamp"]
        assert re.fullmatch(rf"{session_id}:\d+", message["id"])
        assert type(message["timestamp"]) is int
    assert messages == sorted(messages, key=lambda message: int(message["id"].split(":")[1]))
    call_id = messages[2]["parts"][0]["toolCallId"]
    assert [ordered(message["parts"]) for message in messages[1:3]] == [
        [
            [("type", "reasoning"), ("text", "hmm, well")],
            [("type", "text"), ("text", "Look here")],
            [
                ("type", "tool-invocation"),
                ("toolCallId", call_id),
                ("toolName", "bash"),
                ("args", {"command": "pwd"}),
                ("state", "call"),
            ],
        ],
        [
            [
                ("type", "tool-invocation"),
                ("toolCallId", call_id),
                ("toolName", "bash"),
                ("state", "error"),
                ("result", "There is no tool named 'bash'."),
            ],
        ],
    ]


def ordered(parts: list[dict[str, Any]]) -> list[list[tuple[str, Any]]]:
    return [list(part.items()) for part in parts]


def test_history_pages_with_limit_before_and_after(gateway: RunningGateway) -> None:
    for text in ("one", "two", "three"):
        prompt(gateway, "pages", text)
    everything = gateway.get("/sessions/pages/history").body["messages"]
    assert [text_of(each) for each in everything] == ["one", "one", "two", "two", "three", "three"]

    def page(query: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = gateway.get(f"/sessions/pages/history?{query}").body[
            "messages"
        ]
        return found

    assert page("limit=2") == everything[-2:]
    assert page("limit=100") == everything
    assert page("limit=") == everything
    assert page(f"limit=2&before={everything[4]['id']}") == everything[2:4]
    assert page(f"limit=3&after={everything[0]['id']}") == everything[1:4]


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "1e3", "5abc"])
def test_a_limit_that_is_no_positive_integer_is_400(gateway: RunningGateway, limit: str) -> None:
    prompt(gateway, "limits", "hello")
    for path in ("history", "state"):
        answer = gateway.get(f"/sessions/limits/{path}?limit={limit}")
        check_problem(answer, 400, "History limit must be a positive integer")


def test_a_snapshot_has_the_contracts_fields_in_order(gateway: RunningGateway) -> None:
    preview = "long " * 40
    prompt(gateway, "snapshot", preview)
    answer = gateway.get("/sessions/snapshot")
    assert list(answer.body) == ["session"]
    snapshot = answer.body["session"]
    assert list(snapshot) == [*SNAPSHOT_FIELDS, "usage"]
    assert str(uuid.UUID(snapshot["sessionId"])) == snapshot["sessionId"]
    assert snapshot["sessionKey"] == "snapshot"
    assert snapshot["messageCount"] == 2
    assert snapshot["queueDepth"] == 0
    assert snapshot["processing"] is False
    assert snapshot["lastMessagePreview"] == preview[:120]
    assert (snapshot["modelProvider"], snapshot["modelId"]) == ("demo", "echo")
    assert list(snapshot["usage"]) == ["session", "run", "turn"]
    assert snapshot["usage"]["turn"]["output"] == len(preview) // 4
    assert 0 < snapshot["createdAt"] <= snapshot["lastActiveAt"] == snapshot["updatedAt"]


def test_a_session_without_messages_has_no_preview(gateway: RunningGateway) -> None:
    snapshot = gateway.snapshot("web:main")
    assert list(snapshot) == [name for name in SNAPSHOT_FIELDS if name != "lastMessagePreview"]


def test_sessions_lists_every_session_the_oldest_first(gateway: RunningGateway) -> None:
    for key in ("list-a", "list-b"):
        prompt(gateway, key, "hello")
    body = gateway.get("/sessions").body
    assert list(body) == ["sessions"]
    keys = [snapshot["sessionKey"] for snapshot in body["sessions"]]
    assert keys[0] == "web:main"
    assert keys.index("list-a") < keys.index("list-b")
    assert body["sessions"][keys.index("list-a")] == gateway.snapshot("list-a")
    first = gateway.get("/sessions?limit=1").body
    assert list(first) == ["sessions", "nextCursor"]
    second = gateway.get(f"/sessions?limit=1&cursor={first['nextCursor']}").body
    assert first["sessions"] + second["sessions"] == body["sessions"][:2]


def test_state_has_the_snapshot_the_messages_and_the_streaming_draft(
    gateway: RunningGateway,
) -> None:
    text = words(SLOW)
    waiting = Background(partial(prompt, gateway, "state", text))
    gateway.until_answering("state")
    live = gateway.get("/sessions/state/state").body
    assert list(live) == ["session", "messages", "seq", "digest"]
    assert live["session"]["processing"] is True
    user, draft = live["messages"]
    assert user["role"] == "user"
    assert list(draft) == ["id", "role", "parts", "timestamp"]
    assert draft["id"] == f"draft:state:{draft['timestamp']}"
    assert draft["role"] == "assistant"
    assert text.startswith(text_of(draft))
    assert text_of(draft)
    assert waiting.result().body["response"] == text
    done = gateway.get("/sessions/state/state").body
    assert done["session"] == gateway.snapshot("state")
    assert done["messages"] == gateway.get("/sessions/state/history").body["messages"]
    limited = gateway.get("/sessions/state/state?limit=1").body
    assert limited["messages"] == done["messages"][-1:]
    check_log(gateway.folder, gateway)


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("messages", b"", "Missing text"),
        ("messages", b"{}", "Missing text"),
        ("messages", b'{"text":" \\n"}', "Missing text"),
        ("messages", b'{"text":7}', "Missing text"),
        ("chat", b"", "Missing user message text"),
        ("chat", b'{"messages":[]}', "Missing user message text"),
        ("chat", b'{"messages":[{"role":"assistant","parts":[]}]}', "Missing user message text"),
        ("messages", b'{"text":', "Invalid JSON body"),
        ("messages", b'{"text":"\xff"}', "Invalid JSON body"),
        ("chat", b"not json", "Invalid JSON body"),
        ("messages", b"null", "The JSON body must be an object."),
        ("chat", b"[]", "The JSON body must be an object."),
    ],
)
def test_a_body_without_a_prompt_is_400_and_creates_nothing(
    gateway: RunningGateway, path: str, body: bytes, error: str
) -> None:
    answer = gateway.request("POST", f"/sessions/never/{path}", body)
    check_problem(answer, 400, error)
    assert gateway.get("/sessions/never").status == 404
    assert not events(gateway.folder, "never")


@pytest.mark.parametrize("action", ["", "/history", "/state", "/events"])
def test_reading_an_unknown_session_is_404_and_creates_nothing(
    gateway: RunningGateway, action: str
) -> None:
    check_problem(gateway.get(f"/sessions/never{action}"), 404, "Session not found: never")
    assert not events(gateway.folder, "never")


def test_aborting_an_unknown_session_is_404(gateway: RunningGateway) -> None:
    check_problem(gateway.post("/sessions/never/abort"), 404, "Session not found: never")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/sessions/words/messages"),
        ("GET", "/sessions/words/chat"),
        ("GET", "/sessions/words/abort"),
        ("POST", "/sessions/words/history"),
        ("POST", "/sessions/words/state"),
        ("POST", "/sessions/words/events"),
        ("PUT", "/sessions/words"),
    ],
)
def test_a_wrong_method_on_a_sessions_path_is_405(
    gateway: RunningGateway, method: str, path: str
) -> None:
    check_problem(gateway.request(method, path), 405, "Method not allowed")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/health"),
        ("DELETE", "/ready"),
        ("POST", "/sessions"),
        ("GET", "/"),
        ("GET", "/nowhere"),
        ("GET", "/sessions/a/b"),
        ("POST", "/sessions/a/messages/more"),
    ],
)
def test_unknown_paths_and_wrong_methods_on_fixed_paths_are_404(
    gateway: RunningGateway, method: str, path: str
) -> None:
    check_problem(gateway.request(method, path), 404, "Not found")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_413_before_all_of_it_is_sent(
    gateway: RunningGateway, *, chunked: bool
) -> None:
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 100000000"
    sent = BODY_BYTES_MAX + 1 if chunked else 0
    with socket.create_connection((HOST, gateway.port), DEADLINE_S) as connection:
        connection.sendall(
            b"POST /sessions/never/messages HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\n%b\r\n\r\n" % length
        )
        if chunked:
            connection.sendall(b"%x\r\n%b\r\n" % (sent, b" " * sent))
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in answer
    assert gateway.get("/health").status == 200


def test_a_client_that_sends_a_whole_body_above_the_limit_reads_the_413(
    gateway: RunningGateway,
) -> None:
    answer = gateway.post("/sessions/never/messages", {"text": "x" * BODY_BYTES_MAX})
    check_problem(answer, 413, f"A request's body can have {BODY_BYTES_MAX} bytes at most.")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/sessions/", 400),
        ("/sessions/../history", 400),
        ("/sessions/a%20b/history", 400),
        ("/sessions/a%00/history", 400),
        ("/sessions/e%CC%81/history", 400),
        (f"/sessions/{'x' * 201}/history", 400),
        (f"/sessions/{'x' * 200}/history", 404),
        ("/sessions/a%2Fb/history", 404),
    ],
)
def test_a_key_that_cannot_be_one_is_refused(
    gateway: RunningGateway, path: str, status: int
) -> None:
    answer = gateway.get(path)
    check_problem(answer, status, answer.body["error"])


@pytest.mark.parametrize("key", ["a:b", "a_b", "日本語", "naïve@café+~=-.x"])
def test_keys_are_taken_exactly_as_they_are(gateway: RunningGateway, key: str) -> None:
    quoted = "".join(f"%{byte:02X}" for byte in key.encode())
    assert prompt(gateway, quoted, f"to {key}").body["sessionKey"] == key
    messages = gateway.get(f"/sessions/{quoted}/history").body["messages"]
    assert [text_of(message) for message in messages] == [f"to {key}"] * 2


def test_a_failing_model_is_502_with_ok_false(gateway: RunningGateway) -> None:
    answer = prompt(gateway, "fails", "Some words first\n!fail boom")
    check_problem(answer, 502, "boom")
    assert list(answer.body)[:4] == ["ok", "response", "error", "sessionKey"]
    assert answer.body["ok"] is False
    assert answer.body["response"] == "Some words first"
    assert answer.body["sessionKey"] == "fails"
    assert prompt(gateway, "fails", "go on").body["response"] == "go on"
    assert [type(each) for each in events(gateway.folder, "fails")].count(e.RunFailed) == 1


def test_of_twelve_prompts_at_once_nine_are_answered_in_order_and_three_are_429(
    gateway: RunningGateway,
) -> None:
    texts = [words(SLOW // 2, f"prompt{number}") for number in range(12)]

    def send(text: str) -> Callable[[Callable[[], object]], Answer]:
        return lambda ready: gateway.request(
            "POST",
            "/sessions/burst/messages",
            b'{"text":"%b"}' % text.encode(),
            before_sending=ready,
        )

    answers = at_once([send(text) for text in texts])

    answered = [answer for answer in answers if answer.status == 200]
    refused = [answer for answer in answers if answer.status == 429]
    assert (len(answered), len(refused)) == (1 + QUEUE_MAX, 3)
    for answer, text in zip(answers, texts, strict=True):
        if answer.status == 200:
            assert answer.body["response"] == text
    for answer in refused:
        check_problem(answer, 429, "Queue full (8 pending).")
        assert int(answer.headers["Retry-After"]) >= 1
        assert (answer.body["ok"], answer.body["response"]) == (False, "")
        assert answer.body["sessionKey"] == "burst"
    log = events(gateway.folder, "burst")
    queued = [each.prompt_id for each in log if isinstance(each, e.PromptQueued)]
    started = [each.prompt_id for each in log if isinstance(each, e.RunStarted)]
    completed = [each.prompt_id for each in log if isinstance(each, e.RunCompleted)]
    assert queued == started == completed
    assert len(queued) == 1 + QUEUE_MAX
    check_log(gateway.folder, gateway)


def test_thirty_two_sessions_prompted_at_once_each_get_their_own_answer(
    gateway: RunningGateway,
) -> None:
    def send(number: int) -> Callable[[Callable[[], object]], Answer]:
        def call(ready: Callable[[], object]) -> Answer:
            ready()
            return prompt(gateway, f"many-{number}", words(20, f"n{number}"))

        return call

    answers = at_once([send(number) for number in range(32)])
    for number, answer in enumerate(answers):
        assert answer.status == 200
        assert answer.body["sessionKey"] == f"many-{number}"
        assert answer.body["response"] == words(20, f"n{number}")


def test_a_hundred_first_requests_at_once_make_one_session(gateway: RunningGateway) -> None:
    def send(ready: Callable[[], object]) -> int:
        return gateway.request(
            "POST", "/sessions/hundred/messages", b'{"text":"hi"}', before_sending=ready
        ).status

    statuses = at_once([send] * 100)
    assert set(statuses) <= {200, 429}
    gateway.until_idle("hundred")
    log = events(gateway.folder, "hundred")
    assert [type(each) for each in log].count(e.SessionCreated) == 1
    assert [type(each) for each in log].count(e.RunCompleted) == statuses.count(200)
    assert gateway.snapshot("hundred")["messageCount"] == 2 * statuses.count(200)
    check_log(gateway.folder, gateway)


def test_abort_answers_the_waiting_client_with_the_partial_text_and_goes_on(
    gateway: RunningGateway,
) -> None:
    text = words(1_000)
    running = Background(partial(prompt, gateway, "abort", text))
    gateway.until_answering("abort")
    waiting = Background(partial(prompt, gateway, "abort", "and then this"))
    until(lambda: gateway.snapshot("abort")["queueDepth"] == 1, "the second prompt waits")

    assert gateway.post("/sessions/abort/abort").body == {"ok": True}

    answer = running.result()
    check_problem(answer, 409, "aborted")
    assert answer.body["ok"] is False
    assert answer.body["response"]
    assert text.startswith(answer.body["response"])
    assert len(answer.body["response"]) < len(text)
    assert waiting.result().body["response"] == "and then this"
    messages = gateway.get("/sessions/abort/history").body["messages"]
    assert text_of(messages[1]) == answer.body["response"]
    check_log(gateway.folder, gateway)


def test_abort_with_queue_cancels_the_waiting_prompts_too(gateway: RunningGateway) -> None:
    running = Background(partial(prompt, gateway, "abort-all", words(1_000)))
    gateway.until_answering("abort-all")
    waiting = [
        Background(partial(prompt, gateway, "abort-all", f"never {number}")) for number in range(3)
    ]
    until(lambda: gateway.snapshot("abort-all")["queueDepth"] == 3, "three prompts wait")

    assert gateway.post("/sessions/abort-all/abort", {"queue": True}).body == {"ok": True}

    assert running.result().status == 409
    for each in waiting:
        check_problem(each.result(), 409, "aborted")
        assert each.result().body["response"] == ""
    log = events(gateway.folder, "abort-all")
    assert [type(each) for each in log].count(e.PromptCancelled) == 3
    assert [type(each) for each in log].count(e.RunStarted) == 1
    assert gateway.snapshot("abort-all")["messageCount"] == 2
    check_log(gateway.folder, gateway)


def test_abort_of_an_idle_session_does_nothing(gateway: RunningGateway) -> None:
    prompt(gateway, "idle", "hello")
    before = events(gateway.folder, "idle")
    assert gateway.post("/sessions/idle/abort").body == {"ok": False}
    assert gateway.post("/sessions/idle/abort", {"queue": True}).body == {"ok": False}
    assert events(gateway.folder, "idle") == before


def test_a_client_that_leaves_does_not_take_its_prompt_along(gateway: RunningGateway) -> None:
    with contextlib.closing(socket.create_connection((HOST, gateway.port), DEADLINE_S)) as leaving:
        body = b'{"text":"%b"}' % words(SLOW).encode()
        leaving.sendall(
            b"POST /sessions/leaves/messages HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        gateway.until_answering("leaves")
    gateway.until_idle("leaves")
    messages = gateway.get("/sessions/leaves/history").body["messages"]
    assert [text_of(message) for message in messages] == [words(SLOW)] * 2


def test_with_a_token_everything_but_health_wants_it(start_gateway: StartGateway) -> None:
    gateway = start_gateway(token="swordfish")
    assert gateway.get("/health").body == {"ok": True, "ready": True}
    for path in ("/ready", "/sessions", "/sessions/x", "/nowhere"):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Bearer Swordfish"},
            {"Authorization": "Bearer "},
            {"Authorization": "Basic swordfish"},
            {"Authorization": "swordfish"},
        ):
            answer = gateway.get(path, **headers)
            check_problem(answer, 401, "Unauthorized")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert gateway.post("/sessions/x/messages", {"text": "hi"}).status == 401
    assert gateway.get("/ready?token=swordfish").status == 401
    for scheme in ("Bearer", "bearer"):
        answer = gateway.get("/ready", Authorization=f"{scheme} swordfish")
        assert answer.status == 200
        assert list(answer.body) == ["ok", "ready", "sessions", "tools", "sandbox", "mcpServers"]
    assert "swordfish" not in gateway.log


def check_problem(answer: Answer, status: int, error: str) -> None:
    assert answer.status == status, answer.body
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert set(answer.body) >= PROBLEM_FIELDS
    assert answer.body["error"] == answer.body["detail"] == error
    assert answer.body["status"] == status
    assert answer.body["title"]
    assert uuid.UUID(answer.body["request_id"])
