"""Sessions over several requests, as they were tried out on the reference, and ours."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Background, RunningGateway, at_once, text_of, until
from tests.acceptance.reference import StubModel, differences, recording

TEXT_CHARACTERS = 12
"""As much of each text as the recordings kept."""

CHATS = 20
ENDINGS = {
    "reset other in flight": ("POST", "/sessions/rf/reset"),
    "reset primary in flight": ("POST", "/sessions/web:main/reset"),
    "delete in flight": ("DELETE", "/sessions/df"),
}


@pytest.fixture(scope="module")
def stub() -> Iterator[StubModel]:
    with StubModel() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway, stub: StubModel) -> Iterator[RunningGateway]:
    recording("probes")
    with open_gateway(variables=stub.variables) as running:
        yield running


def prompt(gateway: RunningGateway, key: str, text: str) -> Any:
    return gateway.post(f"/sessions/{key}/messages", {"text": text})


def texts(gateway: RunningGateway, key: str) -> list[str]:
    messages = gateway.get(f"/sessions/{key}/history").body["messages"]
    return [text_of(message) for message in messages]


@pytest.mark.parametrize("name", ["probes", "real_agentsession"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_whoever_waits_is_told_of_a_reset_or_deletion(
    gateway: RunningGateway, stub: StubModel, name: str, ending: str
) -> None:
    recorded = recording(name)[ending]
    method, path = ENDINGS[ending]
    key = recorded["running"][1]["sessionKey"]
    text = recorded["running"][1]["response"] or "tok0 tok1 "
    prompt(gateway, key, "warm")
    with gateway.stream(f"/sessions/{key}/events") as stream, stub.held():
        frames = stream.frames()
        slow = f"#slow #deltas={len(text.split())}"
        running = Background(lambda: prompt(gateway, key, slow))
        until(lambda: gateway.until_answering(key) == text, "it has said all")
        queued = Background(lambda: prompt(gateway, key, "waiting"))
        until(lambda: gateway.snapshot(key)["queueDepth"] == 1, "one waits")
        before = gateway.snapshot(key)["sessionId"]
        assert (
            gateway.request(method, path).body == recorded[method.lower().replace("post", "reset")]
        )
        seen = []
        for frame in frames:
            seen.append(frame.data["type"])
            if frame.data.get("snapshot", {}).get("sessionId", before) != before:
                break  # a deletion ends the stream
        prompt(gateway, key, "after")
        check_told(running.result(), queued.result(), recorded, text)
        if method == "POST":
            assert in_order(recorded["events"], seen)
            assert next(frames).data["type"] == "session_state"
        else:
            assert seen[-1] == "session_deleted"
    assert texts(gateway, key) == ["after", "tok0 tok1 tok2 "]


def check_told(running: Any, queued: Any, recorded: dict[str, Any], text: str) -> None:
    """Check the answers: what runs is aborted with what it had said (W3), what waits is refused."""
    assert recorded["queued"][0] == 500
    assert (running.status, queued.status) == (409, 409)
    assert differences(recorded["running"][1], running.body, ("ok", "response")) == []
    assert [running.body[name] for name in ("ok", "response", "error")] == [False, text, "aborted"]
    assert differences(recorded["queued"][1], queued.body) == []


def in_order(expected: list[str], ours: list[str]) -> bool:
    """Tell whether all that is expected comes in ours, one after the other."""
    left = iter(ours)
    return all(each in left for each in expected)


@pytest.mark.parametrize("key", ["web:main", "other"])
def test_a_reset_leaves_an_empty_history(gateway: RunningGateway, key: str) -> None:
    answered, messages, renewed = recording("probes")["reset primary: after"]
    prompt(gateway, key, "one")
    before = gateway.snapshot(key)["sessionId"]
    assert gateway.post(f"/sessions/{key}/reset").body == answered
    assert len(texts(gateway, key)) == messages == 0
    assert (gateway.snapshot(key)["sessionId"] != before) is renewed is True


def test_first_requests_at_once_share_one_session(gateway: RunningGateway) -> None:
    expected = recording("real_agentsession")["answers"]
    sent = recording("real_agentsession")["5 concurrent first requests: surviving history"]

    def first(text: str, wait: Callable[[], object]) -> Any:
        body = b'{"text":"%b"}' % text.encode()
        path = "/sessions/race/messages"
        return gateway.request("POST", path, body, before_sending=wait).body

    answers = at_once([partial(first, text) for text in sent])
    assert answers == expected
    assert [each["ok"] for each in answers] == recording("probes")["... answers"]
    assert sorted(texts(gateway, "race")[::2]) == sorted(sent)


def test_keys_that_look_alike_share_nothing(gateway: RunningGateway) -> None:
    for key in ("a:b", "a_b"):
        prompt(gateway, key, f"from {key}")
    for key in ("a:b", "a_b"):
        assert texts(gateway, key) == [f"from {key}", "tok0 tok1 tok2 "]
    assert gateway.request("DELETE", "/sessions/a_b").status == 200
    assert texts(gateway, "a:b") == ["from a:b", "tok0 tok1 tok2 "]


def test_no_chat_loses_a_chunk(gateway: RunningGateway) -> None:
    for _ in range(CHATS):
        body = {"text": "#deltas=30"}
        with gateway.stream("/sessions/chats/chat", method="POST", body=body) as stream:
            chunks = [frame.data for frame in stream.frames()]
        assert chunks[-1] == "[DONE]"
        said = "".join(chunk.get("delta", "") for chunk in chunks[:-1])
        assert said == "".join(f"tok{number} " for number in range(30))
    messages = gateway.get("/sessions/chats/history?limit=4").body["messages"]
    roles = recording("real_agentsession")["history role order"]
    assert [message["role"] for message in messages] == roles
