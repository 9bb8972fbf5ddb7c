"""One MCP server: kept connected, its tools known, its calls made. All of it on the loop."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from actors.models.base import ToolSpec
from actors.tools._mcp_config import McpLimits, McpServerSettings, McpState, McpStatus, Restarts
from actors.tools._mcp_content import failed, result_of, spec_of
from actors.tools._mcp_loop import Report
from actors.tools.base import ToolLimits, ToolResult

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client.session import IncomingMessage
    from mcp_types import RequestParamsMeta

ERROR_CHARACTERS_MAX = 300
PAGES_MAX = 20
GATHER_S = 0.05
"""How long changes are gathered before the tools are listed again."""
RELISTEN_S = 1.0

logger = logging.getLogger(__name__)


class OwnTool(Struct, frozen=True):
    """A server's tool: its name there, and what models are told of it."""

    name: str
    spec: ToolSpec


class OwnCall(Struct, frozen=True):
    """A call of a server's tool by its name there; its trace is "" where nobody traces."""

    name: str
    arguments: dict[str, Any]
    traceparent: str = ""
    tracestate: str = ""


class McpServer:
    """Keeps one server running. ``status`` and ``tools`` may be read from any thread."""

    def __init__(
        self, settings: McpServerSettings, limits: McpLimits, changed: Callable[[], object]
    ) -> None:
        self.settings = settings
        self.status = McpStatus(settings.name, "starting")
        self.tools: tuple[OwnTool, ...] = ()
        self._limits = limits
        self._restarts = Restarts(limits)
        self._tell = changed
        self._client: Client | None = None
        self._settled = asyncio.Event()
        self._changed = asyncio.Event()
        self._calls = 0

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        try:
            while True:
                try:
                    await self._stay_connected()
                except Exception as error:  # noqa: BLE001 - whatever it was, it is started again
                    await self._rest(_told(error))
        finally:
            self._set("closed", ())

    async def call(self, call: OwnCall, limits: ToolLimits, report: Report) -> ToolResult:
        """Make a call; whatever goes wrong with it is a result that a model can read."""
        from mcp import MCPError

        server, timeout_s = self.settings.name, self.settings.tool_timeout_s
        self._calls += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await self._call(call, limits, report)
        except TimeoutError:
            return failed(
                f"The MCP server {server} did not answer within {timeout_s:g} seconds; "
                "the call was cancelled."
            )
        except MCPError as error:
            self._changed.set()  # should it be gone, listing its tools will show it
            return failed(f"The MCP server {server} {_answer_of(error.code, error.message)}")
        except Exception as error:  # noqa: BLE001 - a broken answer breaks nothing but its call
            self._changed.set()
            return failed(f"The MCP server {server} failed: {_told(error)}")
        finally:
            self._calls -= 1

    async def _call(self, call: OwnCall, limits: ToolLimits, report: Report) -> ToolResult:
        async def tell(progress: float, total: float | None, message: str | None) -> None:
            of_total = "" if total is None else f" of {total:g}"
            report(f"{message or f'{progress:g}{of_total}'}\n")

        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.ready_timeout_s):
                await self._settled.wait()
        if self._client is None:
            status = self.status
            return failed(f"The MCP server {status.name} is {status.state}. {status.error}")
        result = await self._client.call_tool(
            call.name, call.arguments, progress_callback=tell, meta=_meta_of(call)
        )
        return result_of(result, limits)

    async def _stay_connected(self) -> None:
        """Connect and list the tools whenever they may have changed. Raises when it ends."""
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(self._limits.connect_timeout_s):
                    client = await stack.enter_async_context(self._new_client())
                    self._changed.clear()
                    tools = await self._listed(client)
                self._client = client
                self._set("ready", tools)
                listening = await stack.enter_async_context(asyncio.TaskGroup())
                listening.create_task(self._listen(client))
                while True:
                    await self._something_new()
                    self._set("ready", await self._listed(client))
        finally:
            self._client = None

    def _new_client(self) -> "Client":
        from mcp import Client

        from actors.tools._mcp_http import http_streams
        from actors.tools._mcp_stdio import process_streams

        settings = self.settings
        if settings.url is not None:
            streams = http_streams(settings.url, settings.headers)
            return Client(streams, message_handler=self._hear, cache=None)
        process = process_streams(
            settings.name, settings.command or (), settings.environment, self._lose
        )
        return Client(process, message_handler=self._hear, cache=None)

    def _lose(self) -> None:
        """Have calls wait for the next connection, as this one has ended."""
        self._client = None
        self._settled.clear()
        self._changed.set()

    async def _hear(self, message: "IncomingMessage") -> None:
        from mcp_types import ToolListChangedNotification

        if isinstance(message, ToolListChangedNotification):
            self._changed.set()

    async def _listen(self, client: "Client") -> None:
        """Hear of changes where that has to be asked for; before 2026 servers just told."""
        from mcp import MCPError
        from mcp.client.subscriptions import SubscriptionLost
        from mcp_types import METHOD_NOT_FOUND
        from mcp_types.version import MODERN_PROTOCOL_VERSIONS

        tools = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not tools:
            return
        while tools.list_changed:
            again_s = RELISTEN_S
            try:
                async with client.listen(tools_list_changed=True) as events:
                    self._changed.set()  # nobody told of what has changed before
                    async for _ in events:
                        self._changed.set()
            except SubscriptionLost:
                self._changed.set()
            except MCPError as error:
                if error.code == METHOD_NOT_FOUND:
                    return
                again_s = self._limits.look_every_s
            await asyncio.sleep(again_s)

    async def _something_new(self) -> None:
        """Wait for a change, or, where only a request shows that a server is there, a while."""
        while not self._changed.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.look_every_s):
                    await self._changed.wait()
            if self.settings.url is not None and not self._calls:
                break
        await asyncio.sleep(GATHER_S)
        self._changed.clear()

    async def _listed(self, client: "Client") -> tuple[OwnTool, ...]:
        tools: dict[str, OwnTool] = {}
        cursor: str | None = None
        async with asyncio.timeout(self._limits.connect_timeout_s):
            for _ in range(PAGES_MAX):
                page = await client.list_tools(cursor=cursor)
                for each in page.tools:
                    spec = spec_of(self.settings.name, each)
                    tools.setdefault(spec.name, OwnTool(each.name, spec))
                cursor = page.next_cursor
                if cursor is None or len(tools) >= self._limits.tools_max:
                    break
        return tuple(tools.values())[: self._limits.tools_max]

    async def _rest(self, reason: str) -> None:
        """Wait until it may be started again."""
        wait_s, down = self._restarts.next(time.monotonic())
        logger.warning(
            "The MCP server %s is to be started again in %.1f s: %s",
            self.settings.name,
            wait_s,
            reason,
        )
        self._set("down" if down else "restarting", () if down else self.tools, reason)
        await asyncio.sleep(wait_s)
        self._set("restarting", self.tools, reason, restarts=self.status.restarts + 1)

    def _set(
        self,
        state: McpState,
        tools: tuple[OwnTool, ...],
        error: str = "",
        restarts: int | None = None,
    ) -> None:
        """Say how it is; whoever waits for it to settle goes on unless it is being restarted."""
        restarts = self.status.restarts if restarts is None else restarts
        self.status = McpStatus(self.settings.name, state, len(tools), restarts, error)
        if state == "restarting":
            self._settled.clear()
        else:
            self._settled.set()
        if tools != self.tools:
            self.tools = tools
            self._tell()


def _meta_of(call: OwnCall) -> "RequestParamsMeta | None":
    """Return what a call carries besides its arguments: its trace, as MCP has it (SEP-414)."""
    if not call.traceparent:
        return None
    state = {"tracestate": call.tracestate} if call.tracestate else {}
    return cast("RequestParamsMeta", {"traceparent": call.traceparent, **state})  # an open map


def _answer_of(code: int, message: str) -> str:
    from mcp_types import CONNECTION_CLOSED

    if code == CONNECTION_CLOSED:
        return "ended during the call and is started again; what the call has done is not known."
    return f"answered with an error: {message[:ERROR_CHARACTERS_MAX]}"


def _told(error: BaseException) -> str:
    """Return what went wrong first, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    said = " ".join(str(error).split())[:ERROR_CHARACTERS_MAX]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
