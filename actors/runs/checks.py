"""Whether what a model said can be kept. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec

from actors.models.base import ModelError
from actors.session.messages import AssistantMessage, ToolCall

ARGUMENTS_DEPTH_MAX = 100
"""Who reads the log later may have less of the stack left than who wrote it."""


def check_message(message: AssistantMessage) -> None:
    """Raise ModelError for a message that the log would take but could not give back.

    Nobody else checks what providers send: one field of a wrong type, and the session could not
    be read any more.
    """
    for block in message.content:
        if isinstance(block, ToolCall) and _is_deeper([block.arguments], ARGUMENTS_DEPTH_MAX):
            raise ModelError(
                f"The model asked for the tool {block.name!r} with arguments nested more than "
                f"{ARGUMENTS_DEPTH_MAX} deep."
            )
    try:
        msgspec.json.decode(msgspec.json.encode(message), type=AssistantMessage)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise ModelError(f"The model's answer can't be kept: {error}") from error


def _is_deeper(level: Iterable[Any], depth: int) -> bool:
    for _ in range(depth):
        level = [inside for each in level for inside in _inside(each)]
    return any(isinstance(each, dict | list) for each in level)


def _inside(value: Any) -> Iterable[Any]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
