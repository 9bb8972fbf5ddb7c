"""What docs/clients shows runs as it stands there, against one gateway."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from tests.acceptance.gateway import ExecutedGateway, RunningGateway, text_of
from tests.acceptance.test_ai_sdk import packages
from tests.browser.conftest import Browse, browse
from tests.docs.shown_curl import curled
from web.openai_api.inputs import OpenAIHeaders
from web.openai_api.resources import OPENAI_ROUTES

__all__ = ["browse", "packages"]

ROOT = Path(__file__).parents[2]
CLIENTS = ROOT / "docs/clients"
DEADLINE_S = 60


def blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (CLIENTS / name).read_text(), re.S)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with ExecutedGateway(tmp_path_factory.mktemp("clients"), openai_endpoint=True) as running:
        yield running


def pointed(text: str, gateway: RunningGateway) -> str:
    return text.replace("localhost:8787", f"127.0.0.1:{gateway.port}")


def run(command: list[str], *, folder: Path | None = None, text: str = "") -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        input=text,
        env={name: value for name, value in os.environ.items() if name != "OPENAI_BASE_URL"},
        capture_output=True,
        check=False,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(lines: str, gateway: RunningGateway) -> list[str]:
    """Run the lines; a stream that never ends is left when it has shown its first event."""
    joined = pointed(lines.replace("\\\n", ""), gateway)
    commands = [each for each in joined.splitlines() if each.startswith("curl ")]
    return [curled(each, last="id: 1\n" if "/events" in each else "") for each in commands]


def test_curl(gateway: RunningGateway) -> None:
    own, openais = blocks("curl.md", "sh")
    answered, streamed, events, steered, aborted, history = curl(own, gateway)
    assert '"response":"hello there"' in answered
    assert streamed.endswith("data: [DONE]\n\n")
    assert "id: 1\n" in events
    assert '"sessionKey":"demo"' in steered
    assert '"ok":' in aborted
    assert "hello there" in history
    models, completed, response = curl(openais, gateway)
    assert '"id":"sessiond"' in models
    assert '"content":"hello again"' in completed
    assert "event: response.completed\n" in response


def test_the_openai_sdk(gateway: RunningGateway) -> None:
    chat, responses, repeated = blocks("openai-sdk.md", "python")

    def shown(script: str) -> str:
        return run([sys.executable, "-"], text=pointed(script, gateway))

    assert re.fullmatch(r"hello there\nand how are you\n\d+ tokens\n", shown(chat))
    assert shown(responses) == "which number was it\n"
    assert shown(repeated) == "count me once\n"
    history: Any = gateway.get("/sessions/demo:once/history").body["messages"]
    assert [text_of(each) for each in history] == ["count me once"] * 2


def modules(packages: Path, folder: Path, **names: str) -> Path:
    """Return a folder where Node finds packages by other names than they are installed."""
    found = folder / "node_modules"
    found.mkdir()
    for name, installed in names.items():
        (found / name).symlink_to((packages / "node_modules" / installed).resolve())
    return folder


def node(script: str, gateway: RunningGateway, folder: Path) -> str:
    (folder / "shown.mjs").write_text(pointed(script, gateway))
    return run(["node", "--no-warnings", "shown.mjs"], folder=folder)


@pytest.fixture
def event_source(gateway: RunningGateway) -> str:
    gateway.post("/sessions/demo/reset", {})
    gateway.post("/sessions/demo/messages", {"text": "hello there"})
    return blocks("eventsource.md", "js")[0]


STREAMED = r"hello there\n\d+: hello there\n"


def test_event_source(
    gateway: RunningGateway, event_source: str, packages: Path, tmp_path: Path
) -> None:
    folder = modules(packages, tmp_path, eventsource="eventsource")
    assert re.search(STREAMED, node(event_source, gateway, folder))


def test_event_source_in_a_browser(
    gateway: RunningGateway, event_source: str, browse: Browse
) -> None:
    script = pointed(event_source, gateway)
    seen = browse("shown.mjs", url=gateway.url, script=script, until=STREAMED)
    assert re.search(STREAMED, seen["printed"])


@pytest.mark.parametrize("version", ["ai5", "ai6", "ai7"])
def test_the_ai_sdk(gateway: RunningGateway, version: str, packages: Path, tmp_path: Path) -> None:
    gateway.post("/sessions/demo/reset", {})  # the message has the same id each time
    (script,) = blocks("ai-sdk.md", "js")
    folder = modules(packages, tmp_path, ai=version)
    assert node(script, gateway, folder) == "hello from the AI SDK\n"


def test_librechat_sends_what_chooses_a_session() -> None:
    (text,) = blocks("librechat.md", "yaml")
    (endpoint,) = yaml.safe_load(text)["endpoints"]["custom"]
    headers = {each.encode_name for each in msgspec.structs.fields(OpenAIHeaders)}
    assert set(endpoint["headers"]) <= headers
    assert endpoint["models"]["default"] == ["sessiond"]
    assert endpoint["baseURL"].endswith("/v1")


def test_every_client_is_in_the_list_of_clients() -> None:
    listed = set(re.findall(r"\]\(([\w-]+\.md)\)", (CLIENTS / "README.md").read_text()))
    assert listed == {each.name for each in CLIENTS.glob("*.md")} - {"README.md"}


def test_every_route_of_openais_api_is_documented() -> None:
    text = (ROOT / "docs/openai.md").read_text()
    assert set(re.findall(r"\| `(?:GET|POST) ([^`]+)` \|", text)) == {
        path.replace(":path}", "}") for path, _resource in OPENAI_ROUTES
    }
