"""Chats and event streams: what the reference was recorded to send, and what ours sends."""

from collections.abc import Iterable, Iterator
from functools import partial
from http.client import HTTPMessage
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    Answer,
    Background,
    Frame,
    RunningGateway,
    parsed,
    text_of,
    until,
)
from tests.acceptance.reference import (
    STREAM_HEADERS,
    TOOL_ERROR,
    VARY,
    Call,
    Elsewhere,
    Same,
    StubModel,
    Table,
    check_accounted,
    check_replay,
    check_sequence,
    comparable,
    differences,
    recording,
    replays,
    without_tools,
)

QUEUE_MAX = 8
SNAPSHOT = (*VARY, "lastMessagePreview")
FAILED = (*SNAPSHOT, "messageCount", "error")
"""The reference was recorded with prompts that fail before they are a message."""


def user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "text": text} for text in texts]}


CHATS: dict[str, dict[str, Any]] = {
    "plain": {"text": "hi"},
    "prompt field": {"prompt": "hi"},
    "useChat parts": {"messages": [user("hi")]},
    "useChat content": {"messages": [{"role": "user", "content": "hi"}]},
    "thinking": {"text": "#think"},
    "tool": {"text": "#tool"},
    "tool error": {"text": "#tool #toolerr"},
    "skips non-user": {"messages": [user("first"), {"role": "assistant", "content": "second"}]},
    "only first text part": {"messages": [user("A", "B")]},
}
ABORTS = ("abort (prompt resolves, as the real AgentSession)", "abort (prompt rejects)")


def post(path: str, body: object) -> Call:
    return Call("POST", f"/sessions/{path}", body)


TABLE: Table = {
    **{
        name: Elsewhere("test_a_chat_is_the_recorded_chunks_in_the_recorded_order")
        for name in CHATS
    },
    **{name: Elsewhere("test_an_abort_is_told_to_everyone", "W3") for name in ABORTS},
    "missing": Elsewhere("test_a_chat_without_text_is_refused"),
    "empty-part text": Elsewhere("test_a_chat_without_text_is_refused"),
    "blank-part text": Elsewhere("test_a_chat_without_text_is_refused", "W27"),
    "model error": Elsewhere("test_a_failing_model_is_an_error_chunk", "W3"),
    "prompt throws": Elsewhere("test_a_failing_model_is_an_error_chunk", "W3"),
    "prompt throws aborted": Elsewhere("test_an_abort_is_told_to_everyone", "W3"),
    "zero deltas": Elsewhere(
        "unit/web/test_ai_sdk.py::test_text_without_words_opens_and_closes",
        "the providers' models leave out a block in which nothing came",
    ),
    "user texts sent": Elsewhere("test_the_recorded_texts_reach_the_model", "W27"),
    "queue wait: second stream while first runs": Elsewhere("test_a_chat_waits_for_its_turn"),
    "snapshot while 1 running 1 queued": Elsewhere("test_a_chat_waits_for_its_turn"),
    "second stream after": Elsewhere("test_a_chat_waits_for_its_turn"),
    "messages queue full": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort", "W14"),
    "chat queue full": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort", "W14"),
    "steer while processing": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort"),
    "snapshot queue full": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort"),
    "after abort: snapshot": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort"),
    "queued results after abort": Elsewhere("test_a_full_queue_refuses_and_runs_on_after_an_abort"),
    "steer: where it landed": Elsewhere(
        "test_a_full_queue_refuses_and_runs_on_after_an_abort", "W15"
    ),
    "steer idle (queued)": Same(
        post("full/steer", {"text": "hi"}), before=(post("full/messages", {"text": "hi"}),)
    ),
    "steer missing": Same(
        post("full/steer", {"text": " "}), before=(post("full/messages", {"text": "hi"}),)
    ),
    "steer unknown session": Same(post("fresh/steer", {"text": "hi"})),
    "steer mid-run events": Elsewhere("test_steering_is_one_more_step_of_the_same_answer"),
    "steer mid-run chat": Elsewhere("test_steering_is_one_more_step_of_the_same_answer"),
    "events vocabulary": Elsewhere("test_events_follow_one_another_as_recorded"),
    "state: tool result pending": Elsewhere("test_a_tools_result_is_a_message_at_once"),
}


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway, stub: StubModel) -> Iterator[RunningGateway]:
    recording("streams")
    with open_gateway(variables=stub.variables, queue_max=QUEUE_MAX) as running:
        yield running


def prompt(gateway: RunningGateway, key: str, text: str) -> Answer:
    return gateway.post(f"/sessions/{key}/messages", {"text": text})


def start_slowly(gateway: RunningGateway, key: str, deltas: int) -> Background:
    """Prompt a session whose model then says so much and waits."""
    running = Background(lambda: prompt(gateway, key, f"#slow #deltas={deltas}"))
    until_said(gateway, key, deltas)
    return running


def until_said(gateway: RunningGateway, key: str, deltas: int) -> None:
    said = "".join(f"tok{number} " for number in range(deltas))
    until(lambda: gateway.until_answering(key) == said, f"{key} has said {deltas} words")


def until_idle(frames: Iterator[Frame]) -> list[Frame]:
    """Read events until what runs and waits is done."""
    seen: list[Frame] = []
    for frame in frames:
        seen.append(frame)
        snapshot = frame.data.get("snapshot", {"processing": True})
        if len(seen) > 1 and not snapshot["processing"] and snapshot["queueDepth"] == 0:
            return seen
    raise AssertionError("the stream ended")


def check_head(recorded: Iterable[str], headers: HTTPMessage) -> None:
    """Check the headers of a stream that clients look at."""
    pairs = [line.split(": ", 1) for line in recorded if ": " in line]
    told = {name.lower(): value for name, value in pairs}
    names = [name for name in STREAM_HEADERS if name in told]
    assert [headers[name] for name in names] == [told[name] for name in names]


def test_every_recorded_name_is_accounted_for() -> None:
    check_accounted("streams", TABLE, __file__)


@pytest.mark.parametrize("name", replays(TABLE))
def test_a_recorded_request_is_answered_as_recorded(gateway: RunningGateway, name: str) -> None:
    check_replay(gateway, recording("streams")[name], replays(TABLE)[name])


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_the_recorded_chunks_in_the_recorded_order(
    gateway: RunningGateway, name: str
) -> None:
    recorded = recording("streams")[name]
    answer = gateway.post(f"/sessions/{name.replace(' ', '-')}/chat", CHATS[name])
    begin, _, _ = recorded["raw_start"].partition('"messageId":"')
    assert answer.status == 200
    check_head(recorded["head"], answer.headers)
    assert answer.body.decode().startswith(f'{begin}"messageId":"')
    ours = [frame.data for frame in parsed(answer.body.splitlines(keepends=True))]
    assert comparable(ours) == comparable(without_tools(recorded["chunks"]))


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("missing", {}),
        ("empty-part text", {"messages": [user("")]}),
        ("blank-part text", {"messages": [user("  ")]}),
    ],
)
def test_a_chat_without_text_is_refused(
    gateway: RunningGateway, name: str, body: dict[str, Any]
) -> None:
    answer = gateway.post("/sessions/refused/chat", body)
    assert (answer.status, answer.body["error"]) == (400, "Missing user message text")
    raw = recording("streams")[name]["raw_start"]
    assert raw == '{"error":"Missing user message text"}' or name == "blank-part text"
    assert gateway.get("/sessions/refused").status == 404


def test_a_failing_model_is_an_error_chunk(gateway: RunningGateway) -> None:
    *begin, finish, _ = recording("streams")["model error"]["chunks"]
    error, done = recording("streams")["prompt throws"]["chunks"]
    assert finish == {"type": "finish", "finishReason": "stop"}
    answer = gateway.post("/sessions/failing/chat", {"text": "#error"})
    *ours, failed, end = [frame.data for frame in parsed(answer.body.splitlines(keepends=True))]
    assert comparable([*ours, end]) == comparable([*begin, done])
    assert list(failed) == list(error)
    assert failed["errorText"].endswith("It was told to fail.")


def test_the_recorded_texts_reach_the_model(gateway: RunningGateway) -> None:
    for body in CHATS.values():
        gateway.post("/sessions/texts/chat", body)
    messages = gateway.get("/sessions/texts/history").body["messages"]
    ours = [message["parts"] for message in messages if message["role"] == "user"]
    left_out = ("#error", "#deltas=0", "  ")
    recorded = [
        parts
        for parts in recording("streams")["user texts sent"]
        if parts[0]["text"] not in left_out
    ]
    assert recorded[-1] == [{"type": "text", "text": "A"}]
    assert ours == [*recorded[:-1], [{"type": "text", "text": "A\nB"}]]


@pytest.mark.parametrize("name", ABORTS)
def test_an_abort_is_told_to_everyone(gateway: RunningGateway, stub: StubModel, name: str) -> None:
    recorded = recording("streams")[name]
    deltas = sum("delta" in chunk for chunk in recorded["chat"])
    gateway.request("DELETE", "/sessions/ab")
    prompt(gateway, "ab", "warm")
    slow = {"text": f"#slow #deltas={deltas}"}
    with (
        stub.held(),
        gateway.stream("/sessions/ab/events") as events,
        gateway.stream("/sessions/ab/chat", method="POST", body=slow) as chat,
    ):
        until_said(gateway, "ab", deltas)
        queued = Background(lambda: prompt(gateway, "ab", "queued one"))
        until(lambda: gateway.snapshot("ab")["queueDepth"] == 1, "one waits")
        during = gateway.get("/sessions/ab/state").body
        assert gateway.post("/sessions/ab/abort").body == recorded["abort"]
        ours = [frame.data for frame in chat.frames()]
        assert queued.result().body == recorded["queued result"]
        seen = until_idle(events.frames())
    assert comparable(ours) == comparable([*recorded["chat"][:-2], {"type": "abort"}, "[DONE]"])
    assert "aborted" in [frame.data["type"] for frame in seen]
    history = gateway.get("/sessions/ab/history").body
    assert differences(recorded["history"], history["messages"], (*VARY, "text")) == []
    assert differences(recorded["state during"], during, (*SNAPSHOT, "text")) == []
    assert during["messages"][-1]["id"].startswith("draft:ab:")
    for of_sessions in (True, False):  # when the second prompt came is another matter
        check_sequence(
            [each for each in recorded["events"] if ("snapshot" in each) is of_sessions],
            [each for each in seen if ("snapshot" in each.data) is of_sessions],
            SNAPSHOT,
        )


def test_a_chat_waits_for_its_turn(gateway: RunningGateway, stub: StubModel) -> None:
    recorded = recording("streams")
    snapshot = recorded["snapshot while 1 running 1 queued"]
    key = snapshot["session"]["sessionKey"]
    with stub.held():
        running = start_slowly(gateway, key, 3)
        waiting = gateway.stream(f"/sessions/{key}/chat", method="POST", body={"text": "hi"})
        opening = waiting.read(1)
        assert opening.decode() == recorded["queue wait: second stream while first runs"]
        assert differences(snapshot, gateway.get(f"/sessions/{key}").body, SNAPSHOT) == []
    with waiting:
        ours = [frame.data for frame in waiting.frames()]
    assert running.result().body["ok"] is True
    assert comparable(ours) == comparable(recorded["second stream after"])


def test_a_full_queue_refuses_and_runs_on_after_an_abort(
    gateway: RunningGateway, stub: StubModel
) -> None:
    recorded = recording("streams")
    texts = [f"m{number}" for number in range(QUEUE_MAX)]
    gateway.request("DELETE", "/sessions/full")
    with stub.held():
        running = start_slowly(gateway, "full", 3)
        queued = []
        for text in texts:
            queued.append(Background(partial(prompt, gateway, "full", text)))
            until(lambda: gateway.snapshot("full")["queueDepth"] == len(queued), "it waits")
        check_refused(gateway, recorded)
        steered = gateway.post("/sessions/full/steer", {"text": "go"})
        assert [steered.status, steered.body] == recorded["steer while processing"]
        snapshot = gateway.get("/sessions/full").body
        assert differences(recorded["snapshot queue full"], snapshot, SNAPSHOT) == []
        assert gateway.post("/sessions/full/abort").body == {"ok": True}
    assert running.result().status == 409
    assert [each.result().body for each in queued] == recorded["queued results after abort"]
    after = gateway.get("/sessions/full").body
    delivered = {**recorded["after abort: snapshot"]["session"]}
    delivered["messageCount"] -= 1  # what was said to the run that is aborted is not (W15)
    assert differences({"session": delivered}, after, SNAPSHOT) == []
    messages = gateway.get("/sessions/full/history").body["messages"]
    landed = [[message["role"], text_of(message)] for message in messages]
    expected = [each for each in recorded["steer: where it landed"] if each != ["user", "go"]]
    assert sorted(landed[1:]) == sorted(expected[1:])
    assert [text for role, text in landed[1:] if role == "user"] == texts


def check_refused(gateway: RunningGateway, recorded: dict[str, Any]) -> None:
    """Check that both ways to prompt are refused with the recorded text, and told to wait."""
    refused = prompt(gateway, "full", "one more")
    assert differences(recorded["messages queue full"]["body"], refused.body) == []
    chat = gateway.post("/sessions/full/chat", {"text": "one more"})
    assert chat.body["error"] == recorded["chat queue full"]["chunks"][0]["errorText"]
    for each in (refused, chat):
        assert (each.status, int(each.headers["Retry-After"]) > 0) == (429, True)


def test_steering_is_one_more_step_of_the_same_answer(
    gateway: RunningGateway, stub: StubModel
) -> None:
    recorded = recording("streams")
    prompt(gateway, "st", "warm")
    slow = {"text": "#slow #deltas=10"}
    with (
        stub.held() as release,
        gateway.stream("/sessions/st/events") as events,
        gateway.stream("/sessions/st/chat", method="POST", body=slow) as chat,
    ):
        until_said(gateway, "st", 10)
        answer = gateway.post("/sessions/st/steer", {"text": "#deltas=10"})
        assert answer.body["mode"] == "steer"
        release()
        ours = [frame.data for frame in chat.frames()]
        seen = until_idle(events.frames())
    assert comparable(ours) == comparable(recorded["steer mid-run chat"])
    check_sequence(recorded["steer mid-run events"], seen, SNAPSHOT)


def test_events_follow_one_another_as_recorded(gateway: RunningGateway, stub: StubModel) -> None:
    recorded = recording("streams")["events vocabulary"]
    expected = iter(without_tools(recorded["events"]))
    prompt(gateway, "ev", "warm")
    with gateway.stream("/sessions/ev/events") as stream:
        check_head(recorded["head"], stream.headers)
        assert stream.read(1).decode() == recorded["raw"][0]
        frames = stream.frames()
        prompt(gateway, "ev", "#think #tool")
        seen = until_idle(frames)
        begin, _, _ = recorded["raw"][1:].partition('"sessionId":"')
        assert begin.encode() in seen[0].raw
        check_sequence(next_prompt(expected), seen, (*SNAPSHOT, "toolCallId"))
        prompt(gateway, "ev", "#error")
        check_sequence(next_prompt(expected), until_idle(frames), FAILED)
        with stub.held():
            start_slowly(gateway, "ev", 1)
            gateway.post("/sessions/ev/abort")
            check_sequence(next_prompt(expected), until_idle(frames), FAILED)
    assert list(expected) == []


def next_prompt(events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Take recorded events up to the next one that shows the session idle."""
    for place, event in enumerate(events):
        yield event
        snapshot = event.get("snapshot", {"processing": True})
        if place and not snapshot["processing"] and snapshot["queueDepth"] == 0:
            return


def test_a_tools_result_is_a_message_at_once(gateway: RunningGateway, stub: StubModel) -> None:
    call, pending = recording("streams")["state: tool result pending"]
    with stub.held():
        running = Background(lambda: prompt(gateway, "told", "#tool #slow"))
        until_said(gateway, "told", 3)
        until(lambda: len(gateway.get("/sessions/told/state").body["messages"]) == 4, "it is told")
        _, ours, result, draft = gateway.get("/sessions/told/state").body["messages"]
        gateway.post("/sessions/told/abort")
    assert running.result().body["error"] == "aborted"
    assert draft["id"].startswith("draft:")
    assert differences(call, ours, (*VARY, "toolCallId")) == []
    assert not result["id"].startswith("draft")
    [tool] = pending["parts"]
    expected = {**pending, "parts": [{**tool, "state": "error", "result": TOOL_ERROR}]}
    assert differences(expected, result, (*VARY, "toolCallId")) == []
