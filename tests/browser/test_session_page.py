"""One session's page in a browser, as an operator uses it."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.gateway import ExecutedGateway, RunningGateway, run_command, stored_events
from tests.acceptance.test_ui_session import BEARER, FIXTURE, RULES, TOKEN, WRITE, api, prompt
from tests.browser.conftest import Browse
from tests.unit.web.test_ui_session import PAYLOADS

SHOTS = "UI_SHOTS"
"""The variable that names the folder where pictures of the page are kept; docs/ui has some."""

DELAY_MS = 8
CALLS = 8
MOVES = 40
WINDOW = 50


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    if not FIXTURE.exists():
        pytest.skip(f"the recorded session {FIXTURE} is not there")
    folder = tmp_path_factory.mktemp("browsed")
    done = run_command(folder, "import-pi", str(FIXTURE), "--session", "recorded")
    assert done.returncode == 0, done.stderr
    settings: dict[str, object] = {
        "token": TOKEN,
        "tools": "all",
        "tool_rules": json.dumps(RULES),
        "demo_delay_ms": DELAY_MS,
    }
    with ExecutedGateway(folder, None, **settings) as running:
        prompt(running, "browser", "hello")
        attack(running)
        yield running


def attack(gateway: RunningGateway) -> None:
    """Have a session of payloads: its prompts, answers, name, tool output and model errors."""
    payloads = [each for each in PAYLOADS if "\x00" not in each]
    for payload in payloads:
        line = payload.replace("\n", " ")
        prompt(gateway, "attacked", f"{payload}\n!think {line}")
    reads = [f"!read {json.dumps({'path': each})}" for each in payloads[:CALLS]]
    prompt(gateway, "attacked", "\n".join(reads))
    prompt(gateway, "attacked", f"!fail {PAYLOADS[0]}")
    body = json.dumps({"name": PAYLOADS[1]}).encode()
    renamed = gateway.request("PATCH", "/sessions/attacked", body, headers=BEARER)
    assert renamed.status == 200


@pytest.fixture(scope="module")
def browsed(gateway: RunningGateway, browse: Browse) -> dict[str, Any]:
    options = {"url": gateway.url, "token": TOKEN, "recorded": "recorded", "write": WRITE}
    return browse("session.mjs", **options, shots=os.environ.get(SHOTS, ""))


def test_an_operator_prompts_watches_approves_and_aborts(browsed: dict[str, Any]) -> None:
    seen = browsed["seen"]
    assert seen["streamed"].startswith("Some")
    assert "write waits for an approval" in seen["waits"]
    assert "a.txt" in seen["waits"]
    assert seen["tool"].startswith("write: result")
    assert "aborted" in seen["aborted"]


def test_the_conversation_is_scrolled_by_windows_and_says_how_runs_ended(
    browsed: dict[str, Any],
) -> None:
    seen = browsed["seen"]
    assert seen["ended"]
    assert seen["scrolled"] == WINDOW
    assert seen["kept"]
    assert seen["askedWhileDragged"] <= MOVES // 4


def test_the_scrubber_shows_exactly_the_state_at_event_500(
    gateway: RunningGateway, browsed: dict[str, Any]
) -> None:
    seen = browsed["seen"]
    state = api(gateway, "/sessions/recorded/state?at=500&limit=50")
    assert seen["digest"] == state["digest"]
    assert seen["messages"] == [each["id"] for each in state["messages"]]
    assert seen["hash"] == stored_events(gateway.folder, "recorded")[499].hash.hex()
    assert "message.completed" in seen["prompt"]


def test_a_fork_is_compared_verified_and_erased(
    gateway: RunningGateway, browsed: dict[str, Any]
) -> None:
    seen = browsed["seen"]
    assert "only in the fork" in " ".join(seen["compared"])
    assert seen["verified"].startswith("The chain is sound")
    receipt = json.loads(seen["receipt"])
    assert (receipt["sessionKey"], receipt["reason"]) == ("browser-fork", "asked for")
    erased = stored_events(gateway.folder, "browser-fork")
    assert all(each.payload is None for each in erased[: receipt["seq"] - 1])


def test_nothing_that_was_said_runs(browsed: dict[str, Any]) -> None:
    assert browsed["seen"]["attacked"] > 2 * len(PAYLOADS)
    assert browsed["problems"] == []


def test_nothing_went_wrong_in_the_browser(browsed: dict[str, Any]) -> None:
    assert browsed["problems"] == []
    assert {name: each for name, each in browsed["faults"].items() if each} == {}
    assert {name: each for name, each in browsed["overflow"].items() if each} == {}
