"""The README's first conversation, run as it stands there against a gateway."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.gateway import RunningGateway

README = (Path(__file__).parents[2] / "README.md").read_text()
ENDLESS_S = "2"
CURL_TIMED_OUT = 28


def conversation() -> list[str]:
    section = README.split("## A first conversation")[1].split("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("curl ")]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("readme")) as running:
        yield running


def run(line: str, gateway: RunningGateway) -> str:
    """Run a line of the README; a stream that never ends is cut off after a while."""
    command = line.replace("localhost:8787", f"127.0.0.1:{gateway.port}")
    command = command.replace("curl ", f"curl -sS --max-time {ENDLESS_S} ", 1)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, check=False, text=True, timeout=30
    )
    assert done.returncode in (0, CURL_TIMED_OUT), done.stderr
    return done.stdout


def test_the_first_conversation_goes_as_the_readme_shows(gateway: RunningGateway) -> None:
    answered, streamed, history, session, events = [run(line, gateway) for line in conversation()]
    assert '"response":"hello there"' in answered
    assert re.search(r'"type":"reasoning-delta".*"about', streamed)
    assert streamed.endswith("data: [DONE]\n\n")
    assert '"text":"what a day"' in history
    assert '"messageCount":4' in session
    assert "id: 1\n" in events
    assert '"type":"message_complete","sessionKey":"demo","text":"what a day"' in events


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
