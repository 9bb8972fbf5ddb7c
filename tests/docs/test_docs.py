"""The documentation names everything there is, and nothing that isn't."""

import re
from pathlib import Path

import pytest

from actors.audit.access import ACCESS_EVENTS
from actors.audit.signing.events import CHECKPOINT_EVENTS
from actors.gateway_state import GATEWAY_EVENTS
from actors.memory.events import MEMORY_EVENTS
from actors.session.codec import SESSION_EVENTS
from web.app import ROUTES
from web.resources.openapi import OPENAPI_PATH
from web.settings import ENV_PREFIX, Settings
from web.ui.routes import UI_ROUTES

ROOT = Path(__file__).parents[2]
DOCS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_documented_with_its_default(name: str) -> None:
    field = Settings.model_fields[name]
    row = re.search(
        rf"^\| `--{name.replace('_', '-')}` \| .*$", text_of("docs/configuration.md"), re.M
    )
    assert row is not None
    assert f"`{ENV_PREFIX}{name.upper()}`" in row[0]
    assert f"| {'none' if field.default is None else f'`{field.default}`'} |" in row[0]
    assert field.description is not None
    assert field.description in row[0]


def test_every_event_is_documented() -> None:
    documented = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", text_of("docs/events.md")))
    every = (*SESSION_EVENTS, *GATEWAY_EVENTS, *MEMORY_EVENTS, *ACCESS_EVENTS, *CHECKPOINT_EVENTS)
    assert {each.wire_name for each in every} <= documented


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    routes = {path for path, _resource in ROUTES} | {OPENAPI_PATH}
    documented = set(
        re.findall(r"\| `(?:GET|POST|PATCH|DELETE) ([^`]+)` \|", text_of("docs/http.md"))
    )
    assert documented == routes


def test_every_path_of_the_page_is_documented_and_every_documented_one_exists() -> None:
    paths = {path for path, _resource in UI_ROUTES}
    assert set(re.findall(r"`(/ui(?:/[^` ]*)?)`", text_of("docs/ui.md"))) == paths


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):  # none that leads elsewhere
        assert (path.parent / target).exists(), target


def test_every_module_is_in_the_architecture() -> None:
    architecture = text_of("docs/architecture.md")
    for folder in ("persistence", "actors", "web"):
        for path in (ROOT / folder).rglob("[a-z]*.py"):
            if path.parent.name != "resources":  # named for their paths, which docs/http.md lists
                assert re.search(rf"\b{path.stem}\b", architecture), path
