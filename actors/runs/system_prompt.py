"""What a model is told before the conversation: who it is, its tools' surroundings, AGENTS.md."""

from collections.abc import Sequence
from pathlib import Path

from actors.models.base import ToolSpec
from actors.tools.base import ToolError
from actors.tools.workspace import Workspace

INSTRUCTIONS_FILE = "AGENTS.md"
INSTRUCTIONS_BYTES_MAX = 65_536


def system_prompt(configured: str, folder: Path, tools: Sequence[ToolSpec]) -> str:
    """Return the configured text, what tools work on, and the workspace's own instructions."""
    parts = [configured.strip()]
    if tools:
        parts.append(
            "You work in a folder of your own through your tools. Paths are relative to it. "
            "What a tool answers may be cut; it says so then."
        )
    instructions = _instructions(folder)
    if instructions:
        parts.append(f"Instructions from {INSTRUCTIONS_FILE} in that folder:\n\n{instructions}")
    return "\n\n".join(part for part in parts if part)


def _instructions(folder: Path) -> str:
    if not folder.is_dir():
        return ""
    try:
        text = Workspace(folder).read(INSTRUCTIONS_FILE, INSTRUCTIONS_BYTES_MAX)
    except (OSError, ToolError):
        return ""
    return text.decode(errors="replace").strip()
