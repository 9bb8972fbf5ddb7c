"""Tools: what a model can have done, each within the limits of its session's workspace.

``from actors.tools import tool`` is how a user's own tools begin.
"""

from actors.tools.base import ToolContext, ToolError, ToolResult, said
from actors.tools.custom import tool
from actors.tools.schema import ToolConfigError

__all__ = ["ToolConfigError", "ToolContext", "ToolError", "ToolResult", "said", "tool"]
