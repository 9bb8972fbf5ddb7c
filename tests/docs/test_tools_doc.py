"""What docs/tools.md shows is what there is."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from actors.session.messages import text_of
from actors.tools.base import Cancellation, ToolContext, ToolError
from actors.tools.custom import load_custom_tools
from actors.tools.mcp import McpServers
from actors.tools.policy import ToolRule, decide_policy
from actors.tools.registry import ToolRegistry
from web.settings import Settings

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/tools.md").read_text()
EXAMPLE = ROOT / "docs/examples/weather_tool.py"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", TEXT, re.S)


def settings() -> list[dict[str, object]]:
    parsed = [tomllib.loads(block) for block in blocks("toml")]
    return [each for each in parsed if "project" not in each]


def test_the_example_in_the_text_is_the_module() -> None:
    assert blocks("python") == [EXAMPLE.read_text()]


def test_the_example_works_through_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    modules = next(each["tool_modules"] for each in settings() if "tool_modules" in each)
    assert modules == [EXAMPLE.stem]
    registry = ToolRegistry([], load_custom_tools([EXAMPLE.stem]), level="read")
    weather = registry.find("weather")
    assert weather is not None
    reports: list[str] = []
    context = ToolContext(Path(), "key", "prompt", "call", Cancellation(), reports.append)
    answer = weather.run({"city": "Cairo"}, context)
    assert answer.details == {"city": "Cairo", "sky": "sun", "degrees_celsius": 31}
    assert msgspec.json.decode(text_of(answer.content)) == answer.details
    assert reports == ["looking for Cairo\n"]
    with pytest.raises(ToolError, match="Nothing is known of Atlantis"):
        weather.run({"city": "Atlantis"}, context)


@pytest.mark.parametrize("said", settings())
def test_the_settings_in_the_text_can_be_used(said: dict[str, object]) -> None:
    used = Settings(**said)  # type: ignore[arg-type]
    McpServers(used.mcp_servers)
    assert said


def test_the_rules_in_the_text_do_what_it_says_of_them() -> None:
    found = next(each["tool_rules"] for each in settings() if "tool_rules" in each)
    rules = msgspec.convert(found, list[ToolRule])

    def action(tool: str, **arguments: str) -> str:
        return decide_policy(rules, tool, "execute", arguments, sandboxed=True).action

    assert action("bash", command="echo\ngit push --force") == "deny"
    assert action("bash", command="make") == "allow"
    assert action("write", path="docs/tools.md") == "allow"
    assert action("write", path="src/a.py") == "ask"
    assert action("github__search") == "ask"


def test_what_the_text_says_of_globs_is_so() -> None:
    allowed = [ToolRule("bash", "allow", {"command": "git *"}), ToolRule("bash", "deny")]
    denied = [ToolRule("bash", "deny", {"command": "*rm -rf*"})]

    def action(rules: list[ToolRule], command: str) -> str:
        return decide_policy(rules, "bash", "execute", {"command": command}, sandboxed=True).action

    assert action(allowed, "git status; rm -rf .") == "allow"
    assert action(allowed, "git status\nrm -rf .") == "deny"
    assert action(denied, "rm -r -f") == "allow"


def test_every_field_of_a_server_is_in_the_text() -> None:
    section = TEXT.split("## MCP servers")[1]
    for name in Settings.model_fields["mcp_servers"].annotation.__args__[0].model_fields:  # type: ignore[union-attr]
        assert f"`{name}`" in section, name
