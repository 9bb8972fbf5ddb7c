import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from msgspec import Meta, Struct

from actors.session.messages import Text
from actors.tools import ToolConfigError, ToolContext, ToolError, ToolResult, said, tool
from actors.tools.base import Cancellation
from actors.tools.custom import ENTRY_POINTS, FunctionTool, load_custom_tools
from actors.tools.schema import check_arguments, check_schema


class Place(Struct):
    name: str
    height_m: int = 0


def context(reports: list[str] | None = None) -> ToolContext:
    kept = [] if reports is None else reports
    return ToolContext(Path(), "key", "prompt", "call", Cancellation(), kept.append)


@tool(effect="read")
def weather(
    city: Annotated[str, Meta(description="Its name.", min_length=1)],
    context: ToolContext,
    days: int = 1,
    unit: Literal["C", "F"] = "C",
    tags: list[str] = [],  # noqa: B006 - what is tested
) -> str:
    """Tell the weather.

    For some days.
    """
    context.report("looking")
    tags.append("seen")
    return f"{city} {days} {unit} {len(tags)}"


def test_a_function_says_what_models_are_told() -> None:
    assert weather.spec.name == "weather"
    assert weather.spec.description == "Tell the weather.\n\nFor some days."
    assert weather.effect == "read"
    assert weather.spec.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "minLength": 1, "description": "Its name."},
            "days": {"type": "integer", "default": 1},
            "unit": {"enum": ["C", "F"], "default": "C"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    check_schema(weather.spec)


def test_a_tool_is_run_with_its_arguments_and_its_context() -> None:
    reports: list[str] = []
    assert weather.run({"city": "Oslo", "days": 2}, context(reports)) == said("Oslo 2 C 1")
    assert reports == ["looking"]


def test_a_default_that_can_change_is_new_for_each_call() -> None:
    for _ in range(2):
        assert weather.run({"city": "Oslo"}, context()) == said("Oslo 1 C 1")


def test_a_tool_is_still_the_function() -> None:
    assert weather("Oslo", context(), unit="F") == "Oslo 1 F 1"


def test_arguments_that_do_not_fit_are_told_to_the_model() -> None:
    with pytest.raises(ToolError, match=r"weather do not fit: .*\$\.days"):
        weather.run({"city": "Oslo", "days": "two"}, context())


def test_a_structure_is_a_parameter_and_a_result() -> None:
    @tool(effect="read", name="higher-place")
    def higher(place: Place, by: int) -> Place:
        """Go up."""
        return Place(place.name, place.height_m + by)

    assert higher.spec.name == "higher-place"
    assert set(higher.spec.parameters["$defs"]) == {"Place"}
    asked = {"place": {"name": "Hut"}, "by": 5}
    assert check_arguments(higher.spec, asked) is None
    assert check_arguments(higher.spec, {"place": {}, "by": 5}) is not None
    result = higher.run(asked, context())
    assert result.details == {"name": "Hut", "height_m": 5}
    assert result.content == (Text('{\n  "name": "Hut",\n  "height_m": 5\n}'),)


@pytest.mark.parametrize(
    ("value", "text"), [({"a": 1}, '{\n  "a": 1\n}'), ([1], "[\n  1\n]"), (5, "5"), (None, "null")]
)
def test_what_is_no_text_is_told_as_json(value: object, text: str) -> None:
    @tool
    def answer() -> object:
        """Answer."""
        return value

    assert answer.run({}, context()) == ToolResult((Text(text),), value)


def test_a_result_is_taken_as_it_is() -> None:
    result = ToolResult((Text("so"),), {"a": 1}, is_error=True)

    @tool
    def answer() -> ToolResult:
        """Answer."""
        return result

    assert answer.run({}, context()) is result


def test_what_a_function_raises_is_raised() -> None:
    @tool
    def fails(error: str) -> str:
        """Fail."""
        raise ToolError(error) if error else ZeroDivisionError

    with pytest.raises(ToolError, match="no such town"):
        fails.run({"error": "no such town"}, context())
    with pytest.raises(ZeroDivisionError):
        fails.run({"error": ""}, context())


def test_a_tool_of_which_nothing_is_said_may_do_anything() -> None:
    @tool
    def anything() -> str:
        """Do it."""
        return ""

    assert anything.effect == "execute"


def undocumented(city: str) -> str:
    return city


def unannotated(city) -> str:  # type: ignore[no-untyped-def]
    """Tell."""
    return str(city)


def many(*cities: str) -> str:
    """Tell."""
    return str(cities)


def strange(city: Path) -> str:
    """Tell."""
    return str(city)


def unknown(city: "Nowhere") -> str:  # type: ignore[name-defined] # noqa: F821
    """Tell."""
    return str(city)


async def later() -> str:
    """Tell."""
    return ""


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (undocumented, "needs a docstring"),
        (unannotated, "parameter city of the tool unannotated needs an annotation"),
        (many, "needs an annotation, and a name"),
        (strange, "parameters of the tool strange are no JSON"),
        (unknown, "annotations of the tool unknown make no sense"),
        (later, "must be a plain function"),
    ],
)
def test_a_function_that_can_be_no_tool_is_refused_with_the_reason(
    function: Any, reason: str
) -> None:
    with pytest.raises(ToolConfigError, match=reason):
        tool(function)


def test_an_unknown_effect_is_refused() -> None:
    with pytest.raises(ToolConfigError, match="must be one of read, write, execute"):
        tool(effect="anything")  # type: ignore[call-overload]


MODULE = '''
from actors.tools import tool

@tool(effect="read")
def one() -> str:
    """One."""
    return "1"

@tool
def two() -> str:
    """Two."""
    return "2"

both = [one, two]
twice = (one, one)
no_tool = 5
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_tools.py").write_text(MODULE)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("own_tools", ["one", "two"]),
        ("own_tools:two", ["two"]),
        ("own_tools:both", ["one", "two"]),
        ("own_tools:twice", ["one"]),
    ],
)
def test_tools_are_found_where_the_configuration_says(
    folder: Path, module: str, names: list[str]
) -> None:
    assert [each.spec.name for each in load_custom_tools([module])] == names


def test_a_tool_that_is_named_twice_is_loaded_once(folder: Path) -> None:
    tools = load_custom_tools(["own_tools:two", "own_tools"])
    assert [each.spec.name for each in tools] == ["two", "one"]


def test_installed_packages_offer_tools(folder: Path) -> None:
    package = folder / "own-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nmine = own_tools:one\n")
    tools = load_custom_tools([])
    assert [each.spec.name for each in tools] == ["one"]
    assert isinstance(tools[0], FunctionTool)


def test_a_broken_installed_package_is_named(folder: Path) -> None:
    package = folder / "own-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    (package / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nmine = nowhere\n")
    with pytest.raises(ToolConfigError, match="entry point mine = nowhere"):
        load_custom_tools([])


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("nowhere", r"nowhere can't be imported: ModuleNotFoundError.*PYTHONPATH"),
        ("own_tools:three", "own_tools:three can't be imported: AttributeError"),
        ("own_tools:no_tool", "no tools in own_tools:no_tool: decorate a function with @tool"),
        ("textwrap", "no tools in textwrap"),
        ("", "can't be imported"),
        ("broken", "broken can't be imported: ZeroDivisionError"),
        ("undocumented", "The tools of undocumented: The tool f needs a docstring"),
    ],
)
def test_what_can_not_be_loaded_is_named_with_the_way_out(
    folder: Path, module: str, reason: str
) -> None:
    (folder / "broken.py").write_text("1 / 0")
    (folder / "undocumented.py").write_text(
        textwrap.dedent(
            """
            from actors.tools import tool

            @tool
            def f() -> str:
                return ""
            """
        )
    )
    with pytest.raises(ToolConfigError, match=reason):
        load_custom_tools([module])
