"""Requests, read with limits and checked: each failure says what to send instead."""

import re
from hashlib import sha256
from typing import Any

import falcon
import msgspec

from web.errors import Problem

MISSING_TEXT = "Missing text"
MISSING_USER_MESSAGE = "Missing user message text"
IDEMPOTENCY_HEADER = "Idempotency-Key"
KEY_CHARACTERS_MAX = 200
NAME_CHARACTERS_MAX = 200
REGENERATE = "regenerate-message"

_POSITIVE = re.compile(r"[0-9]{1,18}")


class ChatPrompt(msgspec.Struct, frozen=True):
    """What a request asks, with the client's ids of the message and of the request."""

    text: str
    message_id: str = ""
    idempotency_key: str = ""
    metadata: Any = None


def read_object(request: falcon.Request, bytes_max: int) -> dict[str, Any]:
    """Return the body's JSON object; an empty body is an empty object.

    Raises Problem 413 before more than the limit is in memory, 400 for anything else that
    isn't an object.
    """
    return object_of(read_body(request, bytes_max))


def object_of(body: bytes) -> dict[str, Any]:
    """Return a body's JSON object; see read_object."""
    if not body:
        return {}
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Invalid JSON body") from error
    if not isinstance(decoded, dict):
        raise Problem(400, "The JSON body must be an object.")
    return decoded


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
    """Return the body. Raises Problem 413 before more than the limit is in memory."""
    too_large = Problem(413, f"A request's body can have {bytes_max} bytes at most.")
    length = request.content_length
    if length is not None and length > bytes_max:
        raise too_large
    if length is None and "chunked" not in (request.get_header("Transfer-Encoding") or ""):
        return b""
    stream = request.bounded_stream if length is not None else request.env["wsgi.input"]
    body: bytes = stream.read(bytes_max + 1)
    if len(body) > bytes_max:
        raise too_large
    if length is not None and len(body) < length:
        raise Problem(400, "The body is shorter than its Content-Length.")
    return body
