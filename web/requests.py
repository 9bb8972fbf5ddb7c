"""Requests, read with limits and checked: each failure says what to send instead."""

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from hashlib import sha256
from typing import Any, TypeVar, get_origin
from urllib.parse import parse_qsl

import falcon
import msgspec
from gunicorn.http.errors import ParseException

from web.errors import Problem
from web.inputs import ChatPrompt
from web.operations import Refusable

BODY_TIMEOUT_S = 10.0
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
INTEGER_CHARACTERS_MAX = 20
FORM_TYPE = "application/x-www-form-urlencoded"
FORM_FIELDS_MAX = 100
CSRF_FIELD = "csrf"

_WHOLE = re.compile(r"[0-9]{1,18}")
Wanted = TypeVar("Wanted", bound=Refusable)

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_object(request: falcon.Request, bytes_max: int) -> dict[str, Any]:
    """Return the body's JSON object; an empty body is an empty object.

    Raises Problem 413 before more than the limit is in memory, 408 when the body stops coming,
    422 for text that is no Unicode, 400 for anything else that isn't an object.
    """
    return object_of(read_body(request, bytes_max))


def object_of(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object; see read_object."""
    if not body:
        return {}
    try:
        decoded = _decode(body.decode("utf-8"))
        if _SURROGATE.search(body):
            msgspec.json.encode(decoded)
    except UnicodeEncodeError as error:
        raise Problem(422, "Text can't hold half of a surrogate pair.") from error
    except (ValueError, RecursionError) as error:
        raise Problem(400, "Invalid JSON body") from error
    if not isinstance(decoded, dict):
        raise Problem(400, "The JSON body must be an object.")
    return decoded


def has_body(request: falcon.Request) -> bool:
    """Tell whether a body follows the request's header."""
    return bool(request.content_length) or request.get_header("Transfer-Encoding") is not None


def check_length(request: falcon.Request, bytes_max: int) -> None:
    """Raise Problem 413 where the announced body is too large; nothing of it is read."""
    if (request.content_length or 0) > bytes_max:
        raise _too_large(bytes_max)


def with_idempotency_key(request: falcon.Request, prompt: ChatPrompt) -> ChatPrompt:
    """Return the prompt with what makes a repeat of the request the same prompt.

    That is the header Idempotency-Key, or else what the prompt has already, or the id that an
    AI SDK client gave its message.
    """
    key = request.context.headers.key
    if key is None and prompt.idempotency_key:
        return prompt
    if key is None:
        digest = sha256(prompt.text.encode()).hexdigest()  # an edited message keeps its id
        key = f"message:{prompt.message_id}:{digest}" if prompt.message_id else ""
    return msgspec.structs.replace(prompt, idempotency_key=key)


def typed_body(request: falcon.Request, wanted: type[Wanted], bytes_max: int) -> Wanted:
    """Return the body as what an operation wants. Raises Problem, see read_object, or 422."""
    return typed_object(read_object(request, bytes_max), wanted)


def typed_object(found: dict[str, Any], wanted: type[Wanted]) -> Wanted:
    """Return a body's object as what an operation wants. Raises its refusal, or Problem 422."""
    try:
        return msgspec.convert(found, wanted)
    except msgspec.ValidationError as error:
        raise Problem(*(wanted.refusal or (422, f"The body can't be used: {error}"))) from error


def read_form(request: falcon.Request, bytes_max: int) -> dict[str, list[str]]:
    """Return a form's fields, each with its values. Raises Problem 4xx, see read_body."""
    body = read_body(request, bytes_max)
    if body and (request.content_type or "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise Problem(415, f"A form is sent as Content-Type: {FORM_TYPE}.")
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=FORM_FIELDS_MAX,
        )
    except ValueError as error:
        raise Problem(400, "The form can't be read.") from error
    for name, value in pairs:
        if "\x00" in value:
            raise Problem(422, f"The field {name} can't hold U+0000.")
        fields.setdefault(name, []).append(value)
    return fields


def typed_form(fields: Mapping[str, list[str]], wanted: type[Wanted]) -> Wanted:
    """Return a form as what an operation wants; a blank field that may be missing is missing.

    A field of the type list has all values of its name, any other one the last of them. Raises
    its refusal, or Problem 422.
    """
    given: dict[str, Any] = {}
    for field in msgspec.structs.fields(wanted):
        values = fields.get(field.encode_name, [])
        if get_origin(field.type) is list:
            given[field.encode_name] = values
        elif values and (values[-1] or field.required):
            given[field.encode_name] = values[-1]
    return _from_strings(given, wanted, 422)


def typed_query(
    request: falcon.Request, wanted: type[Wanted], digits: Collection[str] = ()
) -> Wanted:
    """Return the query's parameters as what an operation wants; an empty one was not given.

    ``digits`` names those that are whole numbers. Raises the refusal, or Problem 400.
    """
    given = {name: value for name, value in request.params.items() if value != ""}
    for name in digits:
        if name in given and not _WHOLE.fullmatch(str(given[name])):
            raise Problem(*(wanted.refusal or (400, f"{name} must be a positive integer.")))
    return _from_strings(given, wanted)


def typed_headers(request: falcon.Request, wanted: type[Wanted]) -> Wanted:
    """Return the header fields that an operation wants. Raises Problem 400."""
    fields = msgspec.structs.fields(wanted)
    given = {
        field.encode_name: value
        for field in fields
        if (value := request.get_header(field.encode_name)) is not None
    }
    return _from_strings(given, wanted)


def _from_strings(given: dict[str, Any], wanted: type[Wanted], status: int = 400) -> Wanted:
    try:
        return msgspec.convert(given, wanted, strict=False)
    except msgspec.ValidationError as error:
        refusal = wanted.refusal or (status, f"The request can't be used: {error}")
        raise Problem(*refusal) from error


def read_body(request: falcon.Request, bytes_max: int) -> bytes:
    """Return the body; waits for it, BODY_TIMEOUT_S at most without progress.

    Raises Problem 413 before more than the limit is in memory, 408 or 400 without the whole body.
    """
    if not has_body(request):
        return b""
    check_length(request, bytes_max)
    length = request.content_length
    stream = request.bounded_stream if length is not None else request.env["wsgi.input"]
    try:
        with _bounded_wait(request):
            body: bytes = stream.read(bytes_max + 1)
    except TimeoutError as error:
        raise Problem(408, "The body did not come in time.") from error
    except (OSError, ParseException) as error:  # the server's reader: broken off, or bad chunks
        raise Problem(400, "The body can't be read to its end.") from error
    if len(body) > bytes_max:
        raise _too_large(bytes_max)
    if length is not None and len(body) < length:
        raise Problem(400, "The body is shorter than its Content-Length.")
    return body


@contextlib.contextmanager
def _bounded_wait(request: falcon.Request) -> Iterator[None]:
    socket = request.env.get("gunicorn.socket")
    if socket is None:
        yield
        return
    before = socket.gettimeout()
    socket.settimeout(BODY_TIMEOUT_S)
    try:
        yield
    finally:
        socket.settimeout(before)


def _too_large(bytes_max: int) -> Problem:
    return Problem(413, f"A request's body can have {bytes_max} bytes at most.")


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        raise Problem(400, "An object in the JSON body has the same name twice.")
    return found


def _integer(digits: str) -> int:
    if len(digits) > INTEGER_CHARACTERS_MAX or not INTEGER_MIN <= int(digits) <= INTEGER_MAX:
        raise Problem(400, "An integer in the JSON body has more than 64 bits.")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise Problem(400, "A number in the JSON body is too large.")
    return value


def _constant(name: str) -> float:
    raise Problem(400, f"{name} is not JSON.")


_decode = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
).decode
