import logging
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from actors.models.base import ToolSpec
from actors.tools.base import Effect, Tool, ToolContext, ToolResult, said
from actors.tools.registry import Level, ToolRegistry
from actors.tools.schema import ToolConfigError


class Named:
    """A tool that answers with its name. Implements actors.tools.base.Tool."""

    def __init__(
        self, name: str, effect: Effect = "read", parameters: dict[str, Any] | None = None
    ) -> None:
        self.spec = ToolSpec(name, f"The tool {name}.", parameters or {"type": "object"})
        self.effect: Effect = effect

    def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        return said(self.spec.name)


class Source:
    """Tools that change. Implements actors.tools.registry.ToolSource."""

    def __init__(self, *tools: Tool) -> None:
        self.now: Sequence[Tool] = tools

    def tools(self) -> Sequence[Tool]:
        return self.now


BUILTIN = [Named("read"), Named("edit", "write"), Named("bash", "execute")]


def names(registry: ToolRegistry) -> list[str]:
    return [each.name for each in registry.specs()]


@pytest.mark.parametrize(
    ("level", "offered"),
    [
        ("none", []),
        ("read", ["read"]),
        ("write", ["read", "edit"]),
        ("all", ["read", "edit", "bash"]),
    ],
)
def test_a_level_offers_the_tools_up_to_it(level: Level, offered: list[str]) -> None:
    registry = ToolRegistry(BUILTIN, level=level)
    assert names(registry) == offered
    assert [each for each in ("read", "edit", "bash") if registry.find(each)] == offered


def test_tools_come_in_the_same_order_each_time() -> None:
    source = Source(Named("z__b"), Named("a__c"), Named("z__a"))
    registry = ToolRegistry(BUILTIN, [Named("weather"), Named("clock")], source, level="all")
    assert names(registry) == ["read", "edit", "bash", "weather", "clock", "a__c", "z__a", "z__b"]
    source.now = list(reversed(source.now))
    assert names(registry)[-3:] == ["a__c", "z__a", "z__b"]


def test_a_tool_is_found_by_its_name() -> None:
    registry = ToolRegistry(BUILTIN, [Named("weather")], level="read")
    found = registry.find("weather")
    assert found is not None
    assert found.spec.name == "weather"
    assert registry.find("nothing") is None


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ToolConfigError, match="two tools named read"):
        ToolRegistry(BUILTIN, [Named("read")])


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "a" * 65, "a\n"])
def test_a_name_that_providers_do_not_take_is_refused(name: str) -> None:
    with pytest.raises(ToolConfigError, match="needs another name"):
        ToolRegistry([], [Named(name)])


def test_a_broken_schema_is_refused_even_where_its_tool_is_not_offered() -> None:
    with pytest.raises(ToolConfigError, match="its parameters are no JSON Schema"):
        ToolRegistry([Named("bash", "execute", {"type": "thing"})], level="read")


def test_an_unknown_effect_is_refused() -> None:
    with pytest.raises(ToolConfigError, match="effect of the tool bash must be one of"):
        ToolRegistry([Named("bash", "everything")])  # type: ignore[arg-type]


def test_a_changing_tool_that_can_not_be_offered_is_left_out_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source(Named("s__bad", "read", {"type": "thing"}), Named("read"), Named("s__good"))
    with caplog.at_level(logging.WARNING):
        registry = ToolRegistry(BUILTIN, mcp=source, level="read")
        for _ in range(3):
            assert names(registry) == ["read", "s__good"]
    assert registry.find("read") is BUILTIN[0]
    assert len(caplog.messages) == 2  # once, not for each time one asks


def test_changing_tools_are_offered_up_to_the_level() -> None:
    source = Source(Named("s__run", "execute"), Named("s__look"))
    assert names(ToolRegistry([], mcp=source, level="read")) == ["s__look"]


def test_a_source_is_not_asked_where_there_are_no_tools() -> None:
    class Untouched(Source):
        def tools(self) -> Sequence[Tool]:
            raise AssertionError

    assert names(ToolRegistry(BUILTIN, mcp=Untouched())) == []


def test_whoever_asks_while_tools_change_sees_either_what_was_or_what_is() -> None:
    pairs = [(Named("s__a1"), Named("s__a2")), (Named("s__b1"), Named("s__b2"))]
    source = Source(*pairs[0])
    registry = ToolRegistry([], mcp=source, level="all")
    seen: set[tuple[str, ...]] = set()

    def ask() -> None:
        for _ in range(2_000):
            seen.add(tuple(names(registry)))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(500):
        source.now = pairs[turn % 2]
    for thread in threads:
        thread.join()
    assert seen <= {("s__a1", "s__a2"), ("s__b1", "s__b2")}
