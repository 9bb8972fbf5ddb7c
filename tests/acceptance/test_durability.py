import json
import re
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from actors.session import events as e
from tests.acceptance.conftest import OpenGateway, StartGateway
from tests.acceptance.gateway import (
    DEADLINE_S,
    HOST,
    Answer,
    Background,
    Frame,
    RunningGateway,
    Stream,
    check_log,
    events,
    run_command,
    text_of,
    until,
    words,
)
from tests.sqlite import make_database

RECORDED = Path(__file__).parents[3] / "shared/fixtures/large-session.jsonl"
RECORDED_MESSAGES = 914
GRACE_S = 1
"""Not much before gunicorn would give up what is still open: all has ended by itself by then."""


def prompt(gateway: RunningGateway, key: str, text: str) -> Answer:
    return gateway.post(f"/sessions/{key}/messages", {"text": text})


def send_and_leave(gateway: RunningGateway, key: str, text: str) -> None:
    """Prompt a session; the answer's headers say that the prompt is accepted."""
    with gateway.stream(f"/sessions/{key}/chat", method="POST", body={"text": text}) as stream:
        assert stream.status == 200


def read_all(stream: Stream) -> list[Frame]:
    """Read a stream to its end, then leave."""
    with stream:
        return list(stream.frames())


def answers_of(gateway: RunningGateway, key: str) -> list[tuple[str, str]]:
    """Return each prompt of a session with what was answered."""
    messages = gateway.get(f"/sessions/{key}/history").body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"] * (len(messages) // 2)
    return [
        (text_of(user), text_of(answer))
        for user, answer in pairwise(messages)
        if user["role"] == "user"
    ]


def test_a_kill_in_mid_answer_loses_nothing_that_was_acknowledged(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(worker_class=worker_class, demo_delay_ms=10)
    answered = prompt(gateway, "killed", "answered before")
    assert answered.status == 200
    texts = [words(1_000, "long"), "waiting one", "waiting two"]
    for text in texts:
        send_and_leave(gateway, "killed", text)
    shown = gateway.until_answering("killed")
    assert gateway.snapshot("killed")["queueDepth"] == 2
    before = gateway.snapshot("killed")

    gateway.kill()
    unfinished = events(gateway.folder, "killed")
    assert not isinstance(unfinished[-1], e.RunCompleted)
    check_log(gateway.folder)
    gateway.start()
    gateway.until_idle("killed")

    log = events(gateway.folder, "killed")
    assert log[: len(unfinished)] == unfinished
    [interrupted] = [each for each in log if isinstance(each, e.RunInterrupted)]
    queued = {each.prompt_id: each.text for each in log if isinstance(each, e.PromptQueued)}
    assert queued[interrupted.prompt_id] == texts[0]
    completed = [each.prompt_id for each in log if isinstance(each, e.RunCompleted)]
    assert [queued[prompt_id] for prompt_id in completed] == ["answered before", *texts[1:]]
    first, partial_answer, *rest = answers_of(gateway, "killed")
    assert first == ("answered before", "answered before")
    assert partial_answer[0] == texts[0]
    assert partial_answer[1].startswith(shown)
    assert texts[0].startswith(partial_answer[1])
    assert rest == [(text, text) for text in texts[1:]]
    after = gateway.snapshot("killed")
    assert after["sessionId"] == before["sessionId"]
    assert after["createdAt"] == before["createdAt"]
    check_log(gateway.folder, gateway)


def test_sessions_are_there_after_a_kill_without_any_request_for_them(
    start_gateway: StartGateway,
) -> None:
    gateway = start_gateway(demo_delay_ms=10)
    for number in range(5):
        send_and_leave(gateway, f"s{number}", words(1_000, f"n{number}"))
        send_and_leave(gateway, f"s{number}", f"next {number}")
    for number in range(5):
        gateway.until_answering(f"s{number}")
    gateway.restart()

    def all_are_idle() -> bool:
        listed = gateway.get("/sessions").body["sessions"]
        return len(listed) == 6 and not any(
            each["processing"] or each["queueDepth"] for each in listed
        )

    until(all_are_idle, "every session has done its work")
    for number in range(5):
        assert answers_of(gateway, f"s{number}")[-1] == (f"next {number}", f"next {number}")
    check_log(gateway.folder, gateway)


def test_two_kills_in_a_row_leave_a_log_that_verifies(start_gateway: StartGateway) -> None:
    gateway = start_gateway(demo_delay_ms=5)
    send_and_leave(gateway, "twice", words(1_000, "first"))
    send_and_leave(gateway, "twice", words(1_000, "second"))
    send_and_leave(gateway, "twice", "the end")
    for _ in range(2):
        gateway.until_answering("twice")
        gateway.restart()
        check_log(gateway.folder, gateway)
    gateway.until_idle("twice")
    log = events(gateway.folder, "twice")
    assert [type(each) for each in log].count(e.RunInterrupted) == 2
    assert [type(each) for each in log].count(e.RunCompleted) == 1
    assert answers_of(gateway, "twice")[-1] == ("the end", "the end")
    check_log(gateway.folder, gateway)


def test_sigterm_interrupts_what_outlasts_the_grace_period_and_ends_every_stream(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(worker_class=worker_class, demo_delay_ms=100, grace_s=GRACE_S)
    text = words(2_000)
    with (
        gateway.stream("/sessions/term/chat", method="POST", body={"text": text}) as chat,
        gateway.stream("/sessions/term/events?after=0") as stream,
        gateway.stream("/sessions/web:main/events") as idle,
    ):
        waiting = Background(partial(prompt, gateway, "term", "waits"))
        gateway.until_answering("term")
        until(lambda: gateway.snapshot("term")["queueDepth"] == 1, "the second prompt waits")
        chunks_read, frames_read, idle_read = [
            Background(partial(read_all, each)) for each in (chat, stream, idle)
        ]

        gateway.terminate()

        chunks: list[Frame] = chunks_read.result()
        frames: list[Frame] = frames_read.result()
        assert [frame.data["type"] for frame in idle_read.result()] == ["hello"]
    assert chunks[-1].data == "[DONE]"
    assert [chunk.data["type"] for chunk in chunks[-4:-1]] == ["text-end", "finish-step", "error"]
    assert chunks[-2].data["errorText"] == "The gateway is stopping."
    assert waiting.result().status == 503
    assert waiting.result().body["ok"] is False
    log = events(gateway.folder, "term")
    assert [frame.id for frame in frames[1:]] == list(range(1, len(log) + 1))
    assert [type(each) for each in log].count(e.RunInterrupted) == 1
    check_log(gateway.folder)

    gateway.start()
    gateway.until_idle("term")
    first, second = answers_of(gateway, "term")
    assert first[1]
    assert text.startswith(first[1])
    assert second == ("waits", "waits")
    check_log(gateway.folder, gateway)


def test_an_idle_connection_does_not_hold_up_the_end(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(worker_class=worker_class, grace_s=2 * DEADLINE_S)
    with closing(HTTPConnection(HOST, gateway.port)) as kept_alive:
        kept_alive.request("GET", "/health")
        assert kept_alive.getresponse().read()
        gateway.terminate()  # before its deadline, which ends long before the grace period


def test_sigterm_lets_a_run_end_that_fits_the_grace_period(
    worker_class: str, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(worker_class=worker_class, demo_delay_ms=10, grace_s=10)
    text = words(60)
    with gateway.stream("/sessions/term/chat", method="POST", body={"text": text}) as chat:
        gateway.until_answering("term")
        reading = Background(partial(read_all, chat))
        gateway.terminate()
        chunks: list[Frame] = reading.result()
    assert chunks[-2].data == {"type": "finish", "finishReason": "stop"}
    assert chunks[-1].data == "[DONE]"
    log = events(gateway.folder, "term")
    assert isinstance(log[-1], e.RunCompleted)
    check_log(gateway.folder)


@pytest.fixture(scope="module")
def serving(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway() as gateway:
        yield gateway


def test_a_second_gateway_on_the_same_database_is_refused(serving: RunningGateway) -> None:
    second = run_command(serving.folder, "serve", "--port", "0")
    assert second.returncode != 0
    output = second.stdout + second.stderr
    assert re.search(r"Process \d+ already serves .*sessiond\.db\. SQLite carries", output), output
    assert "use PostgreSQL for many" in output
    assert prompt(serving, "first", "still here").body["response"] == "still here"


def test_migrate_and_import_are_refused_while_a_gateway_serves(
    serving: RunningGateway, tmp_path: Path
) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text('{"type":"session","id":"x","version":1}\n')
    for arguments in (["migrate"], ["import-pi", str(recorded), "--session", "x"]):
        refused = run_command(serving.folder, *arguments)
        assert refused.returncode == 1
        assert one_line(refused).startswith("Error: Process ")
        assert "already serves" in one_line(refused)


def test_serve_makes_a_database_by_itself(start_gateway: StartGateway, tmp_path: Path) -> None:
    database = tmp_path / "made.db"
    gateway = start_gateway(database_url=f"sqlite:///{database}")
    assert prompt(gateway, "made", "hello").body["response"] == "hello"
    assert rows_of(database) > 0


def test_migrate_makes_a_database_that_serve_uses(
    start_gateway: StartGateway, tmp_path: Path
) -> None:
    for _ in range(2):  # the second time there is nothing to do
        migrated = run_command(tmp_path, "migrate")
        assert migrated.returncode == 0, migrated.stderr
        assert re.fullmatch(r"The schema is at \w+\.\n", migrated.stdout)
    gateway = start_gateway(database_url=f"sqlite:///{tmp_path / 'sessiond.db'}")
    assert prompt(gateway, "migrated", "hello").body["response"] == "hello"


@pytest.fixture(scope="module")
def imported(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    """A gateway over a recorded session of 914 messages that was imported before its start."""
    if not RECORDED.exists():
        pytest.skip("the recorded session large-session.jsonl is not there")
    with open_gateway(
        demo_delay_ms=0
    ) as gateway:  # the conversation is long enough to be summed up
        gateway.terminate()
        done = run_command(gateway.folder, "import-pi", str(RECORDED), "--session", "recorded")
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"Session recorded has {RECORDED_MESSAGES} messages.\n"
        gateway.start()
        yield gateway


def recorded_messages() -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [entry["message"] for entry in entries if entry["type"] == "message"]


def as_history(message: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded message the way history shows it, without its id."""
    content = message["content"]
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if message["role"] == "toolResult":
        parts = [
            {
                "type": "tool-invocation",
                "toolCallId": message["toolCallId"],
                "toolName": message["toolName"],
                "state": "error" if message["isError"] else "result",
                "result": "".join(each["text"] for each in content if each["type"] == "text"),
            }
        ]
    else:
        parts = [as_part(block) for block in content]
    return {"role": message["role"], "parts": parts, "timestamp": message["timestamp"]}


def as_part(block: dict[str, Any]) -> dict[str, Any]:
    match block["type"]:
        case "text":
            return {"type": "text", "text": block["text"]}
        case "thinking":
            return {"type": "reasoning", "text": block["thinking"]}
        case kind:
            assert kind == "toolCall"
            return {
                "type": "tool-invocation",
                "toolCallId": block["id"],
                "toolName": block["name"],
                "args": block["arguments"],
                "state": "call",
            }


def without_id(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "id"}


def test_an_imported_session_has_every_message_of_the_file_in_order(
    imported: RunningGateway,
) -> None:
    history = imported.get(f"/sessions/recorded/history?before={seq_limit(imported)}").body
    messages = history["messages"]
    assert len(messages) == RECORDED_MESSAGES
    assert len({message["id"] for message in messages}) == RECORDED_MESSAGES
    assert [without_id(each) for each in messages] == [
        as_history(message) for message in recorded_messages()
    ]
    check_log(imported.folder, imported)


def seq_limit(gateway: RunningGateway) -> int:
    """Return the seq after the last imported message: other tests prompt the session too."""
    log = events(gateway.folder, "recorded")
    prompts = [seq for seq, each in enumerate(log, 1) if isinstance(each, e.PromptQueued)]
    return prompts[0] if prompts else len(log) + 1


def test_an_imported_session_goes_on_and_is_there_after_a_restart(
    imported: RunningGateway,
) -> None:
    before = imported.get("/sessions/recorded/state").body
    assert before["messages"] == imported.get("/sessions/recorded/history").body["messages"]
    assert before["session"]["messageCount"] == len(before["messages"])
    assert before["session"]["processing"] is False

    assert prompt(imported, "recorded", "and now?").body["response"] == "and now?"
    imported.restart()

    after = imported.get("/sessions/recorded/state").body
    assert after["messages"][:-2] == before["messages"]
    assert [text_of(message) for message in after["messages"][-2:]] == ["and now?"] * 2
    assert after["session"]["sessionId"] == before["session"]["sessionId"]
    check_log(imported.folder, imported)


def test_importing_into_a_session_that_has_messages_is_refused(tmp_path: Path) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(
        '{"type":"session","id":"x","version":1}\n'
        '{"type":"message","message":{"role":"user","content":"hello","timestamp":1}}\n'
    )
    arguments = ("import-pi", str(recorded), "--session", "x")
    assert run_command(tmp_path, *arguments).returncode == 0
    before = events(tmp_path, "x")
    again = run_command(tmp_path, *arguments)
    assert again.returncode == 1
    assert one_line(again) == "Error: Session x already has messages: choose another key."
    assert events(tmp_path, "x") == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("no json\n", "line 1:"),
        ('{"type":"session"}\n{"type":"message","message":{"role":"user","content"', "line 2:"),
    ],
)
def test_a_malformed_file_is_refused_and_nothing_is_written(
    tmp_path: Path, content: str, problem: str
) -> None:
    recorded = tmp_path / "recorded.jsonl"
    recorded.write_text(content)
    make_database(tmp_path / "sessiond.db")
    refused = run_command(tmp_path, "import-pi", str(recorded), "--session", "x")
    assert refused.returncode == 1
    assert one_line(refused).startswith(f"Error: {problem}")
    assert rows_of(tmp_path / "sessiond.db") == 0


def rows_of(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        count: int = connection.execute("SELECT count(*) FROM events").fetchone()[0]
        return count


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.rstrip("\n")


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"port": "http"}, "port"),
        ({"workers": 2}, "SQLite carries one worker: use PostgreSQL for more."),
        ({"database_url": "nonsense"}, "database URL"),
        ({"model": "nobody/nothing"}, "nobody/nothing"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_clear_line(
    tmp_path: Path, settings: dict[str, object], named: str
) -> None:
    refused = run_command(tmp_path, "serve", **settings)
    assert refused.returncode != 0
    assert named in one_line(refused)
    assert "Traceback" not in refused.stderr
