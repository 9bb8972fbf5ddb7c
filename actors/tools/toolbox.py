"""The tools of this gateway, as one session's runs use them."""

import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from actors.models.base import ToolSpec
from actors.tools.base import Tool, ToolLimits
from actors.tools.policy import Decision, ToolRule, decide_policy
from actors.tools.registry import ToolRegistry
from actors.tools.schema import check_arguments

SANDBOXED_TOOL = "bash"
"""The one tool that a sandbox holds; whoever adds others by configuration answers for them."""


_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class ToolboxSettings(Protocol):
    """What tools read of the settings."""

    tool_timeout_s: float
    tool_output_chars_max: int
    approval_timeout_s: float


class Toolbox:
    """Holds the tools, the rules for them, and the folders that they work in.

    ``sandboxed`` tells whether commands are confined: without that each needs an approval.
    """

    def __init__(
        self,
        registry: ToolRegistry,
        rules: Sequence[ToolRule],
        workspaces: Path,
        settings: Callable[[], ToolboxSettings],
        *,
        sandboxed: bool,
    ) -> None:
        self.registry = registry
        self.rules = tuple(rules)
        self.workspaces = workspaces
        self.sandboxed = sandboxed
        self.settings = settings

    def for_session(self, key: str, workspace_id: str) -> "SessionTools":
        """Return the tools as a session has them."""
        return SessionTools(self, key, folder_in(self.workspaces, workspace_id))


def folder_in(workspaces: Path, workspace_id: str) -> Path:
    """Return a workspace's folder, which is always directly below that of all workspaces.

    Ids are UUIDs, unless a session was imported whose file says otherwise.
    """
    if not _PLAIN.fullmatch(workspace_id):
        workspace_id = sha256(workspace_id.encode("utf-8", "surrogatepass")).hexdigest()
    return workspaces / workspace_id


class SessionTools:
    """One session's tools, its folder, and what they may take."""

    def __init__(self, toolbox: Toolbox, session_key: str, folder: Path) -> None:
        settings = toolbox.settings()
        self.session_key = session_key
        self.folder = folder
        self.limits = ToolLimits(settings.tool_timeout_s, settings.tool_output_chars_max)
        self.approval_timeout_s = settings.approval_timeout_s
        self._toolbox = toolbox

    def specs(self) -> list[ToolSpec]:
        """Return what a model is told of the tools."""
        return self._toolbox.registry.specs()

    def find(self, name: str) -> Tool | None:
        """Return the tool of that name."""
        return self._toolbox.registry.find(name)

    def problem(self, tool: Tool, arguments: object) -> str | None:
        """Return what is wrong with a call's arguments, None where nothing is."""
        return check_arguments(tool.spec, arguments)

    def decide(self, tool: Tool, arguments: dict[str, Any]) -> Decision:
        """Return whether the call may be made, has to be asked about, or is refused."""
        return decide_policy(
            self._toolbox.rules,
            tool.spec.name,
            tool.effect,
            arguments,
            sandboxed=self._toolbox.sandboxed or tool.spec.name != SANDBOXED_TOOL,
        )

    def workspace(self) -> Path:
        """Return the session's folder; it exists."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self.folder
