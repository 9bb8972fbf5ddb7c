"""What a tool answered, as the log and the model can take it."""

import logging
from typing import Any

import msgspec

from actors.session.messages import Block, Image, Text
from actors.tools.base import ToolCancelled, ToolError, ToolLimits, ToolResult

IMAGE_CHARACTERS_MAX = 8_000_000
"""A picture as base64 text; providers refuse larger ones."""

CUT = "\n[The rest of the output, {rest} characters, is left out.]"
CANCELLED = "The tool was stopped."

logger = logging.getLogger(__name__)


def failure_of(error: Exception, name: str) -> ToolResult:
    """Return what a model is told of a tool that raised; faults name no details."""
    if isinstance(error, ToolError):
        text = str(error)
    elif isinstance(error, ToolCancelled):
        text = CANCELLED
    else:
        logger.error("The tool %s failed.", name, exc_info=error)
        text = f"The tool {name} failed: {type(error).__name__}."
    return ToolResult((Text(text),), is_error=True)


def bounded(result: ToolResult, limits: ToolLimits) -> ToolResult:
    """Return the result with no more text than allowed, and nothing that the log can't keep."""
    left = limits.output_chars
    content: list[Block] = []
    for block in result.content:
        shown, left = _cut(block, left)
        content.append(shown)
    details, problem = _kept(result.details)
    if problem:
        content.append(Text(f"[The tool's details can't be kept: {problem}]"))
    return ToolResult(tuple(content), details, result.is_error)


def _cut(block: Block, left: int) -> tuple[Block, int]:
    if isinstance(block, Text):
        text = block.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if len(text) > left:
            text = text[:left] + CUT.format(rest=len(text) - left)
        return Text(text), max(0, left - len(text))
    if isinstance(block, Image) and len(block.data) > IMAGE_CHARACTERS_MAX:
        return Text(f"[A picture of {len(block.data)} characters is left out.]"), left
    return block, left


def _kept(details: Any) -> tuple[Any, str]:  # noqa: ANN401 - a tool may return anything
    """Return the details as plain JSON values, or nothing and why."""
    if details is None:
        return None, ""
    try:
        return msgspec.json.decode(msgspec.json.encode(details)), ""
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, RecursionError) as error:
        return None, str(error)
