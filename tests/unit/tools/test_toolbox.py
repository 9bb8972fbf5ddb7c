"""What a session's tools say of a call."""

from pathlib import Path

import pytest

from actors.tools.policy import ToolRule
from actors.tools.registry import ToolRegistry
from actors.tools.toolbox import Toolbox
from tests.unit.actors.tools import Calling
from tests.unit.actors.world import WorldSettings


def toolbox(folder: Path, *rules: ToolRule, sandboxed: bool) -> Toolbox:
    tools = [Calling("bash"), Calling("mine")]
    return Toolbox(
        ToolRegistry(tools, level="all"), rules, folder, WorldSettings, sandboxed=sandboxed
    )


@pytest.mark.parametrize(
    ("name", "sandboxed", "action"),
    [
        ("bash", True, "allow"),
        ("bash", False, "ask"),
        ("mine", True, "allow"),
        ("mine", False, "allow"),
    ],
)
def test_only_commands_depend_on_the_sandbox(
    tmp_path: Path, name: str, sandboxed: bool, action: str
) -> None:
    tools = toolbox(tmp_path, sandboxed=sandboxed).for_session("k", "w")
    tool = tools.find(name)
    assert tool is not None
    assert tools.decide(tool, {"n": 1}).action == action


def test_each_session_has_a_folder_of_its_own_made_when_it_is_needed(tmp_path: Path) -> None:
    box = toolbox(tmp_path / "workspaces", sandboxed=True)
    one, other = box.for_session("a", "id1"), box.for_session("b", "id2")
    assert not one.folder.exists()
    assert one.workspace() != other.workspace()
    assert one.workspace().stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("odd", ["..", ".", "", "/", "/etc", "a/b", "../workspaces", "é", "\ud800"])
def test_whatever_an_imported_sessions_id_is_its_folder_is_one_of_the_workspaces(
    tmp_path: Path, odd: str
) -> None:
    folder = toolbox(tmp_path, sandboxed=True).for_session("a", odd).folder
    assert folder.parent == tmp_path
    assert folder.resolve().parent == tmp_path.resolve()
