import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from actors.models.base import ToolSpec
from actors.tools.schema import PROBLEMS_TOLD_MAX, ToolConfigError, check_arguments, check_schema


@pytest.fixture
def elsewhere() -> Iterator[Callable[[], str]]:
    """Return what gives the address of a server, which fails the test when it is asked."""
    socket.setdefaulttimeout(1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield lambda: f"http://127.0.0.1:{server.getsockname()[1]}/"
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
    socket.setdefaulttimeout(None)


def spec(**parameters: Any) -> ToolSpec:
    return ToolSpec("weather", "Tells the weather.", {"type": "object", **parameters})


CITY = spec(
    properties={"city": {"type": "string"}, "days": {"type": "array", "items": {"minimum": 1}}},
    required=["city"],
    additionalProperties=False,
)


def test_arguments_that_fit_have_no_problem() -> None:
    assert check_arguments(CITY, {"city": "Oslo", "days": [1, 2]}) is None


def test_each_problem_is_told_with_its_place() -> None:
    said = check_arguments(CITY, {"town": "Oslo", "days": [1, 0]})
    assert said is not None
    assert said.splitlines()[0] == "The arguments of weather do not fit its parameters:"
    assert set(said.splitlines()[1:]) == {
        "- 'city' is a required property",
        "- Additional properties are not allowed ('town' was unexpected)",
        "- days[1]: 0 is less than the minimum of 1",
    }


def test_no_more_problems_are_told_than_a_model_needs() -> None:
    said = check_arguments(CITY, {"city": "Oslo", "days": [0] * 50})
    assert said is not None
    assert said.count("\n") == PROBLEMS_TOLD_MAX


def test_a_problem_with_a_long_value_is_cut() -> None:
    said = check_arguments(CITY, {"city": ["x" * 10_000]})
    assert said is not None
    assert len(said) < 400


@pytest.mark.parametrize("arguments", [None, "city", ["Oslo"], 5])
def test_arguments_are_an_object_whatever_the_schema_says(arguments: object) -> None:
    said = check_arguments(ToolSpec("any", "", {}), arguments)
    assert said == "The arguments of any must be a JSON object."


def test_arguments_that_are_nested_without_end_are_a_problem_and_not_a_failure() -> None:
    nested: dict[str, Any] = {}
    for _ in range(100_000):
        nested = {"in": nested}
    schema = spec(additionalProperties={"$ref": "#"})
    said = check_arguments(schema, nested)
    assert said is not None
    assert "nested too deeply" in said
    while nested:  # or taking it apart would nest as deeply
        nested = nested["in"]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"properties": {"city": {"type": "town"}}}, "'town' is not valid"),
        ({"required": "city"}, "'city' is not of type 'array'"),
        ({"properties": {"city": {"$ref": "#/$defs/City"}}}, "#/$defs/City is not part of it"),
        ({"properties": {"city": {"default": object()}}}, "unsupported"),
    ],
)
def test_a_schema_that_is_none_is_refused_with_its_reason(
    parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ToolConfigError, match="The tool weather can't be used") as refused:
        check_schema(spec(**parameters))
    assert reason in str(refused.value)
    said = check_arguments(spec(**parameters), {})
    assert said is not None
    assert reason in said


def test_nothing_is_fetched_for_a_schema_that_refers_to_somewhere_else(
    elsewhere: Callable[[], str],
) -> None:
    referring = spec(properties={"city": {"$ref": elsewhere()}})
    with pytest.raises(ToolConfigError, match="is not part of it"):
        check_schema(referring)
    assert check_arguments(referring, {"city": "Oslo"}) is not None


def test_nothing_is_fetched_for_what_a_part_calls_itself(elsewhere: Callable[[], str]) -> None:
    parts = {"here": {"$id": "town"}, "there": {"$id": elsewhere(), "not": {"$ref": "town"}}}
    misleading = spec(properties={"city": {"$ref": elsewhere()}}, **{"$defs": parts})
    check_schema(misleading)
    said = check_arguments(misleading, {"city": "Oslo"})
    assert said == "The tool weather can't be used: town is not part of its schema."


def test_references_within_a_schema_are_followed() -> None:
    schema = spec(
        properties={"city": {"$ref": "#/$defs/City"}}, **{"$defs": {"City": {"type": "string"}}}
    )
    check_schema(schema)
    assert check_arguments(schema, {"city": "Oslo"}) is None
    assert check_arguments(schema, {"city": 5}) is not None


def test_an_older_draft_is_read_as_what_it_says_it_is() -> None:
    pair = {"properties": {"pair": {"items": [{"type": "integer"}, {"type": "string"}]}}}
    older = spec(**pair, **{"$schema": "http://json-schema.org/draft-07/schema#"})
    check_schema(older)
    assert check_arguments(older, {"pair": [1, "a"]}) is None
    assert check_arguments(older, {"pair": ["a", 1]}) is not None
    with pytest.raises(ToolConfigError):
        check_schema(spec(**pair))
