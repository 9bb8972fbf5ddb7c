"""What a request tells of tool calls and their results, read from the wire as a provider would.

Written against the providers' documentation, and knowing nothing of the adapters but how they say
what Chat Completions has no field for.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from actors.session.messages import Image, Text

TOOL_FAILED = "[The tool failed.]"
PICTURE_BELOW = re.compile(r"^\[Picture (\d+) is shown below\.\]$", re.MULTILINE)


class DecodedCall(NamedTuple):
    call_id: str
    name: str
    arguments: Any


class DecodedResult(NamedTuple):
    call_id: str
    content: tuple[Text | Image, ...]
    is_error: bool


Decoded = DecodedCall | DecodedResult


def from_anthropic(body: dict[str, Any]) -> list[Decoded]:
    """Return the calls and results of a request to the Messages API, in order."""
    return [
        decoded
        for message in body["messages"]
        for block in message["content"]
        for decoded in _from_block(block, message["role"])
    ]


def from_openai(body: dict[str, Any]) -> list[Decoded]:
    """Return the calls and results of a request to Chat Completions, in order."""
    pictures = dict(_pictures_of(body["messages"]))
    return [decoded for message in body["messages"] for decoded in _from_message(message, pictures)]


def _from_block(block: dict[str, Any], role: str) -> Iterator[Decoded]:
    match block["type"]:
        case "tool_use":
            assert role == "assistant"
            yield DecodedCall(block["id"], block["name"], block["input"])
        case "tool_result":
            assert role == "user"
            content = tuple(_shown(part) for part in block.get("content", ()))
            yield DecodedResult(block["tool_use_id"], content, block.get("is_error", False))


def _shown(part: dict[str, Any]) -> Text | Image:
    if part["type"] == "text":
        return Text(part["text"])
    source = part["source"]
    assert (part["type"], source["type"]) == ("image", "base64")
    return Image(source["media_type"], source["data"])


def _from_message(message: dict[str, Any], pictures: dict[str, Image]) -> Iterator[Decoded]:
    for call in message.get("tool_calls", ()):
        assert (message["role"], call["type"]) == ("assistant", "function")
        function = call["function"]
        yield DecodedCall(call["id"], function["name"], json.loads(function["arguments"]))
    if message["role"] == "tool":
        text = message["content"]
        failed = text == TOOL_FAILED or text.startswith(f"{TOOL_FAILED}\n")
        if failed:
            text = text[len(TOOL_FAILED) + 1 :]
        yield DecodedResult(message["tool_call_id"], tuple(_pieces(text, pictures)), failed)


def _pieces(text: str, pictures: dict[str, Image]) -> Iterator[Text | Image]:
    """Yield the text around the pictures' marks, and the pictures in their place."""
    end = 0
    for mark in PICTURE_BELOW.finditer(text):
        if mark.start() > end:
            yield Text(text[end : mark.start() - 1])
        yield pictures[mark[1]]
        end = mark.end() + 1
    if end < len(text):
        yield Text(text[end:])


def _pictures_of(messages: list[dict[str, Any]]) -> Iterator[tuple[str, Image]]:
    """Yield the pictures that follow tools' answers, with their numbers."""
    for message in messages:
        if message["role"] != "user" or isinstance(message["content"], str):
            continue
        number = ""
        for part in message["content"]:
            if part["type"] == "text":
                named = re.fullmatch(r"Picture (\d+):", part["text"])
                number = named[1] if named else ""
            elif number:
                url = re.fullmatch(r"data:([\w/+.-]+);base64,(.*)", part["image_url"]["url"])
                assert url is not None
                yield number, Image(url[1], url[2])
