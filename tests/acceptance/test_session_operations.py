"""What can be done to a session, through the real server."""

import threading
from collections.abc import Iterator

import pytest

from actors.session import events as e
from actors.session.messages import text_of
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Frame, RunningGateway, Stream, check_log, events, until

SLOW_WORDS = " ".join(f"word{number}" for number in range(200))


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(demo_delay_ms=10) as running:
        yield running
        check_log(running.folder, running)


def prompt(gateway: RunningGateway, key: str, text: str, **headers: str) -> dict[str, object]:
    answer = gateway.post(f"/sessions/{key}/messages", {"text": text}, **headers)
    body: dict[str, object] = answer.body
    return body


def start_slowly(gateway: RunningGateway, key: str) -> None:
    answer = gateway.post(f"/sessions/{key}/enqueue", {"text": SLOW_WORDS})
    assert answer.status == 202
    until(lambda: gateway.snapshot(key).get("processing"), "it runs")


def texts(gateway: RunningGateway, key: str) -> list[tuple[str, str]]:
    messages = gateway.get(f"/sessions/{key}/history").body["messages"]
    return [
        (message["role"], "".join(part.get("text", "") for part in message["parts"]))
        for message in messages
    ]


def rest_of(stream: Stream) -> list[Frame]:
    return list(stream.frames())


def test_a_session_gets_a_name_that_every_snapshot_shows(gateway: RunningGateway) -> None:
    prompt(gateway, "named", "hi")
    assert gateway.request("PATCH", "/sessions/named", b'{"name":"  My day "}').body == {"ok": True}
    assert gateway.request("PATCH", "/sessions/named", b"{}").body == {"ok": True}
    assert gateway.snapshot("named")["name"] == "My day"
    listed = gateway.get("/sessions?prefix=named").body["sessions"]
    assert [each["name"] for each in listed] == ["My day"]


@pytest.mark.parametrize("name", ['""', '"  "', "null", "7", f'"{"x" * 201}"', '"a\\u0000b"'])
def test_a_name_that_is_none_is_refused(gateway: RunningGateway, name: str) -> None:
    prompt(gateway, "unnamed", "hi")
    refused = gateway.request("PATCH", "/sessions/unnamed", f'{{"name":{name}}}'.encode())
    assert refused.status == 422
    assert "name" not in gateway.snapshot("unnamed")


def test_what_is_not_there_is_not_changed(gateway: RunningGateway) -> None:
    for method, path, body in [
        ("PATCH", "", b'{"name":"x"}'),
        ("DELETE", "", None),
        ("POST", "/reset", None),
        ("POST", "/reload", None),
        ("POST", "/model", b'{"provider":"demo","modelId":"echo"}'),
        ("POST", "/steer", b'{"text":"x"}'),
        ("POST", "/abort", None),
    ]:
        answer = gateway.request(method, f"/sessions/missing{path}", body)
        assert answer.status == 404, path
        assert answer.body["error"] == "Session not found: missing"


def test_a_reset_really_resets_while_the_subscribers_stay(gateway: RunningGateway) -> None:
    prompt(gateway, "reset", "one")
    before = gateway.snapshot("reset")
    with gateway.stream("/sessions/reset/events") as stream:
        frames = stream.frames()
        next(frames)
        assert gateway.post("/sessions/reset/reset").body == {"ok": True}
        seen = next(frames)
        assert seen.data["type"] == "session_state"
        assert seen.data["snapshot"]["sessionId"] != before["sessionId"]
        assert texts(gateway, "reset") == []
        prompt(gateway, "reset", "two")
        assert next(frames).data["type"] == "session_state"
    assert texts(gateway, "reset") == [("user", "two"), ("assistant", "two")]
    log = events(gateway.folder, "reset")
    assert "one" in [event.text for event in log if isinstance(event, e.PromptQueued)]


def test_a_reset_in_mid_run_ends_it_and_cancels_what_waits(gateway: RunningGateway) -> None:
    start_slowly(gateway, "busy")
    with gateway.stream("/sessions/busy/chat", method="POST", body={"text": "waiting"}) as waiting:
        until(lambda: gateway.snapshot("busy")["queueDepth"] == 1, "one waits")
        assert gateway.post("/sessions/busy/reset").body == {"ok": True}
        assert [frame.data for frame in rest_of(waiting)] == [
            {"type": "error", "errorText": "Session reset"},
            "[DONE]",
        ]
    assert gateway.snapshot("busy")["processing"] is False
    assert texts(gateway, "busy") == []


def test_a_deleted_session_is_gone_and_its_key_starts_empty(gateway: RunningGateway) -> None:
    prompt(gateway, "deleted", "one")
    with gateway.stream("/sessions/deleted/events") as stream:
        frames = stream.frames()
        next(frames)
        assert gateway.request("DELETE", "/sessions/deleted").body == {"ok": True}
        assert [frame.data["type"] for frame in frames] == ["session_deleted"]
    assert gateway.get("/sessions/deleted").status == 404
    assert gateway.get("/sessions/deleted/events").status == 404
    assert gateway.get("/sessions?prefix=deleted").body == {"sessions": []}
    prompt(gateway, "deleted", "two")
    assert texts(gateway, "deleted") == [("user", "two"), ("assistant", "two")]


def test_the_primary_session_cannot_be_deleted(gateway: RunningGateway) -> None:
    refused = gateway.request("DELETE", "/sessions/web:main")
    assert (refused.status, refused.body["error"]) == (400, "Cannot delete primary session")


def test_a_model_is_chosen_by_name(gateway: RunningGateway) -> None:
    prompt(gateway, "choosing", "hi")
    chosen = {"provider": "demo", "modelId": "echo"}
    assert gateway.post("/sessions/choosing/model", chosen).body == {"ok": True, "model": chosen}
    for body, named in [({"provider": "x", "modelId": "y"}, "x/y"), ({}, "/")]:
        refused = gateway.post("/sessions/choosing/model", body)
        assert (refused.status, refused.body["error"]) == (404, f"Model not found: {named}")
    assert gateway.post("/sessions/choosing/reload").body == {"ok": True}


def test_steering_in_mid_stream_comes_before_the_next_model_call(gateway: RunningGateway) -> None:
    start_slowly(gateway, "steered")
    answer = gateway.post("/sessions/steered/steer", {"text": "and now this"})
    assert answer.body == {"ok": True, "mode": "steer", "sessionKey": "steered"}
    assert gateway.snapshot("steered")["queueDepth"] == 0
    gateway.until_idle("steered")
    assert texts(gateway, "steered") == [
        ("user", SLOW_WORDS),
        ("assistant", SLOW_WORDS),
        ("user", "and now this"),
        ("assistant", "and now this"),
    ]
    log = events(gateway.folder, "steered")
    assert [type(event) for event in log if isinstance(event, e.RunCompleted)] == [e.RunCompleted]


def test_steering_skips_tool_calls_that_have_not_begun(gateway: RunningGateway) -> None:
    text = f'{SLOW_WORDS}\n!bash {{"command": "pwd"}}'
    assert gateway.post("/sessions/skipping/enqueue", {"text": text}).status == 202
    until(lambda: gateway.snapshot("skipping").get("processing"), "it runs")
    assert gateway.post("/sessions/skipping/steer", {"text": "stop that"}).body["mode"] == "steer"
    gateway.until_idle("skipping")
    skipped = [
        event for event in events(gateway.folder, "skipping") if isinstance(event, e.ToolCompleted)
    ]
    assert [event.outcome for event in skipped] == ["skipped"]
    assert text_of(skipped[0].content) == "Skipped due to queued user message."
    assert texts(gateway, "skipping")[-2:] == [("user", "stop that"), ("assistant", "stop that")]


def test_steering_of_an_idle_session_is_queued(gateway: RunningGateway) -> None:
    prompt(gateway, "idle", "hi")
    answer = gateway.post("/sessions/idle/steer", {"prompt": "more"})
    assert answer.body == {"ok": True, "mode": "queued", "sessionKey": "idle"}
    gateway.until_idle("idle")
    assert texts(gateway, "idle")[-1] == ("assistant", "more")


def test_steering_dies_with_an_aborted_run(gateway: RunningGateway) -> None:
    start_slowly(gateway, "dying")
    assert gateway.post("/sessions/dying/steer", {"text": "never told"}).body["mode"] == "steer"
    assert gateway.post("/sessions/dying/abort").body == {"ok": True}
    prompt(gateway, "dying", "next")
    said = [text for _, text in texts(gateway, "dying")]
    assert "never told" not in said
    assert said[-1] == "next"


def test_an_abort_that_could_be_meant_in_two_ways_stops_nothing(gateway: RunningGateway) -> None:
    start_slowly(gateway, "unclear")
    assert gateway.post("/sessions/unclear/abort", {"queue": "yes"}).status == 422
    assert gateway.snapshot("unclear")["processing"] is True
    assert gateway.post("/sessions/unclear/abort", {"queue": True}).body == {"ok": True}


def test_a_prompt_can_be_left_to_itself(gateway: RunningGateway) -> None:
    answer = gateway.post("/sessions/left/enqueue", {"text": "by yourself"})
    assert answer.status == 202
    assert answer.body["queued"] is True
    gateway.until_idle("left")
    assert texts(gateway, "left")[-1] == ("assistant", "by yourself")
    log = events(gateway.folder, "left")
    queued = [event for event in log if isinstance(event, e.PromptQueued)]
    assert [event.prompt_id for event in queued] == [answer.body["promptId"]]


def test_a_repeat_with_the_same_key_gets_the_first_answer(gateway: RunningGateway) -> None:
    key = {"Idempotency-Key": "order 66"}
    first = prompt(gateway, "again", "hello", **key)
    assert prompt(gateway, "again", "hello", **key) == first
    refused = gateway.post("/sessions/again/messages", {"text": "other"}, **key)
    assert refused.status == 422
    assert len(texts(gateway, "again")) == 2
    empty = gateway.post("/sessions/again/messages", {"text": "x"}, **{"Idempotency-Key": " "})
    assert empty.status == 400


def test_a_hundred_repeats_at_once_are_one_prompt(gateway: RunningGateway) -> None:
    answers: list[dict[str, object]] = []

    def repeat() -> None:
        answers.append(prompt(gateway, "stampede", "hello", **{"Idempotency-Key": "one"}))

    threads = [threading.Thread(target=repeat) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [{"ok": True, "response": "hello", "sessionKey": "stampede"}] * 100
    log = events(gateway.folder, "stampede")
    assert len([event for event in log if isinstance(event, e.PromptQueued)]) == 1


def test_a_chat_message_sent_twice_is_answered_once(gateway: RunningGateway) -> None:
    body = {"messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hi"}]}]}
    with gateway.stream("/sessions/twice/chat", method="POST", body=body) as first:
        one = [frame.data for frame in rest_of(first)]
    with gateway.stream("/sessions/twice/chat", method="POST", body=body) as second:
        assert [frame.data for frame in rest_of(second)] == one
    assert len(texts(gateway, "twice")) == 2
    regenerate = {**body, "trigger": "regenerate-message"}
    with gateway.stream("/sessions/twice/chat", method="POST", body=regenerate) as third:
        rest_of(third)
    assert len(texts(gateway, "twice")) == 4


def test_a_key_survives_a_kill(open_gateway: OpenGateway) -> None:
    with open_gateway(demo_delay_ms=1) as gateway:
        key = {"Idempotency-Key": "kept"}
        first = prompt(gateway, "kept", "hello", **key)
        gateway.restart()
        assert prompt(gateway, "kept", "hello", **key) == first
        assert len(texts(gateway, "kept")) == 2


def test_the_list_is_paged_and_filtered(gateway: RunningGateway) -> None:
    for number in range(5):
        prompt(gateway, f"page:{number}", "hi")
    found: list[str] = []
    cursor = ""
    while True:
        page = gateway.get(f"/sessions?prefix=page:&limit=2{cursor}").body
        found.extend(each["sessionKey"] for each in page["sessions"])
        if "nextCursor" not in page:
            break
        cursor = f"&cursor={page['nextCursor']}"
    assert found == [f"page:{number}" for number in range(5)]
    start_slowly(gateway, "page:busy")
    active = gateway.get("/sessions?prefix=page:&active=true").body["sessions"]
    assert [each["sessionKey"] for each in active] == ["page:busy"]
    assert gateway.post("/sessions/page:busy/abort").body == {"ok": True}
