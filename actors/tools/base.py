"""What a tool is to a run: arguments in, content out; a mistake is something the model can read."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Protocol

from msgspec import Struct

from actors.models.base import ToolSpec
from actors.session.messages import Block, Text

Effect = Literal["read", "write", "execute"]
"""What a tool may do to the world: nothing, change files, or anything a command can."""

EFFECTS: tuple[Effect, ...] = ("read", "write", "execute")
"""The least first: where one is allowed those before it are."""


class ToolError(Exception):
    """The tool can't do it; the model is told why, and can try something else."""


class ToolCancelled(Exception):
    """The run was ended while the tool ran; nobody waits for its result."""


class ToolResult(Struct, frozen=True):
    """What a tool answers; ``details`` is JSON for people and programs, not for the model."""

    content: tuple[Block, ...]
    details: Any = None
    is_error: bool = False


def said(text: str, details: object = None) -> ToolResult:
    """Return a result that is one text."""
    return ToolResult((Text(text),), details)


class Cancellation:
    """Tells a running tool to stop; whoever waits for something else registers a call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []
        self._cancelled = False

    @property
    def cancelled(self) -> bool:
        """Tell whether the tool has to stop."""
        return self._cancelled

    def cancel(self) -> None:
        """Have the tool stop; does not wait for it."""
        with self._lock:
            self._cancelled = True
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    def on_cancel(self, call: Callable[[], object]) -> None:
        """Make the call when the tool has to stop, from another thread; at once if it has."""
        with self._lock:
            if not self._cancelled:
                self._calls.append(call)
                return
        call()

    def check(self) -> None:
        """Raise ToolCancelled where the tool has to stop."""
        if self._cancelled:
            raise ToolCancelled


class ToolLimits(Struct, frozen=True):
    """How much a tool may take; what a tool says beyond ``output_chars`` goes to a file."""

    timeout_s: float = 120.0
    output_chars: int = 50_000
    file_bytes: int = 10_485_760


class ToolContext(Struct, frozen=True):
    """Where and for whom a tool runs.

    ``workspace`` is the only folder that it may reach; it exists. ``report`` takes output as it
    comes, for those who watch; it does not block. ``traceparent`` names the call's span in W3C
    Trace Context, for what the tool asks elsewhere, with its ``tracestate``; "" where nobody
    traces.
    """

    workspace: Path
    session_key: str
    prompt_id: str
    tool_call_id: str
    cancellation: Cancellation
    report: Callable[[str], None]
    limits: ToolLimits = ToolLimits()
    traceparent: str = ""
    tracestate: str = ""


class Tool(Protocol):
    """Something a model can ask for. Any number of its calls may run at once."""

    spec: ToolSpec
    effect: Effect

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Do it, blocking until it is done.

        The arguments fit ``spec.parameters``. Raises ToolError or ToolCancelled; anything else
        is a fault of the tool, and ends as an error that names no details.
        """
