"""What the reference gateway got wrong, W1 to W28, and what this one does instead."""

import http.client
import inspect
import json
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from actors.feed import Committed
from actors.session import events as e
from actors.session.state import ModelRef, SessionState
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    HOST,
    Answer,
    Background,
    RunningGateway,
    at_once,
    check_log,
    events,
    stored_stream,
    until,
    words,
)
from tests.wire.servers import ModelServer, OpenAIWire, Raw, Refuse, Say
from web.sse import Frames

HELLO = {"text": "hello"}
LONG = {"text": words(3_000)}
HOOK = "hook-secret"
TOKEN = "token-of-the-settings"

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="a process's memory is read from /proc"
)


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(webhook_secret=HOOK, queue_max=1, demo_delay_ms=2) as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(OpenAIWire()) as running:
        yield running


@pytest.fixture(scope="module")
def modelled(open_gateway: OpenGateway, server: ModelServer) -> Iterator[RunningGateway]:
    variables = {"OPENAI_API_KEY": "sk-canary", "OPENAI_BASE_URL": server.url}
    with open_gateway(
        variables=variables, token=TOKEN, model_stall_timeout_s=1, model_retries_max=0
    ) as running:
        yield running


def authorized(gateway: RunningGateway, method: str, path: str, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers)


def history(gateway: RunningGateway, key: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = gateway.get(f"/sessions/{key}/history").body["messages"]
    return messages


def worker_rss_kib(gateway: RunningGateway) -> int:
    """Return the memory of the process that answers: its lock file names it."""
    (lock,) = gateway.folder.glob("*.lock")
    pid = lock.read_text().split()[0]
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def test_w01_events_of_an_unknown_session_are_404_before_any_stream(
    gateway: RunningGateway,
) -> None:
    answer = gateway.get("/sessions/w01/events")
    assert (answer.status, answer.body["error"]) == (404, "Session not found: w01")
    assert gateway.get("/health").body["ready"] is True


def test_w02_a_reset_really_resets_and_the_log_keeps_what_was(gateway: RunningGateway) -> None:
    gateway.post("/sessions/w02/messages", HELLO)
    before = gateway.snapshot("w02")["sessionId"]
    with gateway.stream("/sessions/w02/events") as stream:
        frames = stream.frames()
        next(frames)
        assert gateway.post("/sessions/w02/reset").body == {"ok": True}
        assert next(frames).data["snapshot"]["messageCount"] == 0
    assert history(gateway, "w02") == []
    assert gateway.snapshot("w02")["sessionId"] != before
    kept = [each for each in events(gateway.folder, "w02") if isinstance(each, e.MessageCompleted)]
    assert len(kept) == 2


def test_w03_a_model_error_and_an_abort_are_no_success(gateway: RunningGateway) -> None:
    failed = gateway.post("/sessions/w03/messages", {"text": "!fail broken"})
    assert (failed.status, failed.body["ok"], failed.body["error"]) == (502, False, "broken")
    waiting = Background(lambda: gateway.post("/sessions/w03/messages", LONG))
    gateway.until_answering("w03")
    assert gateway.post("/sessions/w03/abort").body == {"ok": True}
    aborted = waiting.result()
    assert (aborted.status, aborted.body["error"]) == (409, "aborted")
    assert aborted.body["response"]


def test_w04_a_webhook_needs_its_secret_and_reaches_its_own_sessions(
    gateway: RunningGateway, modelled: RunningGateway
) -> None:
    assert gateway.post("/webhooks/x", HELLO).status == 401
    secret = {"X-Webhook-Secret": HOOK}
    reaching = {"text": "hi", "sessionKey": "web:main"}
    assert gateway.post("/webhooks/x", reaching, **secret).status == 403
    answer = gateway.post("/webhooks/x", {"text": "hi"}, **secret)
    assert answer.body["sessionKey"] == "webhook:x:default"
    assert authorized(modelled, "POST", "/webhooks/x", HELLO).status == 404


def test_w05_prompts_that_wait_survive_a_kill_and_run_afterwards(
    open_gateway: OpenGateway,
) -> None:
    # Short enough that the conversation is not summed up before the next prompt.
    with open_gateway(demo_delay_ms=10) as gateway:
        gateway.post("/sessions/w05/enqueue", {"text": words(1_000)})
        gateway.until_answering("w05")
        assert gateway.post("/sessions/w05/enqueue", {"text": "waited"}).status == 202
        gateway.kill()
        gateway.start()
        gateway.until_idle("w05")
        assert history(gateway, "w05")[-1]["parts"] == [{"type": "text", "text": "waited"}]
        check_log(gateway.folder, gateway)


def test_w06_keys_that_look_alike_are_sessions_of_their_own(gateway: RunningGateway) -> None:
    for key in ("w06:b", "w06_b", "w06.b"):
        gateway.post(f"/sessions/{key}/messages", {"text": key})
    assert gateway.request("DELETE", "/sessions/w06_b").status == 200
    assert [each["parts"][0]["text"] for each in history(gateway, "w06:b")] == ["w06:b"] * 2
    assert not [path for path in gateway.folder.rglob("*") if "w06" in path.name]


def test_w07_a_session_is_found_again_wherever_it_was_used_from(gateway: RunningGateway) -> None:
    secret = {"X-Webhook-Secret": HOOK}
    gateway.post("/webhooks/w07", {"text": "by hook"}, **secret)
    assert len(history(gateway, "webhook:w07:default")) == 2


def test_w08_first_requests_at_once_make_one_session(gateway: RunningGateway) -> None:
    def ask(met: Any) -> Answer:
        met()
        return gateway.post("/sessions/w08/enqueue", HELLO)

    answers = at_once([ask] * 20)
    accepted = [each for each in answers if each.status == 202]
    gateway.until_idle("w08")
    created = [each for each in events(gateway.folder, "w08") if isinstance(each, e.SessionCreated)]
    assert len(created) == 1
    assert len(history(gateway, "w08")) == 2 * len(accepted)


def test_w09_a_run_goes_on_without_its_client_which_can_come_back(
    gateway: RunningGateway,
) -> None:
    body = {"text": words(300)}
    with gateway.stream("/sessions/w09/chat", method="POST", body=body) as stream:
        next(stream.frames())
    with gateway.stream("/sessions/w09/chat/stream") as again:
        assert next(again.frames()).data["type"] == "start"
    gateway.until_idle("w09")
    assert len(history(gateway, "w09")) == 2


def test_w10_every_frame_has_an_id_and_a_reader_resumes_without_a_gap(
    gateway: RunningGateway,
) -> None:
    gateway.post("/sessions/w10/messages", {"text": words(20)})
    last = gateway.get("/sessions/w10/state").body["seq"]
    seen: list[int] = []
    for after in (0, last // 2):
        with gateway.stream(f"/sessions/w10/events?after={after}") as stream:
            ids = [next(frames).id for frames in [stream.frames()] for _ in range(last - after + 1)]
        assert ids == list(range(after, last + 1))
        seen += ids[1:]
    gateway.request("DELETE", "/sessions/w10")
    assert max(seen) == last


@needs_proc
def test_w11_a_reader_that_never_reads_costs_no_memory(open_gateway: OpenGateway) -> None:
    with open_gateway(demo_delay_ms=0, slow_reader_timeout_s=1) as gateway:
        gateway.post("/sessions/w11/messages", HELLO)
        with gateway.stream("/sessions/w11/events?after=0"):
            gateway.post("/sessions/w11/messages", {"text": words(200)})
            before = worker_rss_kib(gateway)
            for _ in range(15):
                gateway.post("/sessions/w11/messages", {"text": words(4_000)})
            assert worker_rss_kib(gateway) - before < 60_000
        assert gateway.get("/health").status == 200


@needs_proc
def test_w12_a_body_beyond_the_limit_is_refused_before_it_is_read(
    gateway: RunningGateway,
) -> None:
    before = worker_rss_kib(gateway)
    connection = http.client.HTTPConnection(HOST, gateway.port, timeout=30)
    with closing(connection):
        connection.putrequest("POST", "/sessions/w12/messages")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(150 * 2**20))
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert worker_rss_kib(gateway) - before < 20_000


def test_w13_history_and_state_take_a_limit_and_cursors(gateway: RunningGateway) -> None:
    for number in range(3):
        gateway.post("/sessions/w13/messages", {"text": str(number)})
    newest = gateway.get("/sessions/w13/state?limit=1").body["messages"]
    assert [each["parts"][0]["text"] for each in newest] == ["2"]
    before = gateway.get(f"/sessions/w13/history?limit=2&before={newest[0]['id']}").body
    assert [each["role"] for each in before["messages"]] == ["assistant", "user"]


def test_w14_a_full_queue_is_429_everywhere_and_a_repeat_has_no_second_effect(
    gateway: RunningGateway,
) -> None:
    gateway.post("/sessions/w14/enqueue", LONG)
    gateway.until_answering("w14")
    keyed = {"Idempotency-Key": "w14"}
    first = gateway.post("/sessions/w14/enqueue", HELLO, **keyed)
    assert (first.status, gateway.post("/sessions/w14/enqueue", HELLO, **keyed).body) == (
        202,
        first.body,
    )
    assert gateway.post("/sessions/w14/enqueue", {"text": "other"}, **keyed).status == 422
    for route in ("messages", "chat", "enqueue"):
        full = gateway.post(f"/sessions/w14/{route}", HELLO)
        assert (full.status, full.headers["Retry-After"]) == (429, "1")
    gateway.post("/sessions/w14/abort", {"queue": True})


def test_w15_an_abort_takes_the_queue_along_when_asked_and_its_steering_always(
    gateway: RunningGateway,
) -> None:
    gateway.post("/sessions/w15/enqueue", LONG)
    gateway.until_answering("w15")
    gateway.post("/sessions/w15/enqueue", {"text": "waits"})
    assert gateway.post("/sessions/w15/steer", {"text": "leaks"}).body["mode"] == "steer"
    gateway.post("/sessions/w15/abort", {"queue": True})
    gateway.until_idle("w15")
    gateway.post("/sessions/w15/messages", {"text": "next"})
    said = json.dumps(history(gateway, "w15"))
    assert "next" in said
    assert "leaks" not in said
    assert "waits" not in said


def test_w16_tokens_are_kept_and_compared_as_digests(modelled: RunningGateway) -> None:
    issued = authorized(modelled, "POST", "/tokens", {"name": "w16", "scopes": ["read"]}).body
    stored = b"".join(each.payload or b"" for each in stored_stream(modelled.folder, "gateway"))
    assert issued["token"].encode() not in stored
    from web import tokens, webhook_auth

    for module in (tokens, webhook_auth):
        assert "hmac.compare_digest" in inspect.getsource(module)


def test_w17_a_changed_setting_counts_at_once_and_a_name_is_shown(
    gateway: RunningGateway,
) -> None:
    change = {"gateway": {"run": {"maxTurns": 7}}}
    assert gateway.request("PATCH", "/config", json.dumps(change).encode()).status == 200
    assert gateway.get("/config").body["gateway"]["run"]["maxTurns"] == 7
    assert any(each.type == "config.patched" for each in stored_stream(gateway.folder, "gateway"))
    gateway.post("/sessions/w17/messages", HELLO)
    gateway.request("PATCH", "/sessions/w17", b'{"name": " A name "}')
    assert gateway.snapshot("w17")["name"] == "A name"


def test_w18_no_secret_is_in_what_operators_see(
    modelled: RunningGateway, server: ModelServer
) -> None:
    server.reply(Refuse(401, "No such key: sk-canary"))
    authorized(modelled, "POST", "/sessions/w18/messages", {"text": "private words"})
    seen = json.dumps(
        [
            authorized(modelled, "GET", path).body
            for path in ("/config", "/logs", "/sessions/w18/state", "/tokens")
        ]
    )
    assert "sk-canary" not in seen
    assert TOKEN not in seen
    assert "private words" not in json.dumps(authorized(modelled, "GET", "/logs").body)


def test_w19_sigterm_ends_the_process_though_somebody_watches(
    open_gateway: OpenGateway,
) -> None:
    with open_gateway(grace_s=1) as gateway:
        gateway.post("/sessions/w19/messages", HELLO)
        with gateway.stream("/sessions/w19/events") as stream:
            next(stream.frames())
            gateway.terminate()


def test_w20_malformed_input_is_a_4xx_that_says_what_is_wrong(gateway: RunningGateway) -> None:
    messages = "/sessions/w20/messages"
    assert gateway.request("POST", messages, b"null").status == 400
    assert gateway.get("/sessions/%zz").status == 400
    assert gateway.get("/sessions/" + "x" * 256).status == 400
    assert gateway.get("/sessions/w20").status == 404


def test_w21_the_list_has_every_session_and_ids_stay_the_same(gateway: RunningGateway) -> None:
    gateway.post("/sessions/w21/messages", HELLO)
    before = (gateway.snapshot("w21")["createdAt"], history(gateway, "w21"))
    gateway.kill()
    gateway.start()
    listed = gateway.get("/sessions?prefix=w21").body["sessions"]
    assert [each["sessionKey"] for each in listed] == ["w21"]
    assert (gateway.snapshot("w21")["createdAt"], history(gateway, "w21")) == before
    session_id = gateway.snapshot("w21")["sessionId"]
    assert all(each["id"].startswith(f"{session_id}:") for each in before[1])


def test_w22_a_get_creates_nothing(gateway: RunningGateway) -> None:
    for path in ("/memory/status", "/memory/core"):
        assert gateway.get(f"{path}?sessionKey=w22").status == 404
    for path in ("", "/history", "/state", "/events", "/chat/stream"):
        assert gateway.get(f"/sessions/w22{path}").status == 404
    assert events(gateway.folder, "w22") == []


def remember(gateway: RunningGateway, content: str, **fields: object) -> int:
    memory: dict[str, Any] = gateway.post("/memory/remember", {"content": content, **fields}).body[
        "memory"
    ]
    number: int = memory["id"]
    return number


def found(gateway: RunningGateway, query: str, limit: int = 4) -> list[str]:
    results = gateway.post("/memory/search", {"query": query, "limit": limit}).body["results"]
    return [each["content"] for each in results if each["sourceType"] == "memory"]


def test_w23_memories_of_any_script_stay_apart_and_are_found(gateway: RunningGateway) -> None:
    assert remember(gateway, "naïve café") != remember(gateway, "日本語")
    assert found(gateway, "日本語") == ["日本語"]
    assert found(gateway, "NAÏVE") == ["naïve café"]
    assert found(gateway, "ケーキ") == []


def test_w24_the_best_memory_comes_first_also_when_it_is_the_oldest(
    gateway: RunningGateway,
) -> None:
    best = "the spare key lies under the blue flowerpot"
    remember(gateway, best)
    for number in range(20):
        remember(gateway, f"the party number {number} was spare")
    assert found(gateway, "spare key blue flowerpot", limit=1) == [best]
    assert found(gateway, "art") == []
    assert found(gateway, "archival") == []


def test_w25_nothing_is_guessed_and_secrets_come_back_masked(modelled: RunningGateway) -> None:
    body = {"content": "4711", "kind": "secret", "bucket": "core", "key": "pin"}
    authorized(modelled, "POST", "/memory/remember", body)
    issued = authorized(modelled, "POST", "/tokens", {"name": "w25", "scopes": ["read"]}).body
    bearer = {"Authorization": f"Bearer {issued['token']}"}
    masked = modelled.get("/memory/core", **bearer).body["memories"]
    assert [each["content"] for each in masked if each["key"] == "pin"] == ["••••••••"]
    clear = authorized(modelled, "GET", "/memory/core").body["memories"]
    assert [each["content"] for each in clear if each["key"] == "pin"] == ["4711"]


def test_w26_an_event_is_encoded_once_however_many_read_it(gateway: RunningGateway) -> None:
    frames = Frames(lambda _chosen: ModelRef("demo", "echo"))
    committed = Committed(1, e.TextDelta(0, "x"), SessionState("w26"), 1)
    assert frames.frame(committed) is frames.frame(committed)
    gateway.post("/sessions/w26/messages", HELLO)
    streams = [gateway.stream("/sessions/w26/events") for _ in range(20)]
    gateway.post("/sessions/w26/messages", HELLO)
    last = gateway.get("/sessions/w26/state").body["seq"]
    seen: list[list[str]] = []
    for stream in streams:
        with stream:
            read: list[str] = []
            for frame in stream.frames():
                read.append(json.dumps(frame.data))
                if frame.id == last:
                    break
            seen.append(read[1:])
    assert all(each == seen[0] for each in seen)


def test_w27_runs_are_bounded_metadata_is_kept_and_all_text_parts_count(
    open_gateway: OpenGateway,
) -> None:
    with open_gateway(run_timeout_s=1, demo_delay_ms=50, webhook_secret=HOOK) as gateway:
        late = gateway.post("/sessions/w27/messages", LONG)
        assert (late.status, late.body["error"]) == (502, "The run took more than 1 s.")
        meta = {"text": "hi", "metadata": {"a": [1]}}
        gateway.post("/webhooks/w27", meta, **{"X-Webhook-Secret": HOOK})
        queued = [
            each
            for each in events(gateway.folder, "webhook:w27:default")
            if isinstance(each, e.PromptQueued)
        ]
        assert queued[0].metadata == {"a": [1]}
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        chat = {"messages": [{"role": "user", "parts": parts}]}
        gateway.post("/sessions/w27b/chat", chat)
        assert history(gateway, "w27b")[0]["parts"] == [{"type": "text", "text": "one\ntwo"}]
        silent = {"messages": [chat["messages"][0], {"role": "user", "parts": []}]}
        assert gateway.post("/sessions/w27b/chat", silent).status == 400


@pytest.mark.parametrize(
    "reply",
    [
        [Raw(b"data: no JSON at all\n\n")],
        [Raw(b"\xff\xfe\x00")],
        [Say(["half"])],
        Refuse(418, "no"),
    ],
    ids=["garbage", "bytes", "cut", "refused"],
)
def test_w28_whatever_goes_wrong_ends_the_run(
    modelled: RunningGateway, server: ModelServer, reply: Any
) -> None:
    server.reply(*[reply] * 3)
    failed = authorized(modelled, "POST", "/sessions/w28/messages", HELLO)
    assert (failed.status, failed.body["ok"]) == (502, False)
    ends = [each for each in events(modelled.folder, "w28") if isinstance(each, e.RunFailed)]
    assert ends
    server.replies.clear()  # what was not asked for again
    until(
        lambda: not authorized(modelled, "GET", "/sessions/w28").body["session"]["processing"],
        "it is ready for the next",
    )


def test_every_defect_has_its_test() -> None:
    named = {
        int(found[1])
        for name in dir(sys.modules[__name__])
        if (found := re.match(r"test_w(\d\d)_", name))
    }
    assert named == set(range(1, 29))
