"""Webhooks, through the real server: who may send them, where they go, what a replay does."""

import json
import time
from collections.abc import Iterator

import pytest

from actors.session import events as e
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, events, until
from web.webhook_auth import signature_of

SECRET = "hook-secret"
TOKEN = "the-token"
PROVEN = {"X-Webhook-Secret": SECRET}


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(
        webhook_secret=SECRET, webhook_sessions="web:main, ops", token=TOKEN
    ) as running:
        yield running


def send(
    gateway: RunningGateway, path: str, body: object, headers: dict[str, str] = PROVEN
) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"Content-Type": "application/json", **headers}
    return gateway.request("POST", path, content, headers=given)


def signed(body: bytes, at: float, secret: str = SECRET) -> dict[str, str]:
    timestamp = str(int(at))
    return {
        "X-Webhook-Timestamp": timestamp,
        "X-Webhook-Signature": signature_of(timestamp, body, secret),
    }


@pytest.mark.parametrize(
    ("path", "body", "key"),
    [
        ("/webhooks", {}, "webhook:default:default"),
        ("/webhooks/", {}, "webhook:default:default"),
        ("/webhooks/slack", {}, "webhook:slack:default"),
        ("/webhooks//slack", {}, "webhook:slack:default"),
        ("/webhooks/slack?x=1", {"sender": "bob"}, "webhook:slack:bob"),
        ("/webhooks/slack", {"sender": ""}, "webhook:slack:default"),
        ("/webhooks/slack", {"sessionKey": "webhook:mine"}, "webhook:mine"),
        ("/webhooks/slack", {"sessionKey": "ops"}, "ops"),
    ],
)
def test_a_webhook_has_a_session_of_its_own(
    gateway: RunningGateway, path: str, body: dict[str, str], key: str
) -> None:
    answer = send(gateway, path, {"text": "hello", **body})
    assert answer.status == 200
    assert answer.body == {"ok": True, "response": "hello", "sessionKey": key}


def test_both_names_of_the_secrets_header_are_known(gateway: RunningGateway) -> None:
    headers = {"x-pi-webhook-secret": SECRET}
    assert send(gateway, "/webhooks/a", {"text": "hi"}, headers).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Webhook-Secret": "wrong"},
        {"X-Webhook-Secret": ""},
        {"Authorization": f"Bearer {TOKEN}"},
        {"X-Webhook-Signature": "sha256=00", "X-Webhook-Timestamp": "1"},
        signed(b'{"text":"hi"}', time.time() - 10_000),
        signed(b'{"text":"hi"}', time.time() + 10_000),
        signed(b'{"text":"ho"}', time.time()),
        signed(b'{"text":"hi"}', time.time(), "other"),
        {**signed(b'{"text":"hi"}', time.time()), "X-Webhook-Timestamp": "x"},
    ],
)
def test_a_webhook_that_proves_nothing_is_refused(
    gateway: RunningGateway, headers: dict[str, str]
) -> None:
    refused = send(gateway, "/webhooks/refused", b'{"text":"hi"}', headers)
    assert (refused.status, refused.body["error"]) == (401, "Invalid webhook secret")
    found = gateway.get("/sessions/webhook:refused:default", Authorization=f"Bearer {TOKEN}")
    assert found.status == 404


def test_a_signed_webhook_that_is_replayed_has_no_second_effect(gateway: RunningGateway) -> None:
    body = b'{"text":"transfer the money"}'
    headers = signed(body, time.time())
    first = send(gateway, "/webhooks/bank", body, headers)
    assert first.status == 200
    assert send(gateway, "/webhooks/bank", body, headers).body == first.body
    log = events(gateway.folder, "webhook:bank:default")
    assert len([event for event in log if isinstance(event, e.PromptQueued)]) == 1


@pytest.mark.parametrize("key", ["web:other", "", "..", "webhookx"])
def test_a_webhook_reaches_no_other_session(gateway: RunningGateway, key: str) -> None:
    assert send(gateway, "/webhooks/x", {"text": "hi", "sessionKey": key}).status == 403


def test_a_route_that_cannot_be_in_a_key_is_refused(gateway: RunningGateway) -> None:
    refused = send(gateway, "/webhooks/a/b", {"text": "hi"})
    assert (refused.status, refused.body["error"][:13]) == (400, "A session key")
    unproven = send(gateway, "/webhooks/a/b", {"text": "hi"}, {})
    assert unproven.status == 401


def test_a_webhook_without_text_is_refused(gateway: RunningGateway) -> None:
    refused = send(gateway, "/webhooks/x", {"text": " "})
    assert (refused.status, refused.body["error"]) == (400, "Missing text")


def test_a_webhook_can_leave_its_prompt_and_its_metadata_is_kept(gateway: RunningGateway) -> None:
    body = {"text": "later", "metadata": {"ticket": 7}}
    answer = send(gateway, "/webhooks/later?wait=false", body)
    assert answer.status == 202
    assert answer.body["sessionKey"] == "webhook:later:default"

    def completed() -> bool:
        log = events(gateway.folder, "webhook:later:default")
        return any(isinstance(event, e.RunCompleted) for event in log)

    until(completed, "it runs by itself")
    log = events(gateway.folder, "webhook:later:default")
    assert [event.metadata for event in log if isinstance(event, e.PromptQueued)] == [{"ticket": 7}]


def test_only_a_post_is_open_without_the_token(gateway: RunningGateway) -> None:
    assert gateway.get("/webhooks").status == 401
    assert gateway.get("/webhooksfoo").status == 401
    assert send(gateway, "/webhooksfoo", {"text": "hi"}).status == 401


def test_there_are_no_webhooks_without_a_secret(open_gateway: OpenGateway) -> None:
    with open_gateway() as gateway:
        assert send(gateway, "/webhooks/slack", {"text": "hi"}).status == 404
