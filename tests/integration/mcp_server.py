"""An MCP server for tests: ``python mcp_server.py stdio``, ``http PORT`` or ``old``.

``old`` speaks the protocol of 2025 by hand, as servers without the SDK of today do.
"""

import json
import os
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

PIXEL = b64encode(b"not really a picture").decode()


def made() -> Any:
    import anyio
    from mcp.server.mcpserver import Context, MCPServer
    from mcp_types import EmbeddedResource, ImageContent, TextContent, TextResourceContents

    server = MCPServer("test")

    @server.tool()
    async def add(a: int, b: int, ctx: Context) -> int:
        """Add two numbers."""
        await ctx.report_progress(1, 2, "half of it")
        return a + b

    @server.tool()
    def environment() -> str:
        return json.dumps(dict(os.environ))

    @server.tool()
    def trace(ctx: Context) -> str:
        meta = ctx.request_context.meta or {}
        return f"{meta.get('traceparent')} {meta.get('tracestate')}"

    @server.tool()
    def pid() -> str:
        return str(os.getpid())

    @server.tool()
    def content() -> list[Any]:
        return [
            TextContent(type="text", text="words"),
            ImageContent(type="image", data=PIXEL, mime_type="image/png"),
            EmbeddedResource(
                type="resource", resource=TextResourceContents(uri="x://y", text="a resource")
            ),
        ]

    @server.tool()
    def fail() -> str:
        raise ValueError("the moon is full")

    @server.tool()
    def long() -> str:
        print("something that is no message", file=sys.stderr)  # noqa: T201 - what is tested
        return "x" * 100_000

    @server.tool()
    def die() -> str:
        os._exit(3)

    @server.tool()
    async def wait(mark: str) -> str:
        """Wait for a minute, and leave a mark where it is cut short."""
        Path(mark).write_text("begun")
        try:
            await anyio.sleep(60)
        except anyio.get_cancelled_exc_class():
            Path(mark).write_text("cancelled")
            raise
        return "waited"

    @server.tool()
    async def grow(ctx: Context) -> str:
        server.add_tool(pid, name="grown")
        await ctx.notify_tools_changed()
        return "grown"

    return server


def old() -> None:
    """Answer line by line."""
    names = ["pid", "grow", "wait"]
    waiting: dict[Any, Path] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        method, params = asked["method"], asked.get("params", {})
        if "id" not in asked:
            if method == "notifications/cancelled" and params["requestId"] in waiting:
                waiting.pop(params["requestId"]).write_text("cancelled")
            continue
        if method == "initialize":
            result: Any = {
                "protocolVersion": "2025-06-18",
                "capabilities": {"tools": {"listChanged": True}},
                "serverInfo": {"name": "old", "version": "1"},
            }
        elif method == "tools/list":
            schema = {"type": "object"}
            result = {"tools": [{"name": each, "inputSchema": schema} for each in names]}
        elif method == "tools/call":
            if params["name"] == "grow":
                names.append("grown")
                say({"method": "notifications/tools/list_changed"})
            if params["name"] == "wait":
                waiting[asked["id"]] = Path(params["arguments"]["mark"])
                waiting[asked["id"]].write_text("begun")
                continue
            result = {"content": [{"type": "text", "text": str(os.getpid())}]}
        else:
            say({"id": asked["id"], "error": {"code": -32601, "message": "no such method"}})
            continue
        say({"id": asked["id"], "result": result})


def say(message: dict[str, Any]) -> None:
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "old":
        old()
    elif kind == "http":
        made().run("streamable-http", port=int(rest[0]))
    else:
        made().run()
