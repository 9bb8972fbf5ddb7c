"""Which tools there are: built in, a user's own, and those of MCP servers as they come and go."""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from actors.models.base import ToolSpec
from actors.tools.base import EFFECTS, Effect, Tool
from actors.tools.schema import ToolConfigError, check_schema

Level = Literal["none", "read", "write", "all"]
"""What tools may do: nothing, read, also change files, also run commands."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_EFFECTS_AT: dict[Level, tuple[Effect, ...]] = {
    "none": (),
    "read": EFFECTS[:1],
    "write": EFFECTS[:2],
    "all": EFFECTS,
}

logger = logging.getLogger(__name__)


class ToolSource(Protocol):
    """Where tools come from that change at run time."""

    def tools(self) -> Sequence[Tool]:
        """Return the tools there are now; the same object until they change. Does not block."""


class _Offer(Struct, frozen=True):
    """What is offered while a source returns the same tools."""

    changing: Sequence[Tool]
    tools: dict[str, Tool]
    specs: tuple[ToolSpec, ...]


class ToolRegistry:
    """The tools that a model is offered. Any thread may ask.

    Those built in come first, then a user's own, as they were given; then those of ``mcp`` by
    name. A changing tool that can't be offered is left out, and the log says why.
    """

    def __init__(
        self,
        builtin: Sequence[Tool],
        custom: Sequence[Tool] = (),
        mcp: ToolSource | None = None,
        *,
        level: Level = "none",
    ) -> None:
        """Raise ToolConfigError for two tools of one name, a bad name or a bad schema.

        Nothing is said of the schema of one that is built in where no tool is offered.
        """
        fixed: dict[str, Tool] = {}
        self._effects = _EFFECTS_AT[level]
        for tool in (*builtin, *custom):
            _check(tool, fixed)
            if self._effects or tool in custom:  # to load what checks schemas takes a while
                check_schema(tool.spec)
            fixed[tool.spec.name] = tool
        self._fixed = fixed
        self._source = mcp
        self._offer = self._offer_with(())

    def specs(self) -> list[ToolSpec]:
        """Return what a model is told of the tools."""
        return list(self._current().specs)

    def find(self, name: str) -> Tool | None:
        """Return the tool of that name that is offered now."""
        return self._current().tools.get(name)

    def _current(self) -> _Offer:
        changing = self._source.tools() if self._source is not None and self._effects else ()
        offer = self._offer
        if changing is not offer.changing:
            offer = self._offer = self._offer_with(changing)  # two threads may: both are right
        return offer

    def _offer_with(self, changing: Sequence[Tool]) -> _Offer:
        tools = dict(self._fixed)
        for tool in sorted(changing, key=lambda each: each.spec.name):
            try:
                _check(tool, tools)
                check_schema(tool.spec)
            except ToolConfigError as error:
                logger.warning("A tool is left out: %s", error)
            else:
                tools[tool.spec.name] = tool
        offered = {name: tool for name, tool in tools.items() if tool.effect in self._effects}
        return _Offer(changing, offered, tuple(_specs(offered.values())))


def _specs(tools: Iterable[Tool]) -> list[ToolSpec]:
    return [tool.spec for tool in tools]


def _check(tool: Tool, others: dict[str, Tool]) -> None:
    name = tool.spec.name
    if NAME.fullmatch(name) is None:
        raise ToolConfigError(
            f"The tool {name!r} needs another name: up to 64 letters, digits, _ and -."
        )
    if name in others:
        raise ToolConfigError(f"There are two tools named {name}: give one of them another name.")
    if tool.effect not in EFFECTS:
        raise ToolConfigError(f"The effect of the tool {name} must be one of {', '.join(EFFECTS)}.")
