"""Every page in a real browser: nothing fails, nothing runs that should not, everybody can use it.

UI_SHOTS=docs/ui keeps screenshots.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import RunningGateway, until
from tests.browser.conftest import Browse
from tests.unit.web.payloads import PAYLOADS

TOKEN = "browser-token"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
PATHS = (
    "sessions",
    "approvals",
    "memory?q=deploy",
    "models",
    "usage",
    "checkpoints",
    "workers",
    "logs",
    "config",
    "tokens",
)
RULES = [{"tool": "write", "action": "ask"}]
SHOTS = "UI_SHOTS"


@pytest.fixture(scope="module")
def gateway(open_gateway: OpenGateway) -> Iterator[RunningGateway]:
    with open_gateway(token=TOKEN, tools="all", tool_rules=json.dumps(RULES)) as opened:
        yield opened


def send(gateway: RunningGateway, method: str, path: str, body: object) -> None:
    answer = gateway.request(method, path, json.dumps(body).encode(), headers=BEARER)
    assert answer.status < 300, answer


def fill(gateway: RunningGateway) -> None:
    """Have something to look at on each page."""
    for key in ("support:anna", "support:ben", "nightly:report", "agent:a7:main", "ops:deploy"):
        text = f"What changed in {key} since yesterday, and who should look at it?"
        send(gateway, "POST", f"/sessions/{key}/messages", {"text": text})
    send(gateway, "PATCH", "/sessions/ops:deploy", {"name": "Deploy of the week"})
    for text in ("Anna likes short answers", "The deploy window is Tuesday at 10:00"):
        send(gateway, "POST", "/memory/remember", {"content": text})
    write = '!write {"path": "plan.md", "content": "1. stop\\n2. migrate\\n3. start"}'
    send(gateway, "POST", "/sessions/ops:deploy/enqueue", {"text": f"Write the plan\n{write}"})
    send(gateway, "POST", "/tokens", {"name": "dashboard", "scopes": ["read"]})
    bound = {"name": "support-bot", "scopes": ["read", "prompt"], "keyPrefix": "support:"}
    send(gateway, "POST", "/tokens", bound)
    send(gateway, "POST", "/audit/checkpoints", {})


def shots() -> str:
    folder = os.environ.get(SHOTS)
    return str(Path(folder).resolve()) if folder else ""


def test_every_page_is_whole_and_usable_by_everybody(
    gateway: RunningGateway, browse: Browse
) -> None:
    fill(gateway)
    looked = browse("tour.mjs", url=gateway.url, token=TOKEN, paths=PATHS, shots=shots())
    assert {name for name in looked if "problems" not in name} == {
        f"{path} {size}" for path in ("login", *PATHS) for size in ("desktop", "phone")
    }
    for name, found in looked.items():
        assert found["faults"] == [], name
        assert found["overflow"] == 0, name


def test_a_list_goes_on_by_itself_and_a_form_is_sent(
    gateway: RunningGateway, browse: Browse
) -> None:
    looked = browse("live.mjs", url=gateway.url, token=TOKEN)
    assert looked == {
        "appeared": True,
        "kept": "half a word",
        "found": True,
        "forgotten": True,
        "readOut": ["Skip to content"],
        "keys": True,
        "faults": [],
        "problems": [],
    }


def test_nothing_that_anybody_wrote_runs(gateway: RunningGateway, browse: Browse) -> None:
    for number, payload in enumerate(PAYLOADS):
        key = f"xss:{number}"
        send(gateway, "POST", f"/sessions/{key}/enqueue", {"text": payload})
        send(gateway, "POST", "/memory/remember", {"content": payload, "key": payload})
    for number, payload in enumerate(PAYLOADS):
        until(lambda key=f"xss:{number}": is_idle(gateway, key), "it is answered")
        send(gateway, "PATCH", f"/sessions/xss:{number}", {"name": payload[:200]})
    paths = (
        "sessions?prefix=xss:",
        "memory?q=alert",
        "sessions?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        *(f"sessions/xss:{number}" for number in range(0, len(PAYLOADS), 10)),
    )
    looked = browse("tour.mjs", url=gateway.url, token=TOKEN, paths=paths, swiftly=True)
    assert looked["problems desktop"]["faults"] == []


def is_idle(gateway: RunningGateway, key: str) -> bool:
    answer = gateway.get(f"/sessions/{key}", **BEARER)
    return bool(answer.body["session"]["messageCount"] == 2)
