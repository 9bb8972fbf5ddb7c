"""What the arguments of a tool may be, and what is said of those that are not."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from actors.models.base import ToolSpec

if TYPE_CHECKING:
    from jsonschema.exceptions import SchemaError, ValidationError
    from jsonschema.protocols import Validator

PROBLEMS_TOLD_MAX = 5
PROBLEM_CHARACTERS_MAX = 200
VALIDATORS_KEPT = 512
REFERENCES = ("$ref", "$dynamicRef")


class ToolConfigError(Exception):
    """Tools can't be set up as configured; the message says which, why, and the way out."""


def check_schema(spec: ToolSpec) -> None:
    """Refuse a tool whose parameters are no JSON Schema that stands by itself.

    Raises ToolConfigError. Drafts are as ``$schema`` says, otherwise 2020-12.
    """
    try:
        _validator_for(spec.parameters)
    except _BadSchemaError as error:
        raise ToolConfigError(
            f"The tool {spec.name} can't be used: its parameters are no JSON Schema: {error}"
        ) from error


def check_arguments(spec: ToolSpec, arguments: object) -> str | None:
    """Return None where the arguments fit, otherwise what a model has to change."""
    from referencing.exceptions import Unresolvable

    if not isinstance(arguments, dict):
        return f"The arguments of {spec.name} must be a JSON object."
    try:
        errors = _validator_for(spec.parameters).iter_errors(arguments)
        problems = [_told(error) for error in islice(errors, PROBLEMS_TOLD_MAX)]
    except _BadSchemaError as error:
        return f"The tool {spec.name} can't be used: its parameters are no JSON Schema: {error}"
    except Unresolvable as error:  # seen from within a part that has an $id of its own
        return f"The tool {spec.name} can't be used: {_cut(error.ref)} is not part of its schema."
    except RecursionError:
        problems = ["they are nested too deeply"]
    if not problems:
        return None
    return "\n- ".join([f"The arguments of {spec.name} do not fit its parameters:", *problems])


class _BadSchemaError(Exception):
    pass


def _told(error: "SchemaError | ValidationError") -> str:
    where = error.json_path.removeprefix("$").removeprefix(".")
    said = f"{where}: {error.message}" if where else error.message
    return _cut(said)


def _cut(text: str) -> str:
    if len(text) <= PROBLEM_CHARACTERS_MAX:
        return text
    return f"{text[:PROBLEM_CHARACTERS_MAX]}…"


def _validator_for(parameters: dict[str, Any]) -> "Validator":
    try:
        encoded = msgspec.json.encode(parameters, order="deterministic")
    except (TypeError, ValueError, RecursionError) as error:
        raise _BadSchemaError(_cut(str(error))) from error
    return _compiled(encoded)


@lru_cache(VALIDATORS_KEPT)
def _compiled(encoded: bytes) -> "Validator":
    """Return what checks by a schema; it fetches nothing. Raises _BadSchemaError."""
    from jsonschema import Draft202012Validator, SchemaError
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = msgspec.json.decode(encoded)
    draft = validator_for(schema, default=Draft202012Validator)
    nowhere: Registry[Any] = Registry()  # without one jsonschema fetches what is referred to
    try:
        draft.check_schema(schema)
        _check_references(schema)
    except SchemaError as error:
        raise _BadSchemaError(_told(error)) from error
    except RecursionError as error:
        raise _BadSchemaError("it is nested too deeply") from error
    return draft(schema, registry=nowhere)


def _check_references(schema: Any) -> None:  # noqa: ANN401 - any JSON value
    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped] # ships none
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    root = DRAFT202012.create_resource(schema)
    resolver = REGISTRY.resolver_with_root(root)
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except Unresolvable as error:
            raise _BadSchemaError(f"{_cut(reference)} is not part of it") from error


def _references(schema: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    if isinstance(schema, dict):
        yield from (schema[name] for name in REFERENCES if isinstance(schema.get(name), str))
    if isinstance(schema, dict | list):
        for each in schema.values() if isinstance(schema, dict) else schema:
            yield from _references(each)
