"""The tools of MCP servers: processes of this machine, or elsewhere over HTTP."""

import asyncio
import logging
import re
from collections.abc import Sequence
from functools import partial
from typing import Any

from actors.models.base import ToolSpec
from actors.tools._mcp_config import McpLimits, McpServerSettings, McpState, McpStatus
from actors.tools._mcp_content import BETWEEN
from actors.tools._mcp_loop import NativeLoop
from actors.tools._mcp_server import McpServer, OwnCall, OwnTool
from actors.tools.base import Effect, Tool, ToolContext, ToolResult
from actors.tools.schema import ToolConfigError

__all__ = ["McpLimits", "McpServerSettings", "McpServers", "McpState", "McpStatus", "McpTool"]

ANSWER_EXTRA_S = 15.0
"""How much longer than a call may take its caller waits for the loop to say so."""
CLOSE_TIMEOUT_S = 10.0
NOISY = ("mcp", "client", "httpx2", "httpcore2")
"""Loggers of the SDK that tell of every request, and quote what is in it."""

_NAME = re.compile(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*")
NAME_CHARACTERS_MAX = 32


class McpTool:
    """A server's tool, as a model can ask for it. Implements actors.tools.base.Tool."""

    def __init__(self, loop: NativeLoop, server: McpServer, own: OwnTool) -> None:
        self.spec: ToolSpec = own.spec
        self.effect: Effect = server.settings.effect
        self._loop = loop
        self._server = server
        self._name = own.name

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """See Tool.run; what goes wrong at the server is an error result."""
        call = OwnCall(self._name, arguments, context.traceparent, context.tracestate)
        work = partial(self._server.call, call, context.limits)
        timeout_s = self._server.settings.tool_timeout_s + ANSWER_EXTRA_S
        return self._loop.call(work, context, timeout_s)


class McpServers:
    """Keeps the configured servers running, and offers their tools. Any thread may ask.

    Nothing runs before ``start`` or the first call, so it can be made before a fork. All of it
    happens on one native thread; a server that ends is started again.
    """

    def __init__(
        self, servers: Sequence[McpServerSettings], limits: McpLimits | None = None
    ) -> None:
        """Raise ToolConfigError for a server that can't be used."""
        names: set[str] = set()
        for each in servers:
            _check(each, names)
            names.add(each.name)
        limits = limits or McpLimits()
        self._loop = NativeLoop(self._run)
        self._servers = [McpServer(each, limits, self._gather) for each in servers]
        self._tools: tuple[Tool, ...] = ()

    def start(self) -> None:
        """Start the servers unless they were; does not wait for them."""
        if self._servers:
            self._loop.start()

    def tools(self) -> Sequence[Tool]:
        """Return the tools that are there now; the same object until they change."""
        self.start()
        return self._tools

    def status(self) -> list[McpStatus]:
        """Return how each server is."""
        return [each.status for each in self._servers]

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End the servers and whoever waits for them; takes a few seconds at most."""
        self._loop.close(timeout_s)

    async def _run(self) -> None:
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)
        async with asyncio.TaskGroup() as tasks:
            for each in self._servers:
                tasks.create_task(each.run())

    def _gather(self) -> None:
        self._tools = tuple(
            [McpTool(self._loop, server, own) for server in self._servers for own in server.tools]
        )


def _check(server: McpServerSettings, names: set[str]) -> None:
    name = server.name
    if _NAME.fullmatch(name) is None or len(name) > NAME_CHARACTERS_MAX:
        raise ToolConfigError(
            f"The MCP server {name!r} needs another name: up to {NAME_CHARACTERS_MAX} letters, "
            f"digits, - and single _, as its tools are called {name}{BETWEEN}tool."
        )
    if name in names:
        raise ToolConfigError(f"There are two MCP servers named {name}.")
    if bool(server.command) == bool(server.url):
        raise ToolConfigError(f"The MCP server {name} needs either a command or a url.")
    if server.url and not server.url.startswith(("http://", "https://")):
        raise ToolConfigError(f"The url of the MCP server {name} must be http:// or https://.")
    if server.tool_timeout_s <= 0:
        raise ToolConfigError(f"The tool_timeout_s of the MCP server {name} must be above 0.")
