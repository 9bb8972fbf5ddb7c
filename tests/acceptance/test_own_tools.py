"""A user's own tools and those of MCP servers, through the real gateway."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway, check_log, until

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "tests" / "integration" / "mcp_server.py"


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway, worker_class: str) -> Iterator[RunningGateway]:
    server = {"name": "near", "command": [sys.executable, str(SERVER), "stdio"]}
    with open_gateway(
        variables={"PYTHONPATH": os.pathsep.join([str(ROOT / "docs" / "examples"), str(ROOT)])},
        worker_class=worker_class,
        tools="all",
        tool_modules='["weather_tool"]',
        mcp_servers=json.dumps([server]),
    ) as opened:
        yield opened
        check_log(opened.folder, opened)


def near(gateway: RunningGateway) -> dict[str, Any]:
    (server,) = gateway.get("/ready").body["mcpServers"]
    found: dict[str, Any] = server
    return found


def ask(gateway: RunningGateway, name: str, **arguments: object) -> str:
    text = f"!{name} {json.dumps(arguments)}"
    answer = gateway.post("/sessions/own/messages", {"text": text})
    assert answer.status == 200
    return str(answer.body["response"])


def test_a_function_of_one_s_own_is_a_tool(gateway: RunningGateway) -> None:
    assert '"degrees_celsius": 31' in ask(gateway, "weather", city="Cairo")
    assert "Nothing is known of Atlantis." in ask(gateway, "weather", city="Atlantis")
    assert "'city' is a required property" in ask(gateway, "weather")


def test_a_server_s_tools_appear_like_any_other(gateway: RunningGateway) -> None:
    until(lambda: near(gateway)["state"] == "ready", "the server is ready")
    assert near(gateway)["tools"] > 3
    assert ask(gateway, "near__add", a=2, b=3).endswith("5")
    assert "Error executing tool fail" in ask(gateway, "near__fail")
    assert "SESSIOND" not in ask(gateway, "near__environment")


def test_a_server_that_dies_is_started_again(gateway: RunningGateway) -> None:
    until(lambda: near(gateway)["state"] == "ready", "the server is ready")
    before = int(ask(gateway, "near__pid").split()[-1])
    os.kill(before, signal.SIGKILL)
    until(lambda: near(gateway)["restarts"] > 0 and near(gateway)["state"] == "ready", "it is back")
    assert int(ask(gateway, "near__pid").split()[-1]) != before


def test_a_stopped_gateway_leaves_no_server_behind(open_gateway: OpenGateway) -> None:
    server = {"name": "near", "command": [sys.executable, str(SERVER), "stdio"]}
    with open_gateway(tools="all", mcp_servers=json.dumps([server])) as gateway:
        until(lambda: near(gateway)["state"] == "ready", "the server is ready")
        process = int(ask(gateway, "near__pid").split()[-1])
        gateway.terminate()

        def is_gone() -> bool:
            try:
                os.kill(process, 0)
            except ProcessLookupError:
                return True
            return False

        until(is_gone, "the server has ended")
