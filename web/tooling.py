"""The tools of a serving process, put together by its settings."""

from collections.abc import Callable
from pathlib import Path

from actors.tools.base import Tool
from actors.tools.bash import BashTool
from actors.tools.custom import load_custom_tools
from actors.tools.files import Edit, Ls, Read, Write
from actors.tools.mcp import McpServers, McpStatus
from actors.tools.policy import ToolRule
from actors.tools.registry import ToolRegistry
from actors.tools.sandbox import SandboxUnavailable, probe
from actors.tools.schema import ToolConfigError
from actors.tools.search import Find, Grep
from actors.tools.toolbox import Toolbox
from web.settings import Settings, SettingsError


class Tooling:
    """What models may use, and what has to be ended with the process.

    What confines commands is tried at once, where there are to be any. Raises SettingsError
    where tools can't be had as configured.
    """

    def __init__(self, settings: Settings, current: Callable[[], Settings]) -> None:
        try:
            builtin: list[Tool] = [Read(), Write(), Edit(), Grep(), Find(), Ls()]
            self.sandbox = "unused"
            if settings.tools == "all":
                sandbox = probe(settings)
                self.sandbox = sandbox.name
                builtin.append(BashTool(sandbox))
            self._servers = McpServers(settings.mcp_servers if settings.tools != "none" else ())
            registry = ToolRegistry(
                builtin,
                load_custom_tools(settings.tool_modules),
                self._servers if settings.mcp_servers else None,
                level=settings.tools,
            )
        except (ToolConfigError, SandboxUnavailable) as error:
            raise SettingsError(str(error)) from error
        rules = [ToolRule(**each.model_dump()) for each in settings.tool_rules]
        folder = Path(settings.workspaces_dir).absolute()
        sandboxed = self.sandbox != "none"
        self.toolbox = Toolbox(registry, rules, folder, current, sandboxed=sandboxed)

    def servers(self) -> list[McpStatus]:
        """Return how the MCP servers are."""
        return self._servers.status()

    def start(self) -> None:
        """Start the MCP servers; does not wait for them."""
        self._servers.start()

    def close(self) -> None:
        """End the MCP servers that were started here."""
        self._servers.close()
