"""The whole agent: providers' protocols, tools on a workspace, crashes, pictures, summaries."""

import base64
import json
import os
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from actors.session import events as e
from actors.session.messages import Usage
from tests.acceptance.conftest import PROVIDERS, OpenGateway, StartGateway, reach
from tests.acceptance.gateway import (
    RunningGateway,
    check_log,
    database_url,
    events,
    run_command,
    until,
)
from tests.acceptance.test_ai_sdk import Script, packages, script
from tests.wire.servers import Ask, Cut, Finish, ModelServer, OpenAIWire, Say, Step

__all__ = ["packages", "script"]

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "large-session.jsonl"
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()
TESTS = "python3 -m unittest -v 2>&1"
WRONG, RIGHT = "return a - b", "return a + b"
MODULES = 12
WORKER_CLASSES = {"openai": "gevent", "anthropic": "gthread"}
"""Each provider's answers go through another kind of worker."""
PRICED = {"input_price": 1.0, "output_price": 3.0}

Call = tuple[str, dict[str, Any]]


@pytest.fixture(scope="module")
def gateway(
    open_gateway: OpenGateway, provider: str, server: ModelServer
) -> Iterator[RunningGateway]:
    with open_gateway(
        variables=reach(provider, server),
        worker_class=WORKER_CLASSES[provider],
        models=json.dumps([{"provider": provider, "id": "priced"} | PRICED]),
        tools="all",
        system_prompt="You are careful.",
        model_retry_delay_s=0.01,
    ) as running_gateway:
        yield running_gateway


@pytest.fixture
def openai(start_gateway: StartGateway) -> Iterator[tuple[StartGateway, ModelServer]]:
    """What starts gateways that have one provider's server, and that server."""
    with ModelServer(OpenAIWire()) as running:
        yield partial(start_gateway, variables=reach("openai", running)), running


OpenAI = tuple[StartGateway, ModelServer]


def workspace(gateway: RunningGateway, key: str, server: ModelServer) -> Path:
    """Begin a session and return its workspace, where a test can put files."""
    server.reply([Say(["Ready."]), Finish()])
    assert gateway.post(f"/sessions/{key}/messages", {"text": "Are you there?"}).status == 200
    folder = gateway.folder / "data" / "workspaces" / gateway.snapshot(key)["sessionId"]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def asking(turn: int, *calls: Call) -> list[Step]:
    """Return a model's answer that asks for tools, their arguments in pieces."""
    steps: list[Step] = [Say([f"Step {turn}. "])]
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        steps.append(Ask(f"call_{turn}_{number}", name, [text[:7], text[7:]]))
    return [*steps, Finish("tool_use")]


def repository(folder: Path) -> None:
    (folder / "AGENTS.md").write_text("Say tests, not checks.\n")
    (folder / "calc.py").write_text(f"def add(a, b):\n    {WRONG}\n")
    (folder / "test_calc.py").write_text(
        textwrap.dedent(
            """\
            import unittest

            from calc import add


            class Sums(unittest.TestCase):
                def test_sum(self):
                    self.assertEqual(add(2, 3), 5)
            """
        )
    )
    for number in range(MODULES):
        (folder / f"module_{number}.py").write_text(f"VALUE = {number}\n")


def plan() -> list[tuple[Call, Call]]:
    """Return thirty turns of two calls: look around, see the test fail, mend it, see it pass."""
    look = [
        (("ls", {}), ("find", {"pattern": "*.py"})),
        (("read", {"path": "calc.py"}), ("read", {"path": "test_calc.py"})),
        (("bash", {"command": TESTS}), ("grep", {"pattern": "def "})),
    ]
    for number in range(MODULES):
        name = f"module_{number}.py"
        look.append((("read", {"path": name}), ("grep", {"pattern": "VALUE", "path": name})))
    mend = {"path": "calc.py", "oldText": WRONG, "newText": RIGHT}
    look.append((("edit", mend), ("bash", {"command": TESTS})))
    while len(look) < 30:
        turn = len(look)
        look.append(
            (
                ("write", {"path": f"notes/{turn}.md", "content": f"Turn {turn}.\n"}),
                ("bash", {"command": f"cat notes/{turn}.md"}),
            )
        )
    return look


def told_results(provider: str, server: ModelServer) -> dict[str, str]:
    """Return the tool results in the newest request, by their calls."""
    told = PROVIDERS[provider][0].told_results(server.requests[-1].body)
    return {each.call_id: each.text for each in told}


def test_thirty_turns_with_sixty_calls_mend_a_repository(
    gateway: RunningGateway, server: ModelServer, provider: str, script: Script
) -> None:
    key, version = "mend", {"openai": "ai6", "anthropic": "ai7"}[provider]
    folder = workspace(gateway, key, server)
    repository(folder)
    turns = plan()
    server.reply(*[asking(number, *calls) for number, calls in enumerate(turns)])
    server.reply([Say(["The test passes now."]), Finish()])
    told = script("read.mjs", gateway, key, version, "Mend the test.")
    assert told["errors"] == []
    tools = [part for part in told["message"]["parts"] if part["type"] == "dynamic-tool"]
    assert [part["toolName"] for part in tools] == [name for calls in turns for name, _ in calls]
    assert [part["input"] for part in tools] == [given for calls in turns for _, given in calls]
    failed = [part for part in tools if part["state"] != "output-available"]
    assert [part["state"] for part in failed] == ["output-error"]
    assert "FAILED" in failed[0]["errorText"]
    assert told["message"]["parts"][-1]["text"] == "The test passes now."
    assert RIGHT in (folder / "calc.py").read_text()
    results = told_results(provider, server)
    assert "OK" in results["call_15_1"]
    assert results["call_29_1"].startswith("Turn 29.")
    recorded = events(gateway.folder, key)
    assert len([each for each in recorded if isinstance(each, e.ToolCompleted)]) == 60
    assert len([each for each in recorded if isinstance(each, e.TurnEnded)]) == 32
    check_log(gateway.folder, gateway)


def test_the_model_is_told_the_instructions_of_the_workspace(
    gateway: RunningGateway, server: ModelServer
) -> None:
    folder = workspace(gateway, "instructed", server)
    (folder / "AGENTS.md").write_text("Answer in Latin.")
    server.reply([Say(["Salve."]), Finish()])
    gateway.post("/sessions/instructed/messages", {"text": "hello"})
    body = json.dumps(server.requests[-1].body)
    assert "You are careful." in body
    assert "Answer in Latin." in body


def test_a_page_sees_an_answer_that_breaks_off_and_is_given_again(
    gateway: RunningGateway, server: ModelServer, provider: str, script: Script
) -> None:
    version = {"openai": "ai5", "anthropic": "ai7"}[provider]
    server.reply([Say(["Half of"]), Cut()], [Say(["All of it."]), Finish()])
    told = script("read.mjs", gateway, "retried", version, "Tell me.")
    assert told["errors"] == []
    texts = [part for part in told["message"]["parts"] if part["type"] == "text"]
    assert [part["text"] for part in texts] == ["Half of", "All of it."]
    assert {part["state"] for part in texts} == {"done"}
    assert "data-retry" in [chunk["type"] for chunk in told["chunks"]]
    assert "Half of" not in json.dumps(server.requests[-1].body)


def test_a_picture_reaches_the_model(
    gateway: RunningGateway, server: ModelServer, provider: str
) -> None:
    url = f"data:image/png;base64,{PIXEL}"
    server.reply([Say(["A pixel."]), Finish()])
    parts = [{"type": "text", "text": "What is it?"}, {"type": "file", "url": url}]
    body = {"messages": [{"id": "m1", "role": "user", "parts": parts}]}
    with gateway.stream("/sessions/seen/chat", method="POST", body=body) as stream:
        assert [frame.data for frame in stream.frames()][-1] == "[DONE]"
    assert PIXEL in json.dumps(server.requests[-1].body)
    shown = gateway.get("/sessions/seen/history").body["messages"][0]["parts"]
    assert {"type": "file", "mediaType": "image/png", "url": url} in shown


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("https://example.org/a.png", "data URL"),
        ("data:image/png;base64,!!!", "not base64"),
        ("data:image/png;base64,QUJD", "isn't"),
        ("data:image/svg+xml;base64,QUJD", "image/svg+xml"),
        ("data:text/html;base64,QUJD", "text/html"),
    ],
)
def test_a_picture_that_can_not_be_used_is_refused(
    gateway: RunningGateway, image: str, why: str
) -> None:
    answer = gateway.post("/sessions/unseen/messages", {"text": "hi", "images": [image]})
    assert answer.status == 422
    assert why in answer.body["error"]
    assert gateway.get("/sessions/unseen").status == 404


def test_a_large_picture_fits_into_chat_only(gateway: RunningGateway, server: ModelServer) -> None:
    data = base64.b64encode(b"\x89PNG\r\n\x1a\n" + os.urandom(2_000_000)).decode()
    body = {"text": "look", "images": [f"data:image/png;base64,{data}"]}
    assert gateway.post("/sessions/large/messages", body).status == 413
    server.reply([Say(["Large."]), Finish()])
    with gateway.stream("/sessions/large/chat", method="POST", body=body) as stream:
        assert [frame.data for frame in stream.frames()][-1] == "[DONE]"


def test_a_killed_tool_is_not_run_again_and_the_model_is_told(openai: OpenAI) -> None:
    start, server = openai
    gateway = start(tools="all")
    folder = workspace(gateway, "k", server)
    command = "echo began >> began.txt; sleep 60"
    server.reply(asking(1, ("bash", {"command": command})))
    gateway.post("/sessions/k/enqueue", {"text": "go"})
    began = folder / "began.txt"
    until(lambda: began.exists() and began.read_text(), "the command runs")
    gateway.kill()
    until(lambda: not running("began.txt"), "the command ends with the gateway")
    gateway.start()
    gateway.until_idle("k")
    completed = [each for each in events(gateway.folder, "k") if isinstance(each, e.ToolCompleted)]
    assert [each.outcome for each in completed] == ["outcome_unknown"]
    server.reply([Say(["I will look first."]), Finish()])
    assert gateway.post("/sessions/k/messages", {"text": "and?"}).status == 200
    assert "whether it took effect is unknown" in told_results("openai", server)["call_1_0"]
    assert began.read_text() == "began\n"
    check_log(gateway.folder, gateway)


def running(mark: str) -> list[int]:
    """Return the processes whose command line holds the mark."""
    found = []
    for entry in Path("/proc").iterdir() if Path("/proc").is_dir() else ():
        try:
            if entry.name.isdecimal() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_an_abort_ends_a_running_command(gateway: RunningGateway, server: ModelServer) -> None:
    folder = workspace(gateway, "aborted", server)
    server.reply(asking(1, ("bash", {"command": "touch abort-me; sleep 61; touch survived"})))
    gateway.post("/sessions/aborted/enqueue", {"text": "go"})
    until((folder / "abort-me").exists, "the command runs")
    assert gateway.post("/sessions/aborted/abort").body == {"ok": True}
    assert not gateway.snapshot("aborted")["processing"]
    until(lambda: not running("abort-me"), "the command is gone")


def test_a_stopping_gateway_leaves_no_command_behind(openai: OpenAI) -> None:
    start, server = openai
    gateway = start(tools="all", grace_s=0.2)
    folder = workspace(gateway, "k", server)
    server.reply(asking(1, ("bash", {"command": "trap '' TERM; touch stop-me; sleep 62"})))
    gateway.post("/sessions/k/enqueue", {"text": "go"})
    until((folder / "stop-me").exists, "the command runs")
    gateway.terminate()
    assert not running("stop-me")
    ends = [each for each in events(gateway.folder, "k") if isinstance(each, e.RunInterrupted)]
    assert len(ends) == 1


def test_a_snapshot_shows_what_was_used_and_what_it_cost(
    gateway: RunningGateway, server: ModelServer, provider: str
) -> None:
    chosen = {"provider": provider, "modelId": "priced"}
    workspace(gateway, "priced", server)
    assert gateway.post("/sessions/priced/model", chosen).status == 200
    for _ in range(2):
        server.reply([Say(["Hi."]), Finish(usage=Usage(1_000, 100))])
        assert gateway.post("/sessions/priced/messages", {"text": "hi"}).status == 200
    usage = gateway.snapshot("priced")["usage"]
    assert (usage["turn"]["input"], usage["turn"]["output"]) == (1_000, 100)
    assert usage["run"]["costUsd"] == pytest.approx(0.0013)
    assert usage["session"]["costUsd"] == pytest.approx(0.0026)


WINDOW = 8_000


class Summing(ModelServer):
    """Answers whatever it is asked, and keeps how much it was told."""

    def take(self, request: Any) -> Any:
        self.requests.append(request)
        summing = "Write a summary from" in json.dumps(request.body)
        said = "THE SUMMARY" if summing else "Goodbye."
        return [Say([said]), Finish()]


@pytest.mark.parametrize(
    "provider",
    ["openai", pytest.param("anthropic", marks=pytest.mark.exhaustive)],
    indirect=True,
)
@pytest.mark.skipif(not FIXTURE.exists(), reason="the recorded session is not here")
def test_a_large_recorded_session_goes_on_with_a_small_window(
    start_gateway: StartGateway, provider: str, tmp_path: Path
) -> None:
    run_command(tmp_path, "import-pi", str(FIXTURE), "--session", "recorded")
    with Summing(PROVIDERS[provider][0]) as server:
        models = [{"provider": provider, "id": "small", "context_tokens": WINDOW}]
        gateway = start_gateway(
            variables=reach(provider, server),
            model=f"{provider}/small",
            models=json.dumps(models),
            memory_enabled=False,
            database_url=database_url(tmp_path),
        )
        chosen = {"provider": provider, "modelId": "small"}
        assert gateway.post("/sessions/recorded/model", chosen).status == 200
        before = len(gateway.get("/sessions/recorded/history").body["messages"])
        answer = gateway.post("/sessions/recorded/messages", {"text": "Where were we?"})
        assert answer.body["response"] == "Goodbye."
        assert max(len(json.dumps(each.body)) for each in server.requests) < WINDOW * 4
        assert "THE SUMMARY" in json.dumps(server.requests[-1].body)
        history = gateway.get("/sessions/recorded/history").body["messages"]
        assert len(history) == before + 2
        calls = len(server.requests)
        again = gateway.post("/sessions/recorded/messages", {"text": "And now?"})
        assert again.body["response"] == "Goodbye."
        assert len(server.requests) == calls + 1
        assert "THE SUMMARY" in json.dumps(server.requests[-1].body)
        for _ in range(2):
            gateway.post("/sessions/recorded/messages", {"text": "word " * 1_200})
        asked = gateway.post("/sessions/recorded/compact").body
        assert (asked["compacted"], asked["summary"]) == (True, "THE SUMMARY")
        compacted = [
            each for each in events(tmp_path, "recorded") if isinstance(each, e.ContextCompacted)
        ]
        assert compacted[-1].reason == "asked"
        assert compacted[-1].first_kept_seq == asked["firstKeptSeq"]
        check_log(tmp_path, gateway)


def test_a_session_that_is_missing_or_short_is_not_compacted(
    gateway: RunningGateway, server: ModelServer
) -> None:
    assert gateway.post("/sessions/nobody/compact").status == 404
    workspace(gateway, "compact", server)
    nothing = gateway.post("/sessions/compact/compact")
    assert nothing.body == {"ok": True, "compacted": False}
