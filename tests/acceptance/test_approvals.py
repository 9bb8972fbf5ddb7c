"""Tool calls that wait for somebody's approval, over HTTP, restarts and the AI SDK."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actors.session import events as e
from tests.acceptance.conftest import OpenGateway, StartGateway
from tests.acceptance.gateway import RunningGateway, check_log, events, run_command, until
from tests.acceptance.test_ai_sdk import Script, packages, script, types_of

__all__ = ["packages", "script"]

RULES = [{"tool": "write", "action": "ask", "arguments": {"path": "*.txt"}}]
SETTINGS: dict[str, object] = {"tools": "all", "tool_rules": json.dumps(RULES)}
ENDS = {"gevent": "terminate", "gthread": "kill"}
"""How a process ends that somebody's approval outlives: each way by another kind of worker."""
WRITE = '!write {"path": "a.txt", "content": "hello"}'


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway, worker_class: str) -> Iterator[RunningGateway]:
    with open_gateway(worker_class=worker_class, **SETTINGS) as opened:
        yield opened


def waiting(gateway: RunningGateway, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway.get(f"/sessions/{key}/approvals").body["approvals"]
    return found


def resolve(gateway: RunningGateway, key: str, approval: dict[str, Any], **body: object) -> Any:
    return gateway.post(f"/sessions/{key}/approvals/{approval['id']}", body)


def idle(gateway: RunningGateway, key: str) -> bool:
    return not gateway.get(f"/sessions/{key}").body["session"]["processing"]


def last_text(gateway: RunningGateway, key: str) -> str:
    return str(gateway.get(f"/sessions/{key}").body["session"]["lastMessagePreview"])


def test_a_prompt_that_needs_approval_is_answered_with_what_to_approve(
    gateway: RunningGateway,
) -> None:
    answer = gateway.post("/sessions/a:1/messages", {"text": f"please\n{WRITE}"})
    assert answer.status == 202
    assert answer.body["ok"] is False
    assert answer.body["response"] == "please"
    (approval,) = answer.body["approvals"]
    assert approval["toolName"] == "write"
    assert approval["args"] == {"path": "a.txt", "content": "hello"}
    assert waiting(gateway, "a:1") == [approval]
    assert gateway.get("/sessions/a:1").body["session"]["approvals"] == [approval]


def test_a_call_runs_once_it_is_approved(gateway: RunningGateway) -> None:
    gateway.post("/sessions/a:2/messages", {"text": WRITE})
    (approval,) = waiting(gateway, "a:2")
    assert resolve(gateway, "a:2", approval, approved=True).status == 200
    until(lambda: idle(gateway, "a:2"), "the run ends")
    assert waiting(gateway, "a:2") == []
    read = gateway.post("/sessions/a:2/messages", {"text": '!read {"path": "a.txt"}'})
    assert "hello" in read.body["response"]
    check_log(gateway.folder, gateway)


def test_who_waited_gets_the_answer_by_the_same_key(gateway: RunningGateway) -> None:
    body = {"text": WRITE}
    headers = {"Idempotency-Key": "once"}
    assert gateway.post("/sessions/a:3/messages", body, **headers).status == 202
    (approval,) = waiting(gateway, "a:3")
    resolve(gateway, "a:3", approval, approved=True)
    again = gateway.post("/sessions/a:3/messages", body, **headers)
    assert again.status == 200
    assert again.body["response"].startswith("The tool write answered: ")


def test_the_model_is_told_why_a_call_was_denied(gateway: RunningGateway) -> None:
    gateway.post("/sessions/a:4/messages", {"text": WRITE})
    (approval,) = waiting(gateway, "a:4")
    resolve(gateway, "a:4", approval, approved=False, reason="not on a Sunday")
    until(lambda: idle(gateway, "a:4"), "the run ends")
    assert "not on a Sunday" in last_text(gateway, "a:4")


def test_answers_that_can_not_count_are_refused(gateway: RunningGateway) -> None:
    text = f'{WRITE}\n!write {{"path": "b.txt", "content": "x"}}'
    gateway.post("/sessions/a:5/messages", {"text": text})
    first, second = waiting(gateway, "a:5")
    assert resolve(gateway, "a:5", first).status == 422
    assert resolve(gateway, "a:5", first, approved="yes").status == 422
    assert resolve(gateway, "a:5", {"id": "nonsense"}, approved=True).status == 404
    assert resolve(gateway, "none:5", first, approved=True).status == 404
    assert resolve(gateway, "a:5", first, approved=True).status == 200
    assert resolve(gateway, "a:5", first, approved=True).status == 200
    assert resolve(gateway, "a:5", first, approved=False).status == 409
    assert resolve(gateway, "a:5", second, approved=False).status == 200
    until(lambda: idle(gateway, "a:5"), "the run ends")
    assert resolve(gateway, "a:5", first, approved=True).status == 404


def test_a_stream_shows_the_request_and_its_answer(gateway: RunningGateway) -> None:
    gateway.post("/sessions/a:6/messages", {"text": WRITE})
    (approval,) = waiting(gateway, "a:6")
    resolve(gateway, "a:6", approval, approved=True)
    until(lambda: idle(gateway, "a:6"), "the run ends")
    with gateway.stream("/sessions/a:6/events?after=0") as stream:
        frames = []
        for frame in stream.frames():
            frames.append(frame.data)
            if frame.data["type"] == "approval_resolved":
                break
    requested = next(each for each in frames if each["type"] == "approval_request")
    assert requested["approvalId"] == approval["id"]
    assert requested["args"] == approval["args"]
    assert frames[-1]["approved"] is True


def test_an_abort_ends_the_wait(gateway: RunningGateway) -> None:
    gateway.post("/sessions/a:7/messages", {"text": WRITE})
    assert gateway.post("/sessions/a:7/abort").body == {"ok": True}
    assert waiting(gateway, "a:7") == []
    assert idle(gateway, "a:7")


def test_an_approval_outlives_the_process(gateway: RunningGateway, worker_class: str) -> None:
    gateway.post("/sessions/a:9/messages", {"text": WRITE})
    gateway.post("/sessions/a:9/enqueue", {"text": "and then this"})
    (approval,) = waiting(gateway, "a:9")
    getattr(gateway, ENDS[worker_class])()
    gateway.start()
    assert waiting(gateway, "a:9") == [approval]
    assert resolve(gateway, "a:9", approval, approved=True).status == 200
    until(lambda: idle(gateway, "a:9"), "the run goes on")
    assert last_text(gateway, "a:9") == "and then this"
    kinds = [each.wire_name for each in events(gateway.folder, "a:9")]
    assert kinds.count("tool.started") == 1
    assert "run.interrupted" not in kinds
    check_log(gateway.folder, gateway)


def test_what_nobody_answers_is_denied(start_gateway: StartGateway) -> None:
    gateway = start_gateway(**SETTINGS, approval_timeout_s=0.1)
    gateway.post("/sessions/k/messages", {"text": WRITE})
    until(lambda: idle(gateway, "k"), "the approval expires")
    assert "nobody answered in time" in last_text(gateway, "k")


@pytest.mark.parametrize("version", ["ai6", "ai7"])
@pytest.mark.parametrize("crossed", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_a_chat_page_approves(
    gateway: RunningGateway, worker_class: str, script: Script, version: str, crossed: bool
) -> None:
    """Each version approves and denies; which of the two by which worker is what is crossed."""
    approves = ((worker_class == "gevent") == (version == "ai6")) != crossed
    answer = "approve" if approves else "deny"
    key = f"sdk:{version}:{answer}"
    told = script("approve.mjs", gateway, key, version, f"let me\n{WRITE}", answer)
    assert told["errors"] == []
    assert types_of(told["before"])[-3:] == ["tool-approval-request", "finish-step", "finish"]
    assert told["before"][-1]["finishReason"] == "tool-calls"
    output = "tool-output-available" if answer == "approve" else "tool-output-denied"
    assert types_of(told["chunks"])[:3] == ["start", output, "finish-step"]
    _question, message = told["messages"]
    assert message["id"] == told["asked"]["id"]
    tool = next(part for part in message["parts"] if part["type"] == "dynamic-tool")
    assert tool["state"] == ("output-available" if answer == "approve" else "output-denied")
    assert tool["input"] == {"path": "a.txt", "content": "hello"}
    assert message["parts"][-1]["text"].startswith("The tool write answered: ")


def test_a_page_that_is_loaded_again_is_asked_again(gateway: RunningGateway) -> None:
    gateway.post("/sessions/a:8/messages", {"text": WRITE})
    (approval,) = waiting(gateway, "a:8")
    with gateway.stream("/sessions/a:8/chat/stream") as stream:
        chunks = [frame.data for frame in stream.frames()]
    assert [chunk["type"] for chunk in chunks[-4:-1]] == [
        "tool-approval-request",
        "finish-step",
        "finish",
    ]
    assert chunks[-4]["approvalId"] == approval["id"]
    assert chunks[-1] == "[DONE]"
    resolve(gateway, "a:8", approval, approved=True)
    gateway.until_idle("a:8")
    assert gateway.get("/sessions/a:8/chat/stream").status == 204


def test_a_chat_page_that_answers_too_late_is_told_so(gateway: RunningGateway) -> None:
    part = {
        "type": "dynamic-tool",
        "toolCallId": "c",
        "toolName": "write",
        "state": "approval-responded",
        "input": {},
        "approval": {"id": "gone", "approved": True},
    }
    messages = [{"id": "m", "role": "assistant", "parts": [part]}]
    assert gateway.post("/sessions/late/chat", {"messages": messages}).status == 404
    gateway.post("/sessions/late/messages", {"text": "hi"})
    assert gateway.post("/sessions/late/chat", {"messages": messages}).status == 409
    assert gateway.get("/sessions/late").body["session"]["messageCount"] == 2


def test_without_a_sandbox_each_command_is_asked_about(start_gateway: StartGateway) -> None:
    gateway = start_gateway(tools="all", sandbox="none")
    ready = gateway.get("/ready").body
    assert (ready["tools"], ready["sandbox"]) == ("all", "none")
    answer = gateway.post("/sessions/k/messages", {"text": '!bash {"command": "touch made"}'})
    assert answer.status == 202
    (approval,) = answer.body["approvals"]
    assert approval["reason"] == "No sandbox holds what bash does."
    assert list(gateway.folder.glob("data/workspaces/*/made")) == []
    resolve(gateway, "k", approval, approved=True)
    gateway.until_idle("k")
    assert len(list(gateway.folder.glob("data/workspaces/*/made"))) == 1


def test_the_gateway_says_which_sandbox_holds(gateway: RunningGateway) -> None:
    sandbox = gateway.get("/ready").body["sandbox"]
    answer = gateway.post("/sessions/a:10/messages", {"text": '!bash {"command": "echo hi"}'})
    assert answer.status == (202 if sandbox == "none" else 200)
    recorded = events(gateway.folder, "a:10")
    completed = [each for each in recorded if isinstance(each, e.ToolCompleted)]
    assert [each.details["sandbox"] for each in completed] == (
        [] if sandbox == "none" else [sandbox]
    )


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        ({"tool_modules": '["no_such_module"]'}, "no_such_module"),
        ({"tool_rules": '[{"tool": "bash", "action": "maybe"}]'}, "tool_rules"),
        ({"mcp_servers": '[{"name": "x"}]'}, "a command or a url"),
        ({"tools": "everything"}, "tools"),
    ],
)
def test_tools_that_can_not_be_had_as_configured_stop_the_start(
    tmp_path: Path, setting: dict[str, object], why: str
) -> None:
    done = run_command(tmp_path, "serve", **setting)
    assert done.returncode != 0
    assert why in done.stdout + done.stderr
