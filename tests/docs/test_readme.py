"""The README's first conversation, run as it stands there against a gateway."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway import COMMAND, RunningGateway
from tests.docs.shown_curl import curled

README = (Path(__file__).parents[2] / "README.md").read_text()
LAST = '"type":"message_complete","sessionKey":"demo","text":"what a day"'
"""What the stream that never ends shows at last."""


def conversation() -> list[str]:
    section = README.split("## A first conversation")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("readme")) as running:
        yield running


def run(line: str, gateway: RunningGateway) -> str:
    """Run a line of the README; a stream that never ends is left when it has shown all."""
    command = line.replace("localhost:8787", f"127.0.0.1:{gateway.port}")
    return curled(command, last=LAST if "/events" in line else "")


def test_the_first_conversation_goes_as_the_readme_shows(gateway: RunningGateway) -> None:
    answered, streamed, history, session, events = [run(line, gateway) for line in conversation()]
    assert '"response":"hello there"' in answered
    assert re.search(r'"type":"reasoning-delta".*"about', streamed)
    assert streamed.endswith("data: [DONE]\n\n")
    assert '"text":"what a day"' in history
    assert '"messageCount":4' in session
    assert "id: 1\n" in events
    assert LAST in events


def test_the_proofs_go_as_the_readme_shows(gateway: RunningGateway) -> None:
    gateway.post("/sessions/demo/messages", {"text": "hello there"})
    section = README.split("## Prove it")[1].split("```")[1]
    lines = [line for line in section.splitlines() if line.startswith((".venv", "curl"))]
    shown = dict(zip(lines, [run_there(line, gateway) for line in lines], strict=True))
    verified, signed, _exported, checked, replayed, state, forked, erased = shown.values()
    assert "Sound" in verified
    assert signed.startswith("sessiond/")
    assert "each linked to the one before it" in checked
    assert "hello there" in replayed
    assert '"seq":5' in state
    assert '"demo-2"' in forked
    assert '"receiptId"' in erased


def run_there(line: str, gateway: RunningGateway) -> str:
    """Run a line of the README in the folder where the gateway runs."""
    if line.startswith("curl"):
        return run(line, gateway)
    command = line.replace(".venv/bin/sessiond", str(COMMAND))
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=gateway.folder,
        env=os.environ
        | {"SESSIOND_PORT": str(gateway.port), "SESSIOND_DATABASE_URL": "sqlite:///sessiond.db"},
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_model_writes_a_file_as_the_readme_shows(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    line = next(each for each in README.splitlines() if "!write" in each)
    with RunningGateway(tmp_path_factory.mktemp("tools"), tools="write") as gateway:
        assert '"ok":true' in run(line, gateway)
        (written,) = gateway.folder.glob("data/workspaces/*/a.txt")
        assert written.read_text() == "hello"


def test_every_command_of_the_readme_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text()
    for target in re.findall(r"^(?:\w+=\S+ )*make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
