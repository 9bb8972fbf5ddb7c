"""Requests, read with limits and checked: each failure says what to send instead."""

import re
from typing import Any

import falcon
import msgspec

from web.errors import Problem

MISSING_TEXT = "Missing text"
MISSING_USER_MESSAGE = "Missing user message text"
SEQ_MAX = 2**63 - 1

_POSITIVE = re.compile(r"[0-9]{1,18}")


class ChatPrompt(msgspec.Struct, frozen=True):
    """What a chat request asks, and the client's own id of that message."""

    text: str
    message_id: str = ""


def read_object(request: falcon.Request, bytes_max: int) -> dict[str, Any]:
    """Return the body's JSON object; an empty body is an empty object.

    Raises Problem 413 before more than the limit is in memory, 400 for anything else that
    isn't an object.
    """
    body = _read(request, bytes_max)
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
            return ChatPrompt(
                _checked(_text_of(message), MISSING_USER_MESSAGE),
                message_id if isinstance(message_id, str) else "",
            )
    raise Problem(400, MISSING_USER_MESSAGE)


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


def _read(request: falcon.Request, bytes_max: int) -> bytes:
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
