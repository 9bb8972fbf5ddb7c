"""Sessions as they were, forked, run again and replayed: through a real gateway."""

import ast
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests import independent_fold
from tests.acceptance.conftest import reach
from tests.acceptance.gateway import (
    TWO_PROCESSES,
    ExecutedGateway,
    RunningGateway,
    TwinGateway,
    check_log,
    run_command,
    text_of,
    until,
    words,
)
from tests.acceptance.test_ai_sdk import Script, packages, script, types_of
from tests.wire.servers import AnthropicWire, Finish, ModelServer, Say, Think

__all__ = ["packages", "script"]

FIXTURE = Path(__file__).parents[3] / "shared" / "fixtures" / "large-session.jsonl"
RULES = [{"tool": "write", "action": "ask", "arguments": {"path": "*.txt"}}]
WRITE = '!write {"path": "a.txt", "content": "hello"}'
SEQS = 200
NEWEST = 20
WHOLE_EVERY = 20
"""Every so many states are compared with all of their messages, the others with the newest."""
SEED = 20_261_124
DELAY_MS = 5


@pytest.fixture(scope="module")
def server() -> Iterator[ModelServer]:
    with ModelServer(AnthropicWire()) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(
    server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningGateway]:
    """Start a gateway that has the recorded session, where there is one."""
    folder = tmp_path_factory.mktemp("past")
    if FIXTURE.exists():
        done = run_command(folder, "import-pi", str(FIXTURE), "--session", "recorded")
        assert done.returncode == 0, done.stderr
    kind = TwinGateway if TWO_PROCESSES else ExecutedGateway
    second = {"provider": "anthropic", "id": "second", "context_tokens": 200_000}
    settings = {
        "models": json.dumps([second]),
        "demo_delay_ms": DELAY_MS,
        "tools": "all",
        "tool_rules": json.dumps(RULES),
    }
    settings["memory_enabled"] = False  # or models would be told more than the conversation
    with kind(folder, reach("anthropic", server), **settings) as running:
        yield running
        check_log(running.folder)


def prompt(gateway: RunningGateway, key: str, text: str) -> dict[str, Any]:
    answer = gateway.post(f"/sessions/{key}/messages", {"text": text})
    assert answer.status in (200, 202, 409), answer
    body: dict[str, Any] = answer.body
    return body


def log_lines(gateway: RunningGateway, key: str) -> list[str]:
    """Return the session's raw log, as lines."""
    with gateway.stream(f"/sessions/{key}/log") as stream:
        assert stream.status == 200
        return [line.decode() for line in stream.lines()]


def as_folded(state: dict[str, Any]) -> dict[str, Any]:
    """Return what a gateway says of a session as the independent fold says it."""
    session, messages = state["session"], state["messages"]
    draft = None
    if messages and messages[-1]["id"].startswith("draft:"):
        *messages, last = messages
        draft = last["parts"]
    usage = session.get("usage", {}).get("session", {})
    return {
        "id": session["sessionId"],
        "name": session.get("name"),
        "model": [session["modelProvider"], session["modelId"]],
        "queue": session["queueDepth"],
        "processing": session["processing"],
        "usage": [usage.get(name, 0) for name in ("input", "output", "cacheRead", "cacheWrite")],
        "count": session["messageCount"],
        "messages": [[each["role"], each["parts"]] for each in messages],
        "draft": draft,
    }


def expected(found: dict[str, Any], default_model: list[str]) -> dict[str, Any]:
    """Return the same of the independent fold."""
    return {
        "id": found["id"],
        "name": found["name"],
        "model": found["model"] or default_model,
        "queue": len(found["queue"]),
        "processing": found["processing"],
        "usage": [found["usage"][name] for name in independent_fold.COUNTS[:4]],
        "count": len(found["messages"]),
        "messages": found["messages"],
        "draft": None if found["draft"] is None else [part for _index, part in found["draft"]],
    }


def check_states(gateway: RunningGateway, key: str, seqs: list[int], lines: list[str]) -> None:
    main = gateway.snapshot("web:main")
    default = [main["modelProvider"], main["modelId"]]
    folded, until_seq = independent_fold.fold([]), 0
    for index, seq in enumerate(sorted(seqs)):
        for line in lines[until_seq:seq]:
            independent_fold.take(folded, line)
        until_seq = seq
        limit = None if index % WHOLE_EVERY == 0 else NEWEST
        query = f"at={seq}" if limit is None else f"at={seq}&limit={limit}"
        answer = gateway.get(f"/sessions/{key}/state?{query}")
        assert answer.status == 200, (seq, answer.body)
        assert answer.body["seq"] == seq
        wanted = expected(folded, default)
        if limit is not None:
            wanted["messages"] = wanted["messages"][-limit:]
        assert as_folded(answer.body) == wanted, seq


@pytest.fixture(scope="module")
def lively(gateway: RunningGateway, server: ModelServer) -> list[str]:
    """Return the log of a session with tools, approvals, steering, a queue, an abort, a reset."""
    key = "lively"
    server.reply([Think(["Well."]), Say(["It is."]), Finish()])
    prompt(gateway, key, "make me")
    demo = {"provider": "demo", "modelId": "echo"}
    assert gateway.post(f"/sessions/{key}/model", demo).status == 200
    prompt(gateway, key, 'Look\n!think hmm, well\n!bash {"command": "echo hi"}')
    waits = prompt(gateway, key, f"please\n{WRITE}")
    approval = waits["approvals"][0]["id"]
    gateway.post(f"/sessions/{key}/enqueue", {"text": "and then this"})
    gateway.post(f"/sessions/{key}/approvals/{approval}", {"approved": True})
    gateway.until_idle(key)
    gateway.post(f"/sessions/{key}/enqueue", {"text": words(60)})
    gateway.until_answering(key)
    gateway.post(f"/sessions/{key}/steer", {"text": "hurry up"})
    gateway.until_idle(key)
    gateway.post(f"/sessions/{key}/enqueue", {"text": words(200)})
    gateway.until_answering(key)
    gateway.post(f"/sessions/{key}/abort", {"queue": True})
    gateway.request("PATCH", f"/sessions/{key}", b'{"name": "Lively one"}')
    gateway.post(f"/sessions/{key}/reset")
    prompt(gateway, key, "anew")
    return log_lines(gateway, key)


def test_the_independent_fold_is_small_and_knows_nothing_of_the_project() -> None:
    source = Path(independent_fold.__file__).read_text()
    assert len(source.splitlines()) <= 100
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import)]
    assert {each.name for node in imports for each in node.names} <= set(sys.stdlib_module_names)
    assert "from " not in source.split('"""', 2)[2]


def test_each_state_of_a_live_session_is_what_its_log_says(
    gateway: RunningGateway, lively: list[str]
) -> None:
    seqs = random.Random(SEED).sample(range(1, len(lively) + 1), min(SEQS, len(lively)))
    check_states(gateway, "lively", seqs, lively)
    folds = [independent_fold.fold(lively[:seq]) for seq in range(1, len(lively) + 1)]
    assert any(each["draft"] for each in folds)
    assert any(each["queue"] and each["processing"] for each in folds)


def test_each_state_of_a_recorded_session_is_what_its_log_says(gateway: RunningGateway) -> None:
    if not FIXTURE.exists():
        pytest.skip("there is no recorded session beside the project")
    lines = log_lines(gateway, "recorded")
    seqs = random.Random(SEED).sample(range(1, len(lines) + 1), SEQS)
    check_states(gateway, "recorded", seqs, lines)


def test_a_recorded_session_goes_on_from_its_middle_with_another_model_and_once_more(
    gateway: RunningGateway, server: ModelServer
) -> None:
    if not FIXTURE.exists():
        pytest.skip("there is no recorded session beside the project")
    middle = len(log_lines(gateway, "recorded")) // 2
    listed = gateway.get("/models").body["models"]
    first, second = [each for each in listed if each["provider"] == "anthropic"][:2]
    fork = {"key": "middle", "at": middle, "provider": "anthropic", "modelId": first["modelId"]}
    assert gateway.post("/sessions/recorded/fork", fork).status == 201
    then = gateway.get(f"/sessions/recorded/history?at={middle}").body["messages"]
    copied = gateway.get("/sessions/middle/history").body["messages"]
    assert [each["parts"] for each in copied] == [each["parts"] for each in then]
    server.reply([Say(["Now the tests."]), Finish()])
    assert prompt(gateway, "middle", "And now?")["response"] == "Now the tests."

    server.reply([Say(["Now the docs."]), Finish()])
    run = gateway.get("/sessions/middle/runs").body["runs"][0]
    other = {"provider": "anthropic", "modelId": second["modelId"], "key": "middle-2"}
    again = gateway.post(f"/sessions/middle/runs/{run['id']}/rerun", other)
    assert again.status == 202
    gateway.until_idle("middle-2")
    compared = gateway.get("/sessions/middle/diff?other=middle-2").body["comparison"]
    assert compared["common"] == len(then) + 1
    answers = [text_of(compared[side]["messages"][-1]) for side in ("mine", "theirs")]
    assert answers == ["Now the tests.", "Now the docs."]
    asked = [request.body["model"] for request in server.requests[-2:]]
    assert asked == [first["modelId"], second["modelId"]]
    assert gateway.get("/sessions/middle-2/audit/verify").body["ok"]
    assert gateway.get("/sessions/recorded/audit/verify").body["ok"]


def iso(us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


def test_a_time_means_the_last_event_that_was_recorded_by_then(
    gateway: RunningGateway, lively: list[str]
) -> None:
    recorded = [json.loads(line)["recordedAtUs"] for line in lively]
    for seq in random.Random(SEED).sample(range(1, len(lively) + 1), 12):
        at = recorded[seq - 1]
        last = sum(each <= at for each in recorded)
        found = gateway.get(f"/sessions/lively/state?at={iso(at)}")  # its plus becomes a space
        assert found.body["seq"] == last
        assert found.body["digest"] == digest(gateway, last)
        earlier = gateway.get(f"/sessions/lively/state?at={quote(iso(at - 1))}")
        if (before := sum(each < at for each in recorded)) == 0:
            assert earlier.status == 404
        else:
            assert earlier.body["seq"] == before


def digest(gateway: RunningGateway, seq: int) -> str:
    return str(gateway.get(f"/sessions/lively/state?at={seq}&limit=1").body["digest"])


def test_history_at_a_place_ends_there_and_shows_what_was_said_before_a_reset(
    gateway: RunningGateway, lively: list[str]
) -> None:
    reset = next(
        json.loads(line)["seq"] for line in lively if json.loads(line)["type"] == "session.reset"
    )
    before = gateway.get(f"/sessions/lively/history?at={reset - 1}").body["messages"]
    assert text_of(before[0]) == "make me"
    assert gateway.get(f"/sessions/lively/history?at={reset}").body["messages"] == []
    newest = gateway.get(f"/sessions/lively/history?at={reset - 1}&limit=2").body["messages"]
    assert newest == before[-2:]


@pytest.mark.parametrize(
    ("place", "status", "said"),
    [
        ("0", 404, "There was no session lively at 0."),
        ("2000-01-01T00:00:00Z", 404, "There was no session lively"),
        ("999999", 412, "log ends at"),
        ("2026-11-24T10:30:00", 400, "has no offset"),
        ("2026-13-24T10:30:00Z", 400, "There is no time"),
        ("yesterday", 400, "an event's seq, a message's id, or a time"),
    ],
)
def test_a_place_that_is_none_is_refused_with_a_reason(
    gateway: RunningGateway, lively: list[str], place: str, status: int, said: str
) -> None:
    answer = gateway.get(f"/sessions/lively/state?at={place}")
    assert (answer.status, said in answer.body["error"]) == (status, True)


def test_a_fork_says_to_any_model_what_its_source_said(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Think(["Hm."]), Say(["In Lisbon."]), Finish()])
    prompt(gateway, "source", "Where is it warm?")
    until(lambda: gateway.snapshot("source")["messageCount"] == 2, "it is answered")
    seq = len(log_lines(gateway, "source"))
    server.reply([Say(["Tomorrow."]), Finish()])
    prompt(gateway, "source", "Until when?")
    told = server.requests[-1].body["messages"]

    made = gateway.post("/sessions/source/fork", {"key": "other", "at": seq})
    assert (made.status, made.body["made"]) == (201, True)
    assert made.body["forkedFrom"]["seq"] == seq
    again = gateway.post("/sessions/source/fork", {"key": "other", "at": seq})
    assert (again.status, again.body["made"]) == (200, False)
    taken = gateway.post("/sessions/source/fork", {"key": "other", "at": seq - 1})
    assert taken.status == 409
    server.reply([Say(["For ever."]), Finish()])
    prompt(gateway, "other", "Until when?")
    assert server.requests[-1].body["messages"] == told

    by_demo = {"key": "third", "at": seq, "provider": "demo", "modelId": "echo"}
    assert gateway.post("/sessions/source/fork", by_demo).status == 201
    assert prompt(gateway, "third", "Until when?")["response"] == "Until when?"
    names = [json.loads(line)["type"] for line in log_lines(gateway, "third")][:3]
    assert names == ["session.created", "session.forked", "model.selected"]
    branches = [line for line in log_lines(gateway, "source") if "session.branched" in line]
    assert [json.loads(each)["payload"]["into_key"] for each in branches] == ["other", "third"]
    nobody = {"key": "fourth", "provider": "demo", "modelId": "none"}
    assert gateway.post("/sessions/source/fork", nobody).status == 404


def test_a_run_is_made_again_by_another_model_and_both_answers_lie_side_by_side(
    gateway: RunningGateway, server: ModelServer
) -> None:
    server.reply([Say(["Four."]), Finish()])
    prompt(gateway, "sums", "first")
    server.reply([Say(["Five."]), Finish()])
    prompt(gateway, "sums", "What is 2 + 2?")
    runs = gateway.get("/sessions/sums/runs?limit=1").body
    assert [each["prompt"] for each in runs["runs"]] == ["What is 2 + 2?"]
    older = gateway.get(f"/sessions/sums/runs?before={runs['nextBefore']}").body
    assert [each["prompt"] for each in older["runs"]] == ["first"]
    assert "nextBefore" not in older

    run = runs["runs"][0]
    model = {"provider": "demo", "modelId": "echo"}
    again = gateway.post(f"/sessions/sums/runs/{run['id']}/rerun", model)
    assert again.status == 202
    assert again.body["forkedAt"] == run["startedSeq"] - 1
    other = again.body["sessionKey"]
    assert other.startswith("sums+rerun-")
    gateway.until_idle(quote(other))
    compared = gateway.get(f"/sessions/sums/diff?other={quote(other)}").body["comparison"]
    assert compared["common"] == 3
    assert compared["forkedFrom"]["sessionKey"] == "sums"
    for side, answer in (("mine", "Five."), ("theirs", "What is 2 + 2?")):
        assert [text_of(each) for each in compared[side]["messages"]] == [answer]
    assert gateway.post("/sessions/sums/runs/none/rerun", model).status == 404


def test_what_is_erased_is_not_run_again_and_not_shown_in_the_past(
    gateway: RunningGateway,
) -> None:
    made = {"key": "erased", "provider": "demo", "modelId": "echo"}
    assert gateway.post("/sessions/web:main/fork", made).status == 201
    prompt(gateway, "erased", "a secret")
    run = gateway.get("/sessions/erased/runs").body["runs"][0]
    before = run["startedSeq"]
    erased = {"reason": "asked to", "range": [before - 1, before - 1]}
    assert gateway.post("/sessions/erased/erase", erased).status == 200
    model = {"provider": "demo", "modelId": "echo"}
    again = gateway.post(f"/sessions/erased/runs/{run['id']}/rerun", model)
    assert (again.status, "is erased" in again.body["error"]) == (409, True)
    assert "prompt" not in gateway.get("/sessions/erased/runs").body["runs"][0]
    past = gateway.get(f"/sessions/erased/state?at={run['endedSeq']}")
    assert [each["role"] for each in past.body["messages"]] == ["assistant"]
    changes = gateway.get(f"/sessions/erased/diff?from={run['endedSeq']}").body["changes"]
    assert changes["gone"] > 0
    assert gateway.post("/sessions/erased/erase", {"reason": "all", "all": True}).status == 200
    gone = gateway.get(f"/sessions/erased/state?at={run['endedSeq']}")
    assert gone.body["error"] == f"What session erased was at {run['endedSeq']} is erased."


def test_a_diff_says_what_happened_between_two_places(
    gateway: RunningGateway, lively: list[str]
) -> None:
    last = len(lively)
    changes = gateway.get(f"/sessions/lively/diff?from=0&to={last}").body["changes"]
    types = [json.loads(line)["type"] for line in lively]
    assert changes["events"] == {each: types.count(each) for each in types}
    assert changes["fields"]["name"] == {"before": None, "after": "Lively one"}
    assert changes["usage"]["input"] > 0
    reset = types.index("session.reset") + 1
    over = gateway.get(f"/sessions/lively/diff?from={reset - 1}&to={last}").body["changes"]
    assert over["gone"] == over["fields"]["messageCount"]["before"]
    assert [text_of(each) for each in over["messages"]] == ["anew", "anew"]
    assert gateway.get(f"/sessions/lively/diff?from={last}&to=1").status == 400
    assert gateway.get("/sessions/lively/diff").status == 400


def test_a_deleted_session_shows_its_past_to_who_may_read_the_raw_log(
    gateway: RunningGateway,
) -> None:
    key = "gone"
    made = {"key": key, "provider": "demo", "modelId": "echo"}
    assert gateway.post("/sessions/web:main/fork", made).status == 201
    last = len(log_lines(gateway, key))
    assert gateway.request("DELETE", f"/sessions/{key}").status == 200
    assert gateway.get(f"/sessions/{key}/state").status == 404
    assert gateway.get(f"/sessions/{key}/state?at={last}").status == 200
    after = gateway.get(f"/sessions/{key}/state?at={last + 1}")
    assert after.body["error"] == f"There was no session {key} at {last + 1}."


def test_a_replay_has_the_frames_of_the_event_stream_and_goes_on_where_it_broke_off(
    gateway: RunningGateway, lively: list[str]
) -> None:
    with gateway.stream("/sessions/lively/events?after=0") as stream:
        live = [frame.raw for frame in islice(stream.frames(), 1 + len(lively))][1:]
    with gateway.stream("/sessions/lively/replay?at=0&speed=max") as stream:
        assert [frame.raw for frame in stream.frames()][1:] == live
    path = f"/sessions/lively/replay?at=0&to={len(lively)}&speed=1000"
    half = len(lively) // 2
    with gateway.stream(path, headers={"Last-Event-ID": str(half)}) as stream:
        assert [frame.raw for frame in stream.frames()][1:] == live[half:]
    ended = gateway.get(path, **{"Last-Event-ID": str(len(lively))})
    assert ended.status == 204
    assert gateway.get("/sessions/lively/replay?speed=0").status == 400


def test_a_recorded_run_is_shown_by_the_ai_sdk_as_it_was_live(
    gateway: RunningGateway, script: Script
) -> None:
    made = {"key": "tooled", "provider": "demo", "modelId": "echo"}
    assert gateway.post("/sessions/web:main/fork", made).status == 201
    prompt(gateway, "tooled", 'Look\n!think hmm, well\n!bash {"command": "echo hi"}')
    prompt(gateway, "tooled", "and another one")
    run = gateway.get("/sessions/tooled/runs").body["runs"][1]
    shown = script("replay.mjs", gateway, "tooled", "ai7", f"speed=1000&run={run['id']}")
    assert shown["errors"] == []
    assert types_of(shown["chunks"])[0] == "start"
    parts = shown["message"]["parts"]
    assert [each["type"] for each in parts if each["type"] != "step-start"] == [
        "reasoning",
        "text",
        "dynamic-tool",
        "text",
    ]
    assert parts[-1]["text"] == "The tool bash answered: hi"
    assert shown["message"]["id"] == run["id"]


def test_a_session_plays_in_the_terminal_while_the_gateway_runs(
    gateway: RunningGateway, lively: list[str]
) -> None:
    played = run_command(gateway.folder, "replay", "lively", "--at", "0", "--speed", "max")
    assert played.returncode == 0, played.stderr
    assert "\x1b" not in played.stdout
    for shown in (
        "> make me",
        "Well.",
        '* bash {"command":"echo hi"}',
        "= approved",
        ">> hurry up",
        "! run.aborted",
        "— session.reset",
    ):
        assert shown in played.stdout
    lines = run_command(
        gateway.folder, "replay", "lively", "--at", "3", "--to", "9", "--speed", "max", "--json",
        "--url", gateway.url,
    )  # fmt: skip
    assert lines.stdout.splitlines() == [line.rstrip("\n") for line in lively[3:9]]
