"""Settings that change while the gateway runs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, until

TOKEN = "canary-token-123456"
SECRET = "canary-hook-123456"
WORDS = " ".join(["word"] * 300)


@pytest.fixture
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, webhook_secret=SECRET, demo_delay_ms=10) as running:
        yield running


@pytest.fixture(scope="module")
def unchanging(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN) as running:
        yield running


def ask(gateway: RunningGateway, method: str, path: str, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers)


def config(gateway: RunningGateway) -> dict[str, Any]:
    shown: dict[str, Any] = ask(gateway, "GET", "/config").body["gateway"]
    return shown


def queue_max(value: int | None) -> dict[str, Any]:
    return {"gateway": {"session": {"maxQueuePerSession": value}}}


def test_a_changed_queue_counts_for_running_sessions_and_after_a_kill(
    gateway: RunningGateway,
) -> None:
    assert ask(gateway, "POST", "/sessions/k/enqueue", {"text": WORDS}).status == 202
    assert ask(gateway, "PATCH", "/config", queue_max(1)).body == {"ok": True}
    assert config(gateway)["session"]["maxQueuePerSession"] == 1
    assert ask(gateway, "POST", "/sessions/k/enqueue", {"text": "waits"}).status == 202
    assert ask(gateway, "POST", "/sessions/k/enqueue", {"text": "too many"}).status == 429
    gateway.restart()
    assert config(gateway)["session"]["maxQueuePerSession"] == 1
    assert ask(gateway, "PATCH", "/config", queue_max(None)).status == 200
    assert config(gateway)["session"]["maxQueuePerSession"] == 8


def test_no_secret_is_shown_anywhere(gateway: RunningGateway) -> None:
    ask(gateway, "POST", "/sessions/k/messages", {"text": "hi"})
    shown = config(gateway)
    assert shown["webhook"] == {"basePath": "/webhooks", "enabled": True}
    assert shown["model"] == "demo/echo"
    database = b"".join(path.read_bytes() for path in gateway.folder.glob("sessiond.db*"))
    for canary in (TOKEN, SECRET):
        assert canary not in json.dumps(shown)
        assert canary not in gateway.log
        assert canary.encode() not in database


@pytest.mark.parametrize(
    ("patch", "status", "named"),
    [
        ({"gateway": {"bearerToken": "x"}}, 403, "gateway.bearerToken"),
        ({"gateway": {"webhook": {"secret": "x"}}}, 403, "gateway.webhook.secret"),
        ({"gateway": {"session": {"secret": "x"}}}, 403, "gateway.session.secret"),
        ({"token": "x"}, 403, "token"),
        ({"gateway": {"port": 1}}, 422, "gateway.port"),
        ({"gateway": {"session": {"__proto__": 1}}}, 422, "__proto__"),
        ({"gateway": {"session": 7}}, 422, "session"),
        ({"gateway": 7}, 422, "gateway"),
        ({"other": 1}, 422, "other"),
        (queue_max(-1), 422, "gateway.session.maxQueuePerSession"),
        ({"gateway": {"session": {"maxQueuePerSession": "many"}}}, 422, "maxQueuePerSession"),
    ],
)
def test_what_cannot_be_changed_is_refused_by_name(
    unchanging: RunningGateway, patch: dict[str, Any], status: int, named: str
) -> None:
    before = config(unchanging)
    refused = ask(unchanging, "PATCH", "/config", patch)
    assert refused.status == status
    assert named in refused.body["detail"]
    assert config(unchanging) == before


def test_the_heartbeat_of_open_streams_follows_its_setting(gateway: RunningGateway) -> None:
    patch = {"gateway": {"stream": {"heartbeatSeconds": 0.1}}}
    assert ask(gateway, "PATCH", "/config", patch).status == 200
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with gateway.stream("/sessions/web:main/events", headers=headers) as stream:
        lines = stream.lines()
        until(lambda: next(lines) == b": heartbeat\n", "a heartbeat")


def test_there_are_no_channels(gateway: RunningGateway) -> None:
    assert ask(gateway, "GET", "/channels/status").body == {"channels": []}
