"""Requests, read with limits and checked: each failure says what to send instead."""

import contextlib
import json
import math
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import falcon
import msgspec
from gunicorn.http.errors import ParseException

from actors.models.base import THINKING_LEVELS
from web.errors import Problem

MISSING_TEXT = "Missing text"
MISSING_USER_MESSAGE = "Missing user message text"
IDEMPOTENCY_HEADER = "Idempotency-Key"
KEY_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 200
REGENERATE = "regenerate-message"
BODY_TIMEOUT_S = 10.0
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1
INTEGER_CHARACTERS_MAX = 20

_POSITIVE = re.compile(r"[0-9]{1,18}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class ChatPrompt(msgspec.Struct, frozen=True):
    """What a request asks, with the client's ids of the message and of the request."""

    text: str
    message_id: str = ""
    idempotency_key: str = ""
    metadata: Any = None


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


def message_text(body: dict[str, Any]) -> str:
    """Return the prompt of a ``messages`` request."""
    return _checked(body.get("text"), MISSING_TEXT)


def chat_prompt(body: dict[str, Any]) -> ChatPrompt:
    """Return the prompt of a chat request: ``text``, ``prompt``, or the last user message."""
    for name in ("text", "prompt"):
        value = body.get(name)
        if isinstance(value, str) and value.strip():
            return ChatPrompt(_checked(value, MISSING_USER_MESSAGE))
    messages = body.get("messages")
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            message_id = message.get("id")
            if not isinstance(message_id, str) or body.get("trigger") == REGENERATE:
                message_id = ""  # the same message is to be answered once more
            return ChatPrompt(_checked(_text_of(message), MISSING_USER_MESSAGE), message_id)
    raise Problem(400, MISSING_USER_MESSAGE)


def with_idempotency_key(request: falcon.Request, prompt: ChatPrompt) -> ChatPrompt:
    """Return the prompt with what makes a repeat of the request the same prompt.

    That is the header Idempotency-Key, or else what the prompt has already, or the id that an
    AI SDK client gave its message.
    """
    key = request.get_header(IDEMPOTENCY_HEADER)
    if key is None and prompt.idempotency_key:
        return prompt
    if key is None:
        digest = sha256(prompt.text.encode()).hexdigest()  # an edited message keeps its id
        key = f"message:{prompt.message_id}:{digest}" if prompt.message_id else ""
    elif not key.strip() or len(key) > KEY_CHARACTERS_MAX or not key.isprintable():
        raise Problem(
            400, f"{IDEMPOTENCY_HEADER} has 1 to {KEY_CHARACTERS_MAX} printable characters."
        )
    return msgspec.structs.replace(prompt, idempotency_key=key)


def session_name(body: dict[str, Any]) -> str | None:
    """Return the name in a PATCH request, trimmed; None where there is none. Raises Problem 422."""
    if "name" not in body:
        return None
    name = body["name"]
    if not isinstance(name, str) or not 0 < len(name.strip()) <= NAME_CHARACTERS_MAX:
        raise Problem(422, f"A session's name is text of 1 to {NAME_CHARACTERS_MAX} characters.")
    if "\x00" in name:
        raise Problem(422, "A name can't hold the character U+0000.")
    return name.strip()


def thinking_level(body: dict[str, Any]) -> str | None:
    """Return the thinking level in a request; None where there is none. Raises Problem 422."""
    if "thinkingLevel" not in body:
        return None
    level = body["thinkingLevel"]
    if not isinstance(level, str) or level not in THINKING_LEVELS:
        raise Problem(422, f"thinkingLevel is one of {', '.join(THINKING_LEVELS)}.")
    return level


def positive(request: falcon.Request, name: str, error: str) -> int | None:
    """Return a query parameter that must be a positive integer; None where it is not given."""
    value = request.params.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not _POSITIVE.fullmatch(value) or int(value) < 1:
        raise Problem(400, error)
    return int(value)


def seq_of(value: str | None, name: str) -> int | None:
    """Return a place in a session's log: a seq, or a message's id that ends with one."""
    if value is None:
        return None
    digits = value.rpartition(":")[2]
    if not _POSITIVE.fullmatch(digits):
        raise Problem(400, f"{name} must be the seq of an event: a non-negative integer.")
    return int(digits)


def _text_of(message: dict[str, Any]) -> str | None:
    parts = message.get("parts")
    if isinstance(parts, list):
        texts = [
            part["text"]
            for part in parts
            if isinstance(part, dict)
            and part.get("type") == "text"
            and isinstance(part.get("text"), str)
        ]
        if texts:
            return "\n".join(texts)
    content = message.get("content")
    return content if isinstance(content, str) else None


def _checked(text: object, missing: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise Problem(400, missing)
    if "\x00" in text:
        raise Problem(422, "A prompt can't hold the character U+0000.")
    return text


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
