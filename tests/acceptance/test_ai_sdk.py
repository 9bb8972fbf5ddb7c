import json
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    Background,
    RunningGateway,
    check_log,
    events,
    text_of,
    until,
    words,
)
from tests.node_packages import installed

SCRIPTS = Path(__file__).with_name("node")
DELAY_MS = 20
DELTAS = 60
QUEUE_MAX = 2
VERSIONS = ("ai5", "ai6", "ai6first", "ai7")
"""Aliases in node/package.json; 6.0.0 refuses unknown fields, 7 asks for Node 22."""

BETWEEN = "ai6"
"""It reads what 6.0.0 and 7 read; what pages do with it is tried with approvals as well."""

APPENDS_REPLAYS = {"ai5", "ai6first"}
"""These keep what came before a drop and append the whole answer to it when the chat resumes."""

TOOL_PROMPT = 'Look here\n!think hmm, well\n!bash {"command":"pwd"}'
TOOL_ERROR = "There is no tool named 'bash'."

Script = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def packages() -> Path:
    """Return the npm packages of node/package-lock.json."""
    return installed(SCRIPTS)


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(demo_delay_ms=DELAY_MS, queue_max=QUEUE_MAX) as opened:
        yield opened


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(each, marks=pytest.mark.exhaustive) if each == BETWEEN else each
        for each in VERSIONS
    ],
)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def script(packages: Path) -> Script:
    """Run a script of node/ to its end and return what it reports."""

    def run(name: str, gateway: RunningGateway, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            node(name, gateway, *arguments),
            env=os.environ | {"NODE_PACKAGES": str(packages)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    return run


def node(name: str, gateway: RunningGateway, *arguments: str) -> list[str]:
    return ["node", "--no-warnings", str(SCRIPTS / name), gateway.url, *arguments]


def types_of(chunks: list[dict[str, Any]]) -> list[str]:
    """Name the chunks in order, each run of deltas once."""
    return [kind for kind, _ in groupby(chunk["type"] for chunk in chunks)]


def state_of(note: dict[str, Any]) -> tuple[str, str | None, list[str]]:
    """Return a chat's status, its error, and the errors that it reported."""
    return note["status"], note["error"], note["errors"]


def without_defaults(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if value is not None}


def test_text_is_read_as_one_finished_part(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    read = script("read.mjs", gateway, f"{version}-text", version, "hello there, reader")
    assert read["errors"] == []
    assert types_of(read["chunks"]) == [
        "start",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    assert read["message"]["role"] == "assistant"
    assert read["message"]["id"] == read["chunks"][0]["messageId"]
    assert [without_defaults(part) for part in read["message"]["parts"]] == [
        {"type": "step-start"},
        {"type": "text", "text": "hello there, reader", "state": "done"},
    ]
    assert read["chunks"][-1]["finishReason"] == "stop"


def test_thinking_and_a_failed_tool_are_read_with_their_states(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    read = script("turns.mjs", gateway, f"{version}-tool", version, TOOL_PROMPT)
    assert (read["status"], read["error"], read["errors"]) == ("ready", None, [])
    assert read["called"] == [], "the client must not be asked to run the gateway's tools"
    assert types_of(read["chunks"]) == [
        "start",
        "start-step",
        "reasoning-start",
        "reasoning-delta",
        "reasoning-end",
        "text-start",
        "text-delta",
        "text-end",
        "tool-input-start",
        "tool-input-delta",
        "tool-input-available",
        "tool-output-error",
        "finish-step",
        "start-step",
        "text-start",
        "text-delta",
        "text-end",
        "finish-step",
        "finish",
    ]
    question, answer = read["messages"]
    assert question["role"] == "user"
    step, reasoning, text, tool, second_step, result = answer["parts"]
    assert step["type"] == second_step["type"] == "step-start"
    assert (reasoning["type"], reasoning["text"], reasoning["state"]) == (
        "reasoning",
        "hmm, well",
        "done",
    )
    assert (text["type"], text["text"], text["state"]) == ("text", "Look here", "done")
    assert (tool["type"], tool["toolName"], tool["state"]) == (
        "dynamic-tool",
        "bash",
        "output-error",
    )
    assert tool["input"] == {"command": "pwd"}
    assert tool["errorText"] == TOOL_ERROR
    assert result["text"] == f"The tool bash answered: {TOOL_ERROR}"


def test_two_turns_send_the_whole_history_and_the_last_message_counts(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    key = f"{version}-turns"
    read = script("turns.mjs", gateway, key, version, "first question", "second question")
    assert (read["status"], read["error"]) == ("ready", None)
    assert [len(each["messages"]) for each in read["sent"]] == [1, 3]
    spoken = [(message["role"], text_of(message)) for message in read["messages"]]
    assert spoken == [
        ("user", "first question"),
        ("assistant", "first question"),
        ("user", "second question"),
        ("assistant", "second question"),
    ]
    history = gateway.get(f"/sessions/{key}/history").body["messages"]
    assert [(message["role"], text_of(message)) for message in history] == spoken
    assert read["finished"] == [{"isAbort": False, "isDisconnect": False, "isError": False}] * 2


def test_a_dropped_chat_is_resumed_as_the_same_message(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    address = "default" if version != VERSIONS[0] else "bare"  # both of the gateway's paths
    key = f"{version}-resume"
    read = script("resume.mjs", gateway, key, version, words(DELTAS), address)
    assert read["before"]["id"] == read["after"]["message"]["id"]
    assert 0 < len(text_of(read["before"])) < len(words(DELTAS))
    assert read["after"]["errors"] == []
    assert text_of(read["after"]["message"]).strip() == words(DELTAS)
    assert types_of(read["chunks"])[0] == "start"
    assert types_of(read["chunks"])[-1] == "finish"
    assert read["idle"] is None, "nothing runs any more: 204"
    log = events(gateway.folder, key)
    assert [type(each).wire_name for each in log].count("run.completed") == 1


def test_resuming_is_204_when_nothing_runs(gateway: RunningGateway) -> None:
    gateway.post("/sessions/quiet/messages", {"text": "hello"})
    for path in ("chat/stream", "chat/any-id/stream"):
        answer = gateway.get(f"/sessions/quiet/{path}")
        assert (answer.status, answer.body) == (204, b"")
        assert gateway.get(f"/sessions/nobody/{path}").status == 404


def test_a_failing_model_surfaces_its_error(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    read = script("turns.mjs", gateway, f"{version}-fail", version, "some words\n!fail boom")
    assert (read["status"], read["error"], read["errors"]) == ("error", "boom", ["boom"])
    assert types_of(read["chunks"])[-3:] == ["text-end", "finish-step", "error"]
    assert read["chunks"][-1]["errorText"] == "boom"
    assert text_of(read["messages"][-1]) == "some words"


def test_an_abort_ends_the_stream_with_an_abort_chunk(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    key = f"{version}-abort"
    read = script("meanwhile.mjs", gateway, key, version, words(DELTAS), "abort")
    assert read["posted"] == {"ok": True}
    assert read["errors"] == []
    assert types_of(read["chunks"])[-3:] == ["text-end", "finish-step", "abort"]
    partial_text = text_of(read["messages"][-1])
    assert partial_text
    assert words(DELTAS).startswith(partial_text.strip())
    assert partial_text.strip() != words(DELTAS)
    history = gateway.get(f"/sessions/{key}/history").body["messages"]
    assert text_of(history[-1]) == partial_text
    check_log(gateway.folder)


def test_steering_in_mid_answer_is_a_further_step_of_the_same_message(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    key = f"{version}-steer"
    steering = json.dumps({"text": "and now this"})
    read = script("meanwhile.mjs", gateway, key, version, words(DELTAS), "steer", steering)
    assert read["posted"] == {"ok": True, "mode": "steer", "sessionKey": key}
    assert (read["status"], read["errors"]) == ("ready", [])
    assert read["finished"] == [{"isAbort": False, "isError": False}]
    step = ["start-step", "text-start", "text-delta", "text-end", "finish-step"]
    assert types_of(read["chunks"]) == ["start", *step, *step, "finish"]
    question, answer = read["messages"]
    assert (question["role"], text_of(question)) == ("user", words(DELTAS))
    assert answer["role"] == "assistant"
    assert [(part["type"], part.get("text")) for part in answer["parts"]] == [
        ("step-start", None),
        ("text", words(DELTAS)),
        ("step-start", None),
        ("text", "and now this"),
    ]


def test_a_sitting_with_the_state_machine_behind_use_chat(
    version: str, gateway: RunningGateway, script: Script
) -> None:
    key = f"{version}-machine"
    stopped, dropped = words(DELTAS, "stopped"), words(DELTAS, "dropped")
    resuming = "new-chat" if version in APPENDS_REPLAYS else "same-chat"
    notes = script("machine.mjs", gateway, key, version, "one", "two", stopped, dropped, resuming)
    said = {
        name: [(message["role"], text_of(message)) for message in note["messages"]]
        for name, note in notes.items()
    }
    ids = {name: [message["id"] for message in note["messages"]] for name, note in notes.items()}

    completed = {"isAbort": False, "isDisconnect": False, "isError": False}
    for name in ("first", "second", "regenerated", "resumed"):
        assert state_of(notes[name]) == ("ready", None, []), name
        assert notes[name]["statuses"] == ["submitted", "streaming", "ready"], name
        assert notes[name]["finished"] == [completed], name
    assert said["first"] == [("user", "one"), ("assistant", "one")]
    assert said["second"] == [*said["first"], ("user", "two"), ("assistant", "two")]
    assert said["regenerated"] == said["second"]
    assert ids["regenerated"][:-1] == ids["second"][:-1]
    assert ids["regenerated"][-1] != ids["second"][-1]

    assert notes["stopped"]["aborted"] == {"ok": True}
    assert state_of(notes["stopped"]) == ("ready", None, [])
    assert notes["stopped"]["statuses"] == ["submitted", "streaming", "ready"]
    assert notes["stopped"]["finished"] == [completed | {"isAbort": True}]
    *before, question, (role, beginning) = said["stopped"]
    assert before == said["regenerated"]
    assert (question, role) == (("user", stopped), "assistant")
    assert 0 < len(beginning) < len(stopped)
    assert stopped.startswith(beginning)

    assert state_of(notes["dropped"]) == ("error", "network error", ["network error"])
    assert notes["dropped"]["finished"] == [completed | {"isDisconnect": True, "isError": True}]
    *before, question, (role, shown) = said["dropped"]
    assert before == said["stopped"]
    assert (question, role) == (("user", dropped), "assistant")
    assert 0 < len(shown) < len(dropped)
    assert dropped.startswith(shown)

    assert ids["resumed"] == ids["dropped"]
    assert said["resumed"] == [*said["stopped"], ("user", dropped), ("assistant", dropped)]
    assert state_of(notes["idle"]) == ("ready", None, [])
    assert notes["idle"]["messages"] == notes["resumed"]["messages"]

    history = gateway.get(f"/sessions/{key}/history").body["messages"]
    kept = [(message["role"], text_of(message)) for message in history]
    asked_twice = [("user", "two"), ("assistant", "two")]
    assert kept[:-3] == [*said["regenerated"], *asked_twice, ("user", stopped)]
    assert kept[-3][0] == "assistant"
    assert kept[-3][1].startswith(beginning), "what was shown of a stopped answer is kept"
    assert len(kept[-3][1]) < len(stopped)
    assert kept[-2:] == said["resumed"][-2:]
    check_log(gateway.folder)


def test_a_full_queue_is_an_error_of_the_chat(gateway: RunningGateway, script: Script) -> None:
    running = Background(partial(gateway.post, "/sessions/full/messages", {"text": words(1_000)}))
    gateway.until_answering("full")
    for number in range(QUEUE_MAX):
        queued = gateway.post("/sessions/full/enqueue", {"text": f"waiting {number}"})
        assert queued.status == 202
    read = script("turns.mjs", gateway, "full", VERSIONS[-1], "no room")
    assert read["status"] == "error"
    assert json.loads(read["error"])["error"] == f"Queue full ({QUEUE_MAX} pending)."
    gateway.post("/sessions/full/abort")
    assert running.result().status == 409
    gateway.until_idle("full")


def test_eventsource_reconnects_over_a_kill_without_a_gap_or_a_repeat(
    packages: Path, gateway: RunningGateway
) -> None:
    for text in (words(1_000, "long"), words(20, "short")):
        with gateway.stream("/sessions/follow/chat", method="POST", body={"text": text}) as chat:
            assert chat.status == 200
    gateway.until_answering("follow")
    follower = subprocess.Popen(
        node("follow.mjs", gateway, "follow"),
        env=os.environ | {"NODE_PACKAGES": str(packages)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[dict[str, Any]] = []

    def gather() -> None:
        assert follower.stdout is not None
        lines.extend(json.loads(line) for line in follower.stdout)

    gathering = Background(gather)
    try:
        until(lambda: any(line.get("type") == "token" for line in lines), "the client reads")
        gateway.restart()
        gateway.until_idle("follow")
        head = len(events(gateway.folder, "follow"))
        assert follower.stdin is not None
        follower.stdin.write(f"{head}\n")
        follower.stdin.flush()
        assert follower.wait(DEADLINE_S) == 0
    finally:
        follower.kill()
        follower.wait()
        gathering.result()
        for pipe in (follower.stdin, follower.stdout):
            assert pipe is not None
            pipe.close()
    assert any("error" in line for line in lines), "the kill has to break the connection"
    hellos = [int(line["id"]) for line in lines if line.get("type") == "hello"]
    assert len(hellos) == 2
    assert hellos[1] > 0
    ids = [int(line["id"]) for line in lines if line.get("type") not in (None, "hello")]
    assert ids == list(range(1, head + 1))
