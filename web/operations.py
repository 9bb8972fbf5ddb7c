"""What each route asks for and answers, said once: checked on the way in, told by OpenAPI."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec
from msgspec import Struct

READ = "read"
PROMPT = "prompt"
ADMIN = "admin"
AUDIT = "audit"
SCOPES = {
    READ: "Look at sessions, models and memories.",
    PROMPT: "Prompt, steer, approve and abort.",
    AUDIT: "Read the raw log and its proofs.",
    ADMIN: "Everything, also what changes sessions, settings and tokens.",
}
"""What a token may be allowed."""

METHODS = ("GET", "POST", "PATCH", "DELETE")

EVENT_STREAM = "text/event-stream"
PLAIN_TEXT = "text/plain"

Responder = TypeVar("Responder", bound=Callable[..., None])


class Refusable(Struct, frozen=True):
    """Base of what a request must look like; ``refusal`` is how any other is answered.

    Without a refusal it is 422 for a body, 400 for a parameter, with what is wrong and where.
    """

    refusal: ClassVar[tuple[int, str] | None] = None


class Operation(Struct, frozen=True):
    """One method of one route.

    ``scope`` is what its caller must be allowed, None for anybody. ``answers`` has a JSON type,
    a media type, None for an empty answer, or a tuple of those that a client may choose from, by
    status; ``errors`` are the statuses of problems beside those that any operation can have,
    ``problem`` their JSON type where it isn't the problem document.
    With ``raw_body`` the responder reads the body itself; with ``images`` it may be larger. A
    ``form`` is a body as a page's form sends it.
    """

    scope: str | None
    answers: Mapping[int, Any]
    body: type[Refusable] | None = None
    raw_body: bool = False
    images: bool = False
    query: type[Refusable] | None = None
    headers: type[Refusable] | None = None
    errors: tuple[int, ...] = ()
    form: type[Refusable] | None = None
    digits: frozenset[str] = frozenset()
    problem: type[Struct] | None = None


def operation(
    scope: str | None,
    answers: Mapping[int, Any],
    *,
    body: type[Refusable] | None = None,
    raw_body: bool = False,
    images: bool = False,
    query: type[Refusable] | None = None,
    headers: type[Refusable] | None = None,
    errors: tuple[int, ...] = (),
    form: type[Refusable] | None = None,
    problem: type[Struct] | None = None,
) -> Callable[[Responder], Responder]:
    """Say of a responder what it asks for and answers; it finds both in the request's context."""
    described = Operation(
        scope,
        answers,
        body,
        raw_body,
        images,
        query,
        headers,
        errors,
        form,
        _integers_of(query),
        problem,
    )

    def decorate(responder: Responder) -> Responder:
        responder.__dict__["operation"] = described
        return responder

    return decorate


def operation_of(resource: object, method: str) -> Operation | None:
    """Return what a resource says of a method, None where it doesn't have it."""
    responder = getattr(resource, f"on_{method.lower()}", None)
    found: Operation | None = getattr(responder, "operation", None)
    return found


def methods_of(resource: object) -> list[str]:
    """Return the methods that a resource has."""
    return [method for method in METHODS if operation_of(resource, method) is not None]


def _integers_of(query: type[Refusable] | None) -> frozenset[str]:
    if query is None:
        return frozenset()
    described = msgspec.inspect.type_info(query)
    assert isinstance(described, msgspec.inspect.StructType)
    return frozenset(field.encode_name for field in described.fields if _has_integer(field.type))


def _has_integer(kind: msgspec.inspect.Type) -> bool:
    if isinstance(kind, msgspec.inspect.UnionType):
        return any(_has_integer(each) for each in kind.types)
    return isinstance(kind, msgspec.inspect.IntType)
