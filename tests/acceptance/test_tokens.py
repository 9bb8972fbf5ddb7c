"""Named tokens: what each lets in, who the log says acted, and how soon a revoked one is out."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    TWO_PROCESSES,
    Answer,
    Background,
    RunningGateway,
    run_command,
    stored_events,
    stored_stream,
    until,
)

REVOKED_WITHIN_S = 1.0
ADMIN = "canary-environment-token"
PROMPT = {"text": "hello"}
LONG = {"text": " ".join(["word"] * 2_000)}
SCOPES = ("read", "prompt", "audit", "admin")

OPERATIONS: dict[str, tuple[str, str, object, str]] = {
    "list": ("GET", "/sessions", None, "read"),
    "session": ("GET", "/sessions/team-a:1", None, "read"),
    "history": ("GET", "/sessions/team-a:1/history", None, "read"),
    "state": ("GET", "/sessions/team-a:1/state", None, "read"),
    "past": ("GET", "/sessions/team-a:1/state?at=2", None, "read"),
    "diff": ("GET", "/sessions/team-a:1/diff?from=2", None, "read"),
    "runs": ("GET", "/sessions/team-a:1/runs", None, "read"),
    "replay": ("GET", "/sessions/team-a:1/replay?speed=max&to=3", None, "read"),
    "resume": ("GET", "/sessions/team-a:1/chat/stream", None, "read"),
    "ready": ("GET", "/ready", None, "read"),
    "messages": ("POST", "/sessions/team-a:1/messages", PROMPT, "prompt"),
    "enqueue": ("POST", "/sessions/team-a:1/enqueue", PROMPT, "prompt"),
    "steer": ("POST", "/sessions/team-a:1/steer", PROMPT, "prompt"),
    "fork": ("POST", "/sessions/team-a:1/fork", {"key": "team-a:fork", "at": 2}, "prompt"),
    "abort": ("POST", "/sessions/team-a:1/abort", {}, "prompt"),
    "name": ("PATCH", "/sessions/team-a:1", {"name": "n"}, "prompt"),
    "reset": ("POST", "/sessions/team-a:1/reset", {}, "admin"),
    "reload": ("POST", "/sessions/team-a:1/reload", {}, "admin"),
    "config": ("GET", "/config", None, "admin"),
    "patch config": ("PATCH", "/config", {}, "admin"),
    "tokens": ("GET", "/tokens", None, "admin"),
    "delete": ("DELETE", "/sessions/team-a:gone", None, "admin"),
}


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=ADMIN, demo_delay_ms=5) as running:
        ask(running, ADMIN, "POST", "/sessions/team-a:1/messages", PROMPT)
        ask(running, ADMIN, "POST", "/sessions/team-b:1/messages", PROMPT)
        yield running


def ask(
    gateway: RunningGateway, token: str | None, method: str, path: str, body: object = None
) -> Answer:
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    content = None if body is None else json.dumps(body).encode()
    return gateway.request(method, path, content, headers=headers)


def issue(gateway: RunningGateway, name: str, *scopes: str, key_prefix: str = "") -> str:
    body = {"name": name, "scopes": scopes, "keyPrefix": key_prefix}
    answer = ask(gateway, ADMIN, "POST", "/tokens", body)
    assert answer.status == 201, answer.body
    token: str = answer.body["token"]
    return token


def listed(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in ask(gateway, ADMIN, "GET", "/tokens").body["tokens"]}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_scope_allows_what_it_is_for_and_nothing_else(
    gateway: RunningGateway, scope: str
) -> None:
    token = issue(gateway, f"only-{scope}", scope)
    for method, path, body, wanted in OPERATIONS.values():
        answer = ask(gateway, token, method, path, body)
        if scope in (wanted, "admin"):
            assert answer.status not in (401, 403), (path, answer)
        else:
            assert answer.status == 403, (path, answer)
            assert wanted in answer.body["detail"]


def test_a_token_bound_to_a_prefix_finds_no_other_session(gateway: RunningGateway) -> None:
    token = issue(gateway, "team-a", "admin", key_prefix="team-a:")
    for method, path, body, _scope in OPERATIONS.values():
        if "team-a:1" in path:
            elsewhere = path.replace("team-a:1", "team-b:1")
            hidden = ask(gateway, token, method, elsewhere, body)
            missing = ask(gateway, token, method, path.replace("team-a:1", "team-b:no"), body)
            assert hidden.status == missing.status == 404, elsewhere
            assert hidden.body["error"] == "Session not found: team-b:1"
    keys = [each["sessionKey"] for each in ask(gateway, token, "GET", "/sessions").body["sessions"]]
    assert keys
    assert all(key.startswith("team-a:") for key in keys)
    for prefix, found in (("team-", keys), ("team-a:1", ["team-a:1"]), ("team-b", [])):
        answer = ask(gateway, token, "GET", f"/sessions?prefix={prefix}")
        assert [each["sessionKey"] for each in answer.body["sessions"]] == found
    for path in ("/config", "/tokens"):
        assert ask(gateway, token, "GET", path).status == 403


def test_forks_and_comparisons_stay_within_a_tokens_prefix_and_the_past_of_the_deleted_in_audit(
    gateway: RunningGateway,
) -> None:
    bound = issue(gateway, "past", "read", "prompt", key_prefix="team-a:")
    fork = "/sessions/team-a:1/fork"
    assert ask(gateway, bound, "POST", fork, {"key": "team-b:mine"}).status == 403
    assert ask(gateway, bound, "POST", "/sessions/team-b:1/fork", {"key": "team-a:x"}).status == 404
    assert ask(gateway, bound, "GET", "/sessions/team-a:1/diff?other=team-b:1").status == 404
    assert ask(gateway, bound, "POST", fork, {"key": "team-a:past", "at": 5}).status == 201
    assert ask(gateway, ADMIN, "DELETE", "/sessions/team-a:past").status == 200
    path = "/sessions/team-a:past/state?at=3"
    assert ask(gateway, bound, "GET", path).status == 404
    auditor = issue(gateway, "auditor-past", "read", "audit")
    assert ask(gateway, auditor, "GET", path).status == 200


def test_the_log_says_who_acted(gateway: RunningGateway) -> None:
    for name, text in (("alice", "one"), ("bob", "two")):
        token = issue(gateway, name, "prompt")
        ask(gateway, token, "POST", "/sessions/who/messages", {"text": text})
    ask(gateway, ADMIN, "POST", "/sessions/who/reset", {})
    principals = [each.principal for each in stored_events(gateway.folder, "who")]
    assert [*dict.fromkeys(principals)] == ["token:alice", "token:bob", "token:environment"]
    issued = stored_stream(gateway.folder, "gateway")
    assert {each.principal for each in issued} == {"token:environment"}


def test_a_revoked_token_is_refused_and_its_streams_end(gateway: RunningGateway) -> None:
    token = issue(gateway, "short", "read", "prompt")
    other = issue(gateway, "stays", "read")
    ask(gateway, token, "POST", "/sessions/long/enqueue", LONG)
    bearer = {"Authorization": f"Bearer {token}"}
    kept = {"Authorization": f"Bearer {other}"}
    with (
        gateway.stream("/sessions/long/events", headers=bearer) as stream,
        gateway.stream("/sessions/long/chat/stream", headers=bearer) as chat,
        gateway.stream("/sessions/long/events", headers=kept) as staying,
    ):
        ended = [Background(lambda s=each: list(s.lines())) for each in (stream, chat)]
        token_id = listed(gateway)["short"]["id"]
        assert ask(gateway, ADMIN, "DELETE", f"/tokens/{token_id}").body == {"ok": True}
        until(
            lambda: ask(gateway, token, "GET", "/sessions").status == 401,
            "the token is refused",
            deadline_s=REVOKED_WITHIN_S if TWO_PROCESSES else 0,
        )
        for each in ended:
            each.result()
        next(staying.frames())
        ask(gateway, ADMIN, "POST", "/sessions/long/abort", {})
        assert any(frame.data["type"] == "aborted" for frame in staying.frames())
    assert ask(gateway, ADMIN, "DELETE", f"/tokens/{token_id}").body == {"ok": False}
    assert "revokedAt" in listed(gateway)["short"]


def test_a_name_is_unique_among_good_tokens_and_free_again_after(gateway: RunningGateway) -> None:
    issue(gateway, "twice", "read")
    again = {"name": "twice", "scopes": ["read"]}
    assert ask(gateway, ADMIN, "POST", "/tokens", again).status == 409
    ask(gateway, ADMIN, "DELETE", f"/tokens/{listed(gateway)['twice']['id']}")
    assert ask(gateway, ADMIN, "POST", "/tokens", again).status == 201


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": "read"},
        {"name": "", "scopes": ["read"]},
        {"name": "a b", "scopes": ["read"]},
        {"name": "a\n", "scopes": ["read"]},
        {"name": "environment", "scopes": ["read"]},
        {"name": "x" * 65, "scopes": ["read"]},
        {"name": "x", "scopes": ["read"], "keyPrefix": 7},
        {"name": "x", "scopes": ["read"], "keyPrefix": "y" * 201},
    ],
)
def test_a_token_that_makes_no_sense_is_refused(gateway: RunningGateway, body: object) -> None:
    before = listed(gateway)
    assert ask(gateway, ADMIN, "POST", "/tokens", body).status == 422
    assert listed(gateway) == before


def test_tokens_hold_after_a_kill_and_none_is_kept_in_clear(gateway: RunningGateway) -> None:
    token = issue(gateway, "durable", "read")
    assert re.fullmatch(r"sd-[0-9a-f]{12}-[A-Za-z0-9_-]{43}", token)
    gateway.kill()
    gateway.start()
    assert ask(gateway, token, "GET", "/sessions").status == 200
    assert ask(gateway, token[:-1] + "x", "GET", "/sessions").status == 401
    assert ask(gateway, token.rsplit("-", 1)[0], "GET", "/sessions").status == 401
    secret = token.split("-", 2)[2].encode()
    for path in gateway.folder.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
            assert ADMIN.encode() not in path.read_bytes(), path


def token_command(folder: Path, *words: str, **settings: object) -> str:
    done = run_command(folder, "token", *words, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_line_asks_a_running_gateway(gateway: RunningGateway) -> None:
    def command(*words: str, token: str = ADMIN) -> subprocess.CompletedProcess[str]:
        return run_command(gateway.folder, "token", *words, port=gateway.port, token=token)

    issued = command("issue", "cli", "--scope", "read")
    assert issued.returncode == 0, issued.stderr
    assert ask(gateway, issued.stdout.strip(), "GET", "/sessions").status == 200
    assert re.search(r"  good  cli  read$", command("list").stdout, re.M)
    assert json.loads(command("list", "--json").stdout)[-1]["name"] == "cli"
    assert command("revoke", "cli").returncode == 0
    assert ask(gateway, issued.stdout.strip(), "GET", "/sessions").status == 401
    refused = command("revoke", "cli")
    assert (refused.returncode, refused.stderr) == (1, "Error: There is no good token 'cli'.\n")
    assert "does not take this token" in command("list", token="wrong").stderr


def test_whoever_closes_an_open_gateway_is_told(open_gateway: OpenGateway) -> None:
    def issue(*words: str) -> str:
        told = run_command(gateway.folder, "token", "issue", *words, port=gateway.port)
        assert told.returncode == 0, told.stderr
        return told.stderr

    with open_gateway() as gateway:
        told = issue("first", "--scope", "read")
        assert told.startswith("From now on every request needs a token. This one can't issue")
        assert gateway.get("/sessions").status == 401
    closed = run_command(gateway.folder, "token", "issue", "second", "--scope", "admin")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_without_a_gateway_the_command_line_opens_the_log(
    open_gateway: OpenGateway, tmp_path: Path
) -> None:
    first = token_command(tmp_path, "issue", "first", "--scope", "admin")
    with RunningGateway(tmp_path) as running:
        assert ask(running, None, "GET", "/sessions").status == 401
        assert ask(running, first, "GET", "/sessions").status == 200
    token_command(tmp_path, "revoke", "first")
    with RunningGateway(tmp_path) as running:  # once there were tokens it stays closed
        assert ask(running, None, "GET", "/sessions").status == 401
        assert ask(running, first, "GET", "/sessions").status == 401
        assert running.get("/health").status == 200


def test_the_network_is_served_only_where_there_is_a_token(tmp_path: Path) -> None:
    refused = run_command(tmp_path, "serve", bind="0.0.0.0", port=0)
    assert refused.returncode != 0
    assert "Without a token the gateway serves loopback only, not 0.0.0.0" in refused.stderr
    assert "Traceback" not in refused.stderr
    token_command(tmp_path, "issue", "first", "--scope", "read")
    with RunningGateway(tmp_path, bind="0.0.0.0") as running:
        until(lambda: running.get("/health").body["ready"], "it serves")
        assert running.get("/sessions").status == 401
