"""Who asked: every event that a request led to says so, over HTTP."""

import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from actors.audit.signing.keys import generate
from tests.acceptance.asking import AGENT, AGENT_HEADER, TOKEN, ask, get, headers_of
from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway, until, words
from web.app import ROUTES
from web.operations import METHODS, operation_of

ADDRESS = "198.51.100.7"
WRITE = '!write {"path": "a.txt", "content": "hello"}'
SETTINGS = {
    "token": TOKEN,
    "checkpoint_minutes": 0,
    "trusted_proxies": "127.0.0.1, 203.0.113.0/24",
    "tools": "all",
    "tool_rules": json.dumps([{"tool": "write", "action": "ask"}]),
    "models": json.dumps([{"provider": "demo", "id": "echo", "context_tokens": 1_000}]),
}


@pytest.fixture(scope="module")
def gateway(
    open_gateway: OpenGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    key_file = tmp_path_factory.mktemp("keys") / "signing.key"
    generate(key_file)
    with open_gateway(signing_key_file=key_file, **SETTINGS) as opened:
        yield opened


def cursor_now(gateway: RunningGateway) -> str:
    cursor: str = get(gateway, "/log?after=end")["next"]
    return cursor


class Command(NamedTuple):
    """A request that leads to events; ``prepare`` makes what it needs, ``{made}`` is its id."""

    method: str
    route: str
    type: str
    body: object = None
    prepare: Callable[[RunningGateway], object] = lambda _gateway: ""


def session(gateway: RunningGateway) -> None:
    assert ask(gateway, "POST", "/sessions/who/messages", {"text": "hi"}).status == 200


def waiting_approval(gateway: RunningGateway) -> str:
    answer = ask(gateway, "POST", "/sessions/who/messages", {"text": WRITE})
    approval_id: str = answer.body["approvals"][0]["id"]
    return approval_id


def running(gateway: RunningGateway) -> None:
    ask(gateway, "POST", "/sessions/who/enqueue", {"text": words(2_000)})
    until(lambda: get(gateway, "/sessions/who/state")["messages"][-1]["parts"], "it answers")


def finished_run(gateway: RunningGateway) -> str:
    session(gateway)
    run_id: str = get(gateway, "/sessions/who/runs")["runs"][0]["id"]
    return run_id


def long_session(gateway: RunningGateway) -> None:
    for name in "abc":
        ask(gateway, "POST", "/sessions/who/messages", {"text": words(60, name)})


def memory(gateway: RunningGateway) -> str:
    found = ask(gateway, "POST", "/memory/remember", {"content": "It rains."})
    return str(found.body["memory"]["id"])


def token(gateway: RunningGateway) -> str:
    body = {"name": "short", "scopes": ["read"]}
    token_id: str = ask(gateway, "POST", "/tokens", body).body["issued"]["id"]
    return token_id


WHO = "/sessions/{key}"
COMMANDS = (
    Command("PATCH", "/config", "config.patched", {"gateway": {"run": {"maxTurns": 49}}}),
    Command("POST", "/tokens", "token.issued", {"name": "new", "scopes": ["read"]}),
    Command("DELETE", "/tokens/{token_id}", "token.revoked", prepare=token),
    Command("POST", "/audit/checkpoints", "checkpoint.signed"),
    Command("POST", "/memory/remember", "memory.remembered", {"content": "The sun shines."}),
    Command("POST", "/memory/forget", "memory.forgotten", {"id": "{made}"}, memory),
    Command("POST", f"{WHO}/messages", "prompt.queued", {"text": "hello"}),
    Command("POST", f"{WHO}/chat", "prompt.queued", {"text": "hello"}),
    Command("POST", f"{WHO}/enqueue", "prompt.queued", {"text": "hello"}),
    Command("POST", f"{WHO}/steer", "steering.received", {"text": "more"}, running),
    Command("POST", f"{WHO}/abort", "run.aborted", {}, running),
    Command("POST", f"{WHO}/approvals/{{approval_id}}", "approval.resolved", {"approved": True},
            waiting_approval),
    Command("POST", f"{WHO}/compact", "context.compacted", None, long_session),
    Command("POST", f"{WHO}/model", "model.selected", {"provider": "demo", "modelId": "echo"},
            session),
    Command("PATCH", WHO, "session.renamed", {"name": "someone"}, session),
    Command("POST", f"{WHO}/reload", "session.reloaded", None, session),
    Command("POST", f"{WHO}/reset", "session.reset", None, session),
    Command("DELETE", WHO, "session.deleted", None, session),
    Command("POST", f"{WHO}/fork", "session.forked", {"key": "who+fork"}, session),
    Command("POST", f"{WHO}/runs/{{run_id}}/rerun", "prompt.queued",
            {"provider": "demo", "modelId": "echo"}, finished_run),
    Command("POST", f"{WHO}/hold", "session.held", {"reason": "a lawsuit"}, session),
    Command("DELETE", f"{WHO}/hold", "session.released"),
    Command("POST", f"{WHO}/erase", "stream.erased", {"all": True, "reason": "asked"}, session),
)  # fmt: skip
COSIGNED = ("POST", "/audit/checkpoints/{size}/cosignatures")
"""Needs a witness that has seen the checkpoint."""

ONLY_READ = {("POST", "/memory/search"), ("POST", "/memory/rebuild")}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: f"{each.method} {each.route}")
def test_the_events_of_a_command_name_the_request(
    gateway: RunningGateway, command: Command
) -> None:
    made = command.prepare(gateway)
    path = command.route.replace("{key}", "who")
    for name in ("{approval_id}", "{token_id}", "{run_id}"):
        path = path.replace(name, str(made))
    body = {"id": int(str(made))} if command.body == {"id": "{made}"} else command.body
    before = cursor_now(gateway)
    answer = ask(
        gateway,
        command.method,
        path,
        body,
        **AGENT_HEADER,
        **{"X-Forwarded-For": f"6.6.6.6, {ADDRESS}:80, 203.0.113.9", "X-Request-Id": "mine"},
    )
    assert answer.status < 300, answer.body
    request_id = answer.headers["X-Request-Id"]
    assert request_id not in ("", "mine")
    found = get(gateway, f"/log?after={before}&types={command.type}")["events"]
    asked = [each for each in found if each["payload"].get("request")]
    assert asked
    for event in asked:
        assert event["principal"] == "token:environment"
        expected = {"id": request_id, "address": ADDRESS, "agent": AGENT}
        assert event["payload"]["request"] == expected
    ask(gateway, "POST", "/sessions/who/abort", {"queue": True})
    until(lambda: is_idle(gateway), "it is idle")


def is_idle(gateway: RunningGateway) -> bool:
    answer = ask(gateway, "GET", "/sessions/who")
    return answer.status == 404 or not answer.body["session"]["processing"]


def test_no_route_that_changes_something_is_forgotten_here() -> None:
    changing = {
        (method, path)
        for path, resource in ROUTES
        for method in METHODS
        if method != "GET" and operation_of(resource, method) is not None
    }
    assert changing - ONLY_READ - {COSIGNED} == {(each.method, each.route) for each in COMMANDS}


def test_a_named_token_is_told_by_its_id_and_an_unnamed_client_by_nothing(
    gateway: RunningGateway,
) -> None:
    issued = ask(gateway, "POST", "/tokens", {"name": "teller", "scopes": ["prompt"]}).body
    body = json.dumps({"text": "hi"}).encode()
    headers = headers_of(issued["token"], **{"User-Agent": ""})
    gateway.request("POST", "/sessions/told/messages", body, headers=headers)
    first = get(gateway, "/sessions/told/log?limit=1")["events"][0]
    assert first["principal"] == "token:teller"
    assert first["payload"]["request"]["token"] == issued["issued"]["id"]
    assert first["payload"]["request"]["address"] == "127.0.0.1"
    assert "agent" not in first["payload"]["request"]


def test_every_answer_has_the_requests_id_errors_too(gateway: RunningGateway) -> None:
    ids = set()
    for path, status in (
        ("/health", 200),
        ("/sessions/nobody/state", 404),
        ("/nowhere", 404),
        ("/log?limit=0", 400),
        ("/sessions/..%2f/log", 404),
    ):
        answer = ask(gateway, "GET", path)
        assert answer.status == status
        ids.add(answer.headers["X-Request-Id"])
        if status >= 400:
            assert answer.body["request_id"] == answer.headers["X-Request-Id"]
    unauthorized = gateway.request("GET", "/sessions")
    assert unauthorized.status == 401
    assert unauthorized.headers["X-Request-Id"] == unauthorized.body["request_id"]
    assert len(ids) == 5


def test_what_is_kept_of_a_request_is_in_the_raw_log_only(gateway: RunningGateway) -> None:
    headers = {"User-Agent": "canary-agent", "X-Forwarded-For": "198.51.100.99"}
    chat = ask(gateway, "POST", "/sessions/quiet/chat", {"text": "hi"}, **headers)
    secrets = ("canary-agent", "198.51.100.99", chat.headers["X-Request-Id"])
    with gateway.stream("/sessions/quiet/events?after=0", headers=headers_of()) as stream:
        frames = []
        for frame in stream.frames():
            frames.append(frame.raw.decode())
            if frame.data["type"] == "turn_end":
                break
    paths = [f"/sessions/quiet{part}" for part in ("/history", "/state", "", "/approvals")]
    answers = [get(gateway, path) for path in (*paths, "/sessions?prefix=quiet", "/logs")]
    shown = [chat.body.decode(), *frames, *map(json.dumps, answers)]
    for secret in secrets:
        assert not [text for text in shown if secret in text]
        assert secret in str(get(gateway, "/sessions/quiet/log"))
