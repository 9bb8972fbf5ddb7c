"""The HTTP interface as an OpenAPI 3.1 document, made from what the responders say."""

import inspect
import re
from collections.abc import Iterable, Iterator
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from web.keys import KEY_CHARACTERS_MAX
from web.operations import METHODS, SCOPES, Operation, Refusable, operation_of
from web.schemas import ProblemDocument

JSON = "application/json"
PROBLEM = "application/problem+json"
REF = "#/components/schemas/{name}"

PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "key": {
        "description": "A session's key: letters and digits of any script and ._~:@+=-",
        "schema": {
            "type": "string",
            "minLength": 1,
            "maxLength": KEY_CHARACTERS_MAX,
            "pattern": r"^(?!\.+$)[\w.~:@+=-]+$",
        },
    },
}

_TYPED = re.compile(r":\w+\}")

Json = dict[str, Any]


def openapi_document(routes: Iterable[tuple[str, type[object]]]) -> Json:
    """Return the document that describes the routes; one with a slash at its end is no other."""
    described = [
        (_TYPED.sub("}", path), method, resource, operation)
        for path, resource in routes
        for method in METHODS
        if not path.endswith("/") and (operation := operation_of(resource, method)) is not None
    ]
    schemas, components = _schemas([operation for *_, operation in described])
    paths: dict[str, Json] = {}
    for path, method, resource, operation in described:
        item = _operation(path, method, resource, operation, schemas)
        paths.setdefault(path, {})[method.lower()] = item
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sessiond",
            "version": version("sessiond"),
            "summary": "Long-lived AI-agent sessions over an event log.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Scopes: "
                    + " ".join(f"`{name}`: {means}" for name, means in SCOPES.items()),
                }
            },
        },
    }


def _schemas(operations: Iterable[Operation]) -> tuple[dict[Any, Json], Json]:
    """Return the schema of each type, and those that they refer to, by name."""
    types: dict[Any, None] = {ProblemDocument: None}
    for operation in operations:
        answers = [kind for each in operation.answers.values() for kind in kinds(each)]
        wanted = (operation.body, operation.problem, *answers)
        types.update(dict.fromkeys(each for each in wanted if isinstance(each, type)))
    schemas, components = msgspec.json.schema_components(list(types), ref_template=REF)
    return dict(zip(types, schemas, strict=True)), components


def _operation(
    path: str, method: str, resource: object, operation: Operation, schemas: dict[Any, Json]
) -> Json:
    responder = getattr(resource, f"on_{method.lower()}")
    said = (inspect.getdoc(responder) or "").replace("``", "`")
    summary, _, description = said.partition("\n")
    item: Json = {
        "operationId": _operation_id(path, method),
        "summary": summary,
        "tags": [path.strip("/").partition("/")[0]],
        "parameters": [*_path_parameters(path), *_parameters(operation)],
        "responses": _responses(path, operation, schemas),
        "security": [] if operation.scope is None else [{"token": []}],
    }
    if operation.scope is not None:
        description += f"\n\nNeeds the scope `{operation.scope}`."
    if description.strip():
        item["description"] = description.strip()
    if operation.body is not None:
        item["requestBody"] = {"content": {JSON: {"schema": schemas[operation.body]}}}
    return item


def _operation_id(path: str, method: str) -> str:
    words = re.findall(r"\w+", path)
    return method.lower() + "".join(word.title().replace("_", "") for word in words)


def _path_parameters(path: str) -> Iterator[Json]:
    for name in re.findall(r"\{(\w+)\}", path):
        said = PATH_PARAMETERS.get(name, {"schema": {"type": "string", "minLength": 1}})
        yield {"name": name, "in": "path", "required": True, **said}


def _parameters(operation: Operation) -> Iterator[Json]:
    for where, wanted in (("query", operation.query), ("header", operation.headers)):
        if wanted is not None:
            yield from _fields(where, wanted)


def _fields(where: str, wanted: type[Refusable]) -> Iterator[Json]:
    _, components = msgspec.json.schema_components([wanted], ref_template=REF)
    for name, schema in components[wanted.__name__]["properties"].items():
        given = [each for each in schema.get("anyOf", [schema]) if each != {"type": "null"}]
        (described,) = given  # a parameter that is not given is left out, never null
        said = {key: value for key, value in described.items() if key != "default"}
        yield {"name": name, "in": where, "required": False, "schema": said}


def _responses(path: str, operation: Operation, schemas: dict[Any, Json]) -> Json:
    answers = {
        str(status): _answer(status, kind, schemas) for status, kind in operation.answers.items()
    }
    media_type = PROBLEM if operation.problem is None else JSON
    problem = {"content": {media_type: {"schema": schemas[operation.problem or ProblemDocument]}}}
    for status in sorted(_problems(path, operation)):
        answers.setdefault(str(status), {"description": HTTPStatus(status).phrase, **problem})
    return answers


def _answer(status: int, kind: Any, schemas: dict[Any, Json]) -> Json:  # noqa: ANN401 - see Operation.answers
    answer: Json = {"description": HTTPStatus(status).phrase}
    content: Json = {}
    for each in kinds(kind):
        if isinstance(each, str):
            content[each] = {}
        elif each is not None:
            content[JSON] = {"schema": schemas[each]}
    return {**answer, "content": content} if content else answer


def kinds(answer: Any) -> tuple[Any, ...]:  # noqa: ANN401 - see Operation.answers
    """Return the types of an answer: several where the client chooses."""
    return answer if isinstance(answer, tuple) else (answer,)


def _problems(path: str, operation: Operation) -> set[int]:
    """Return the statuses of the problems that the operation can have."""
    problems = {400, 503, *operation.errors}
    if operation.scope is not None:
        problems |= {401, 403}
    if "{key}" in path:
        problems |= {404, 414}
    if operation.body is not None:
        problems |= {408, 413, 415, 422}
    return problems
