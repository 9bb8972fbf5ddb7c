"""Small tools for tests of runs. They implement Tool."""

import threading
from collections.abc import Callable
from typing import Any

from actors.models.base import ToolSpec
from actors.tools.base import Effect, ToolContext, ToolResult, said

DEADLINE_S = 60.0


class Calling:
    """A tool that does what the test gives it."""

    def __init__(
        self,
        name: str,
        act: Callable[[dict[str, Any], ToolContext], ToolResult] = lambda arguments, _context: said(
            f"did {arguments.get('n')}"
        ),
        effect: Effect = "execute",
    ) -> None:
        properties = {"n": {"type": "integer"}}
        self.spec = ToolSpec(
            name, "For tests.", {"type": "object", "properties": properties, "required": ["n"]}
        )
        self.effect: Effect = effect
        self.calls: list[Any] = []
        self._act = act

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        self.calls.append(arguments["n"])
        return self._act(arguments, context)


class Held:
    """A tool that waits until it is released or cancelled, and says which."""

    def __init__(self, name: str = "hold", effect: Effect = "execute") -> None:
        self.spec = ToolSpec(name, "For tests.", {"type": "object"})
        self.effect: Effect = effect
        self.begun = threading.Event()
        self.release = threading.Event()
        self.cancelled = threading.Event()

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        def cancel() -> None:
            self.cancelled.set()
            self.release.set()

        context.cancellation.on_cancel(cancel)
        self.begun.set()
        assert self.release.wait(DEADLINE_S)
        context.cancellation.check()
        return said("held")
