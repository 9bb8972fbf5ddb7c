"""Secrets never leave the gateway, and log lines don't say what was said."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway
from tests.wire.servers import Finish, ModelServer, OpenAIWire, Refuse, Say

TOKEN = "canary-environment-token"
HOOK = "canary-webhook-secret"
PROVIDER_KEY = "sk-canary-provider-key"
WRONG = "canary-wrong-guess"


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(OpenAIWire()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway, server: ModelServer) -> Iterator[RunningGateway]:
    variables = {"OPENAI_API_KEY": PROVIDER_KEY, "OPENAI_BASE_URL": server.url}
    with open_gateway(
        variables=variables, token=TOKEN, webhook_secret=HOOK, log_level="debug"
    ) as running:
        yield running


def ask(gateway: RunningGateway, method: str, path: str, body: object = None) -> Answer:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers)


def logs(gateway: RunningGateway) -> list[str]:
    lines: list[str] = ask(gateway, "GET", "/logs").body["logs"]
    return lines


def everything_said(gateway: RunningGateway) -> Iterator[tuple[str, bytes]]:
    """Yield all that a client or somebody at the disk can see, with where it was."""
    for path in ("/config", "/logs", "/tokens", "/sessions", "/sessions/k/state"):
        yield path, json.dumps(ask(gateway, "GET", path).body).encode()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    last = ask(gateway, "GET", "/sessions/k/state").body["seq"]
    with gateway.stream("/sessions/k/events?after=0", headers=bearer) as stream:
        for frame in stream.frames():
            yield "events", json.dumps(frame.data).encode()
            if frame.id == last:
                break
    for file in gateway.folder.rglob("*"):
        if file.is_file():
            yield str(file), file.read_bytes()


def test_no_secret_is_found_anywhere(gateway: RunningGateway, server: ModelServer) -> None:
    named: str = ask(gateway, "POST", "/tokens", {"name": "n", "scopes": ["read"]}).body["token"]
    server.reply(
        [Say(["Fine."]), Finish()],
        Refuse(401, f"Incorrect API key provided: {PROVIDER_KEY}."),
        [Say(["Hooked."]), Finish()],
    )
    said: list[Answer] = [
        ask(gateway, "POST", "/sessions/k/messages", {"text": "hello"}),
        ask(gateway, "POST", "/sessions/k/messages", {"text": "and fail"}),
        gateway.post("/webhooks/ci", {"text": "run"}, **{"X-Webhook-Secret": HOOK}),
        gateway.post("/webhooks/ci", {"text": "run"}, **{"X-Webhook-Secret": WRONG}),
        gateway.get("/sessions", Authorization=f"Bearer {WRONG}"),
        gateway.get(f"/sessions?token={TOKEN}"),
        ask(gateway, "GET", f"/nowhere?key={PROVIDER_KEY}"),
        ask(gateway, "PATCH", "/config", {"gateway": {"token": WRONG}}),
        ask(gateway, "POST", "/tokens", {"name": "n", "scopes": ["read"]}),
    ]
    assert [each.status for each in said] == [200, 502, 200, 401, 401, 401, 404, 403, 409]
    secrets = [TOKEN, HOOK, PROVIDER_KEY, WRONG, named, named.split("-", 2)[2]]
    places = [
        *(("answers", json.dumps(each.body).encode()) for each in said),
        *everything_said(gateway),
    ]
    for secret in secrets:
        for where, content in places:
            assert secret.encode() not in content, where


def test_lines_tell_what_happened_in_the_contracts_words_but_not_what_was_said(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Say(["purple ", "answer"]), Finish()])
    ask(gateway, "POST", "/sessions/quiet/messages", {"text": "purple question"})
    ask(gateway, "GET", "/sessions/none")
    lines = logs(gateway)
    told = [line for line in lines if "session=quiet" in line]
    assert told == [
        "[session] session=quiet created",
        "[session] session=quiet queued source=messages depth=1",
        "[session] session=quiet processing source=messages remaining=0",
        "[session] session=quiet turn_start",
        "[session] session=quiet assistant_complete chars=13",
        "[session] session=quiet turn_end",
    ]
    assert "[http] <-- GET /sessions/none 404 error: Session not found: none" in lines
    assert "purple" not in str(lines)


def test_lines_quote_what_was_said_where_that_is_configured(open_gateway: OpenGateway) -> None:
    with open_gateway(log_texts=True) as gateway:
        gateway.post("/sessions/k/messages", {"text": f'say "this" {"x" * 200}'})
        lines = gateway.get("/logs").body["logs"]
    (said,) = [line for line in lines if "assistant_complete" in line]
    assert said == f'[session] session=k assistant_complete text="say \\"this\\" {"x" * 85}"'


def test_the_newest_200_lines_are_shown_with_their_times(open_gateway: OpenGateway) -> None:
    with open_gateway(demo_delay_ms=0) as gateway:
        for number in range(60):
            assert gateway.get(f"/sessions/none-{number}").status == 404
        for number in range(40):
            gateway.post("/sessions/k/messages", {"text": str(number)})
        shown: dict[str, Any] = gateway.get("/logs").body
    assert len(shown["logs"]) == 200
    assert shown["logs"][-1] == "[session] session=k turn_end"
    assert [entry["line"] for entry in shown["entries"]] == shown["logs"]
    times = [entry["at"] for entry in shown["entries"]]
    assert times == sorted(times)
