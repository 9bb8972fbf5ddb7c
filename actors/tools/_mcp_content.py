"""What MCP servers say, in the terms of this gateway's tools."""

import re
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from actors.models.base import ToolSpec
from actors.session.messages import Block, Image, Text
from actors.tools.base import ToolLimits, ToolResult
from actors.tools.registry import NAME

if TYPE_CHECKING:
    from mcp_types import CallToolResult, ContentBlock, EmbeddedResource
    from mcp_types import Tool as ServersTool

DESCRIPTION_CHARACTERS_MAX = 8_000
NAME_CHARACTERS_MAX = 64
BETWEEN = "__"
"""What stands between a server's name and its tool's."""

_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


def name_of(server: str, tool: str) -> str:
    """Return the name that models are told; a long or strange one is cut and gets a digest."""
    name = f"{server}{BETWEEN}{tool}"
    if NAME.fullmatch(name):
        return name
    digest = sha256(tool.encode()).hexdigest()[:8]
    plain = _NOT_IN_NAMES.sub("_", name)
    return f"{plain[: NAME_CHARACTERS_MAX - len(digest) - 1]}_{digest}"


def spec_of(server: str, tool: "ServersTool") -> ToolSpec:
    """Return what models are told of a server's tool."""
    description = (tool.description or tool.title or tool.name)[:DESCRIPTION_CHARACTERS_MAX]
    return ToolSpec(name_of(server, tool.name), description, tool.input_schema)


def result_of(result: "CallToolResult", limits: ToolLimits) -> ToolResult:
    """Return a tool's result; what is beyond the limits is left out, and that is said."""
    blocks: list[Block] = []
    left = limits.output_chars
    for each in result.content:
        block = _block_of(each, limits)
        if isinstance(block, Text):
            block, left = _cut(block, left), left - len(block.text)
        blocks.append(block)
        if left <= 0:
            break
    structured = result.structured_content
    return ToolResult(
        tuple(blocks) or (Text("It answered nothing."),),
        structured if len(msgspec.json.encode(structured)) <= limits.output_chars else None,
        is_error=result.is_error,
    )


def failed(text: str) -> ToolResult:
    """Return a result that tells a model what went wrong."""
    return ToolResult((Text(text),), is_error=True)


def _cut(block: Text, left: int) -> Text:
    beyond = len(block.text) - left
    if beyond <= 0:
        return block
    return Text(f"{block.text[:left]}\n[the rest of the answer is left out: it is too long]")


def _block_of(content: "ContentBlock", limits: ToolLimits) -> Block:
    match content.type:
        case "text":
            return Text(content.text)
        case "image" if len(content.data) <= limits.file_bytes:
            return Image(content.mime_type, content.data)
        case "resource":
            return Text(_text_of(content))
        case "resource_link":
            return Text(f"[{content.name}: {content.uri}]")
        case "image" | "audio":
            return Text(f"[{content.type} of type {content.mime_type}, left out]")


def _text_of(content: "EmbeddedResource") -> str:
    resource = content.resource
    text = getattr(resource, "text", None)
    if isinstance(text, str):
        return text
    return f"[{resource.uri}, of type {resource.mime_type or 'unknown'}, left out]"
