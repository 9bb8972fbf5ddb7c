"""Commands for people, against a running gateway: chat, prompt, sessions, tail, doctor."""

import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click.testing
import pytest
from click.testing import CliRunner

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.cutting_proxy import CuttingProxy
from tests.acceptance.gateway import (
    COMMAND,
    DEADLINE_S,
    HOST,
    RunningGateway,
    environment,
    until,
    words,
)
from tests.acceptance.terminal import CTRL_C, CTRL_D, Terminal
from web.cli.main import main

CHAT_JSON = ("chat", "piped", "--json")
RULES = json.dumps([{"tool": "write", "action": "ask"}])
WRITE = '!write {"path": "a.txt", "content": "kept"}'


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(tools="all", tool_rules=RULES, demo_delay_ms=2) as running:
        yield running


def arguments(gateway: RunningGateway, *given: str, url: str | None = None) -> list[str]:
    return [str(COMMAND), *given, "--url", url or gateway.url]


def run(
    gateway: RunningGateway, *given: str, text: str = "", url: str | None = None
) -> click.testing.Result:
    """Run a command in this process: another one takes half a second to start."""
    settings = {"database_url": f"sqlite:///{gateway.folder}/sessiond.db"}
    runner = CliRunner(env=environment(settings))
    return runner.invoke(main, arguments(gateway, *given, url=url)[1:], input=text)


def terminal(gateway: RunningGateway, *given: str) -> Terminal:
    return Terminal(arguments(gateway, *given), gateway.folder, environment({}))


def test_a_pipe_is_a_prompt_and_its_answer_comes_back(gateway: RunningGateway) -> None:
    thought = subprocess.run(
        arguments(gateway, "chat", "piped"),
        cwd=gateway.folder,
        env=environment({}),
        input="!think about it\nhello there\n",
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert (thought.stdout, thought.stderr) == ("about it\nhello there\n", "")
    assert thought.returncode == 0
    again = run(gateway, "chat", "piped", text='!bash {"command": "echo out"}')
    assert again.stdout.splitlines() == [
        '* bash {"command":"echo out"}',
        "out",
        "The tool bash answered: out",
    ]
    assert gateway.snapshot("piped")["messageCount"] == 6
    events = [json.loads(line) for line in run(gateway, *CHAT_JSON, text="hi").stdout.splitlines()]
    assert [each["delta"] for each in events if each["type"] == "token"] == ["hi"]
    assert [each["seq"] for each in events] == sorted(each["seq"] for each in events)


def test_a_pipe_says_by_its_exit_status_how_it_went(gateway: RunningGateway) -> None:
    failed = run(gateway, "chat", "status", text="!fail no luck")
    assert (failed.stdout, failed.exit_code) == ("! run.failed no luck\n", 1)
    denied = run(gateway, "chat", "status", "--approvals", "deny", text=WRITE)
    assert "= denied" in denied.stdout
    assert denied.exit_code == 0
    asked = run(gateway, "chat", "status", text=WRITE)
    assert asked.exit_code == 3
    assert "answer it in sessiond chat status" in asked.stderr
    assert len(gateway.snapshot("status")["approvals"]) == 1
    nobody = run(gateway, "chat", "status", text="hello", url=f"http://{HOST}:1")
    assert nobody.exit_code == 1
    assert "Start one by sessiond serve" in nobody.stderr


def test_a_conversation_in_a_terminal(gateway: RunningGateway) -> None:
    with terminal(gateway, "chat", "talk") as talk:
        talk.wait_for("talk: new. /help lists what can be typed.\n> ")
        talk.type('"""\nfirst line\nsecond line\n"""\n')
        talk.wait_for("first line\nsecond line\n> ")
        talk.type("one \\\n")
        talk.wait_for(". ")
        talk.type("two\n")
        talk.wait_for("one \ntwo\n> ")
        talk.type("/model\n")
        talk.wait_for("* demo/echo\n")
        talk.type("/model demo/nothing\n")
        talk.wait_for("Model not found: demo/nothing")
        talk.type("/nonsense\n")
        talk.wait_for("There is no /nonsense; /help lists all.")
        talk.type("/history 2\n")
        talk.wait_for("> one \ntwo\none \ntwo\n> ")
        talk.type("/quit\n")
        assert talk.status() == 0
    texts = [part["text"] for each in messages(gateway, "talk") for part in each["parts"]]
    assert texts == ["first line\nsecond line"] * 2 + ["one \ntwo"] * 2


def messages(gateway: RunningGateway, key: str) -> list:
    found: list = gateway.get(f"/sessions/{key}/history").body["messages"]
    return found


def types(gateway: RunningGateway, key: str) -> list[str]:
    lines = gateway.get(f"/sessions/{key}/log").body.splitlines()
    return [json.loads(line)["type"] for line in lines]


def test_calls_that_wait_are_asked_about_where_they_happen(gateway: RunningGateway) -> None:
    with terminal(gateway, "chat", "asking") as talk:
        talk.wait_for("> ")
        talk.type(f"{WRITE}\n")
        talk.wait_for("Allow it? [y/n, or n and why] ")
        talk.type("perhaps\n")
        talk.wait_for("Answer y or n")
        talk.type("n not today\n")
        talk.wait_for("= denied not today")
        talk.wait_for("\n> ")
        talk.type(f"{WRITE}\n")
        talk.wait_for("Allow it?")
        talk.type("y\n")
        talk.wait_for("Wrote 4 bytes to a.txt.\n> ")
        talk.type(CTRL_D)
        assert talk.status() == 0


def test_ctrl_c_aborts_what_runs_and_the_conversation_goes_on(gateway: RunningGateway) -> None:
    with terminal(gateway, "chat", "abort") as talk:
        talk.wait_for("> ")
        talk.type('!bash {"command": "echo begun; sleep 60"}\n')
        talk.wait_for("begun\n")
        talk.type("and then this\n/steer or that\n")
        until(lambda: "steering.received" in types(gateway, "abort"), "what was typed has come")
        assert gateway.snapshot("abort")["queueDepth"] == 1
        talk.type(CTRL_C)
        talk.wait_for("! run.aborted")
        talk.wait_for("\nand then this\n> ")
        talk.type("/abort\n")
        talk.wait_for("Nothing runs.\n> ")
        talk.type(CTRL_C + "\n")  # Python looks for signals when a line is there, at the latest
        talk.wait_for("(Ctrl-C once more leaves.)\n> ")
        talk.type('!bash {"command": "sleep 60"}\n')
        talk.wait_for("* bash")
        talk.type(CTRL_C)
        talk.wait_for("! run.aborted\n> ")
        talk.type(CTRL_C + "\n")
        assert talk.status() == 1


def test_who_comes_later_sees_what_runs_already(gateway: RunningGateway) -> None:
    gateway.post("/sessions/joined/enqueue", {"text": WRITE})
    until(lambda: gateway.snapshot("joined").get("approvals"), "the call waits")
    with terminal(gateway, "chat", "joined") as talk:
        talk.wait_for('? * write {"path":"a.txt","content":"kept"}')
        talk.wait_for("Allow it?")
        talk.type("y\n")
        talk.wait_for("Wrote 4 bytes to a.txt.\n> ")


def test_a_lost_connection_is_taken_up_where_it_broke_off(gateway: RunningGateway) -> None:
    said = words(120)
    with contextlib.closing(CuttingProxy(gateway.port, [900, 1_500, 2_300])) as proxy:
        answer = run(gateway, "chat", "lost", text=said, url=proxy.url)
        assert proxy.cut == 3
    assert answer.exit_code == 0
    assert answer.stdout.split() == said.split()


@pytest.mark.parametrize(
    "command", [["tail", "--after", "0", "--stop"], ["replay", "--speed", "max"]]
)
def test_a_log_that_breaks_off_is_taken_up_again_and_never_cut_short(
    gateway: RunningGateway, command: list[str]
) -> None:
    gateway.post("/sessions/broken/messages", {"text": words(30)})
    stored = gateway.get("/sessions/broken/log").body.decode()
    with contextlib.closing(CuttingProxy(gateway.port, [700, 1_900])) as proxy:
        read = run(gateway, command[0], "broken", *command[1:], "--json", url=proxy.url)
        assert proxy.cut == 2
    assert (read.stdout, read.exit_code) == (stored, 0)


def test_one_prompt_and_one_answer(gateway: RunningGateway) -> None:
    plain = run(gateway, "prompt", "once", "Look at this:", "-", text="the change\n")
    assert (plain.stdout, plain.exit_code) == ("Look at this:\n\nthe change\n", 0)
    shown = run(gateway, "prompt", "once", "!fail badly", "--json")
    assert json.loads(shown.stdout) == {"ok": False, "error": "badly", "status": 502}
    assert shown.exit_code == 1
    waits = run(gateway, "prompt", "once", WRITE)
    assert waits.exit_code == 3
    assert "write waits for approval" in waits.stderr


def test_sessions_are_found_by_what_they_are_called_and_what_was_said(
    gateway: RunningGateway,
) -> None:
    for key, said in (("find:1", "an Invoice for tea"), ("find:2", "nothing")):
        gateway.post(f"/sessions/{key}/messages", {"text": said})
    listed = run(gateway, "sessions", "invoice").stdout.splitlines()
    assert [line.split()[4] for line in listed] == ["find:1"]
    asked = run(gateway, "sessions", "--prefix", "find:", "--json").stdout
    assert [json.loads(line)["sessionKey"] for line in asked.splitlines()] == ["find:1", "find:2"]
    assert len(run(gateway, "sessions", "--limit", "1").stdout.splitlines()) == 1


def test_tail_shows_the_same_from_the_gateway_and_from_its_database(
    gateway: RunningGateway,
) -> None:
    gateway.post("/sessions/tailed/messages", {"text": "hello"})
    stored = gateway.get("/sessions/tailed/log").body.decode()
    asked = run(gateway, "tail", "tailed", "--after", "0", "--stop", "--json")
    assert asked.stdout == stored
    read = run(gateway, "tail", "tailed", "--after", "0", "--stop", "--json", "--database")
    assert read.stdout == stored
    some = run(gateway, "tail", "--all", "--types", "run.completed", "--stop", "--database").stdout
    assert len(some.splitlines()) > 1
    assert "  session:tailed " in some
    assert some == run(gateway, "tail", "--all", "--types", "run.completed", "--stop").stdout
    newest = run(gateway, "tail", "tailed", "--stop").stdout.splitlines()
    assert len(newest) == 10
    assert " run.completed " in newest[-1]
    none = run(gateway, "tail", "no-such", "--stop", "--database")
    assert (none.exit_code, none.stderr) == (1, "Error: Session not found: no-such\n")


def test_tail_follows_what_happens_until_somebody_ends_it(gateway: RunningGateway) -> None:
    with terminal(gateway, "tail", "--all", "--types", "prompt.queued") as watching:
        asked = 0

        def shown() -> bool:  # it begins with what is new, and nothing tells when it has
            nonlocal asked
            asked += 1
            gateway.post("/sessions/followed/enqueue", {"text": f"number {asked}"})
            with contextlib.suppress(AssertionError):
                watching.wait_for("number ", deadline_s=0.5)
                return True
            return False

        until(shown, "a prompt is shown")
        gateway.until_idle("followed")
        gateway.post("/sessions/followed/messages", {"text": "the last"})
        watching.wait_for("the last")
        watching.type(CTRL_C)
        assert watching.status() == 130


EVIL = "A\x1b]52;c;QQ==\x07B\x1b]0;title\x1b\\C\x1b[2JD\x08E\u202eF\x9b31mG\u2066H"
COMMANDS_A_TERMINAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_nothing_that_was_said_commands_the_terminal(gateway: RunningGateway) -> None:
    gateway.post("/sessions/evil/messages", {"text": f"!think {EVIL}\n{EVIL}"})
    bash = json.dumps({"command": r"printf '\033]0;title\007\033[2J'"})
    gateway.post("/sessions/evil/messages", {"text": f"!bash {bash}"})
    name = json.dumps({"name": f"{EVIL}\nanother line"}).encode()
    gateway.request("PATCH", "/sessions/evil", name)
    said = "".join(
        run(gateway, *each, text=EVIL).output
        for each in (
            ["chat", "evil"],
            ["prompt", "evil", f"!fail {EVIL}"],
            ["sessions", "--prefix", "evil"],
            ["sessions", "--prefix", "evil", "--json"],
            ["tail", "evil", "--after", "0", "--stop"],
            ["replay", "evil", "--speed", "max"],
        )
    )
    assert said.count("title") >= 8
    assert COMMANDS_A_TERMINAL.findall(said) == []
    assert len(run(gateway, "sessions", "--prefix", "evil").output.splitlines()) == 1
    with terminal(gateway, "tail", "evil", "--after", "0", "--stop", "--json") as shown:
        assert shown.status() == 0
        assert "title" in shown.text
        assert COMMANDS_A_TERMINAL.findall(shown.text) == []


def test_ctrl_c_leaves_a_prompt_that_goes_on(gateway: RunningGateway) -> None:
    with terminal(gateway, "prompt", "left", '!bash {"command": "sleep 60"}') as left:
        until(lambda: b"tool.started" in gateway.get("/sessions/left/log").body, "it runs")
        left.type(CTRL_C)
        left.wait_for("What runs goes on: sessiond chat left shows it.")
        assert left.status() == 130
    assert gateway.post("/sessions/left/abort", {}).body["ok"]


def test_who_reads_no_further_ends_a_command_quietly(gateway: RunningGateway) -> None:
    for command in (["verify", "--all"], ["tail", "--all", "--after", "0"]):
        ended = subprocess.Popen(
            [COMMAND, *command],
            cwd=gateway.folder,
            env=environment({"database_url": f"sqlite:///{gateway.folder}/sessiond.db"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert ended.stdout is not None
        ended.stdout.close()
        assert ended.stderr is not None
        assert ended.stderr.read() == b""
        assert ended.wait(DEADLINE_S) == 1
        ended.stderr.close()


def test_the_doctor_finds_a_gateway_in_health(gateway: RunningGateway) -> None:
    settings = {
        "database_url": f"sqlite:///{gateway.folder}/sessiond.db",
        "port": gateway.port,
        "workspaces_dir": gateway.folder,
    }
    found = CliRunner(env=environment(settings)).invoke(main, ["doctor", "--json"])
    report = json.loads(found.stdout)
    said = {(each["check"], each["status"]): each["said"] for each in report["checks"]}
    assert (found.exit_code, report["ok"]) == (0, True)
    assert said["port", "ok"] == f"a gateway answers at {gateway.url}, and is ready"
    assert said["served by", "ok"].startswith("process ")
    assert "its schema is current" in said["database", "ok"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_itself_takes_the_completion(tmp_path: Path) -> None:
    script = (
        f'PATH="{COMMAND.parent}:$PATH"; eval "$(sessiond completion bash)"\n'
        "COMP_WORDS=(sessiond doc); COMP_CWORD=1; _sessiond_completion sessiond\n"
        'echo "${COMPREPLY[@]}"'
    )
    shown = subprocess.run(
        ["bash", "--norc", "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert shown.stdout == "doctor\n"
