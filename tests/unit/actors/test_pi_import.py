import json
from typing import Any

import pytest

from actors.pi_import import PiFormatError, parse_pi_session
from actors.session.events import ContextCompacted, MessageCompleted, ModelSelected
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    Usage,
    UserMessage,
)

HEADER = {"type": "session", "id": "orig", "timestamp": "2025-11-20T23:33:50.805Z", "cwd": "/w"}


def lines(*entries: dict[str, Any], version: int | None = None) -> bytes:
    header = HEADER if version is None else {**HEADER, "version": version}
    return "\n".join(json.dumps(entry) for entry in (header, *entries)).encode()


def said(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "message", "message": {"role": "user", "content": text, "timestamp": 7}, **more}


def heard(text: str) -> MessageCompleted:
    return MessageCompleted(UserMessage((Text(text),), 7))


def test_messages_of_all_roles_and_blocks_are_taken_over() -> None:
    answer = {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "thinkingSignature": "sig"},
            {"type": "text", "text": "here"},
            {"type": "toolCall", "id": "t1", "name": "bash", "arguments": {"command": "pwd"}},
        ],
        "provider": "anthropic",
        "model": "m",
        "usage": {"input": 3, "output": 191, "cacheRead": 1, "cacheWrite": 2, "cost": {}},
        "stopReason": "toolUse",
        "timestamp": 8,
    }
    result = {
        "role": "toolResult",
        "toolCallId": "t1",
        "toolName": "bash",
        "content": [
            {"type": "text", "text": "no"},
            {"type": "image", "data": "AA==", "mimeType": "image/png"},
        ],
        "details": {"exit": 1},
        "isError": True,
        "timestamp": 9,
    }
    entries = [said("hi"), *[{"type": "message", "message": each} for each in (answer, result)]]
    session = parse_pi_session(lines(*entries), at=1)
    assert session.original_id == "orig"
    assert session.recorded == (
        heard("hi"),
        MessageCompleted(
            AssistantMessage(
                (Thinking("hm", "sig"), Text("here"), ToolCall("t1", "bash", {"command": "pwd"})),
                8,
                "anthropic",
                "m",
                "tool_use",
                Usage(3, 191, 1, 2),
            )
        ),
        MessageCompleted(
            ToolResultMessage(
                "t1",
                "bash",
                (Text("no"), Image("image/png", "AA==")),
                9,
                is_error=True,
                details={"exit": 1},
            )
        ),
    )


def test_of_a_tree_the_newest_branch_is_taken() -> None:
    session = parse_pi_session(
        lines(
            said("root", id="a", parentId=None),
            said("left", id="b", parentId="a"),
            said("left leaf", id="c", parentId="b"),
            said("right", id="d", parentId="a"),
            version=3,
        ),
        at=1,
    )
    assert session.recorded == (heard("root"), heard("right"))


def test_changes_of_model_and_thinking_level_become_selections() -> None:
    session = parse_pi_session(
        lines(
            {"type": "thinking_level_change", "thinkingLevel": "low"},
            {"type": "model_change", "provider": "p", "modelId": "m"},
            {"type": "thinking_level_change", "thinkingLevel": "high"},
            {"type": "label", "label": "ignored"},
        ),
        at=1,
    )
    assert session.recorded == (ModelSelected("p", "m", 1), ModelSelected("p", "m", 1, "high"))


def test_a_compaction_points_at_the_event_that_is_kept_first() -> None:
    compaction = {"type": "compaction", "summary": "so far", "firstKeptEntryId": "b"}
    session = parse_pi_session(
        lines(
            said("one", id="a", parentId=None),
            {"type": "label", "id": "x", "parentId": "a"},
            said("two", id="b", parentId="x"),
            {**compaction, "id": "c", "parentId": "b"},
            version=2,
        ),
        at=1,
    )
    assert session.recorded == (heard("one"), heard("two"), ContextCompacted("so far", 2, 1))


def test_version_1_names_the_kept_entry_by_its_index_in_the_file() -> None:
    compaction = {"type": "compaction", "summary": "so far", "firstKeptEntryIndex": 2}
    session = parse_pi_session(lines(said("one"), said("two"), compaction), at=1)
    assert session.recorded[-1] == ContextCompacted("so far", 2, 1)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "line 1: a pi session begins"),
        (b"{", "line 1: this is not JSON"),
        (b"[]", "line 1: an entry is an object"),
        (b'{"type":"message"}', "line 1: a pi session begins"),
        (lines(version=9), "line 1: version 9 is not known"),
        (lines() + b'\n{"type":"mess', "line 2: this is not JSON"),
        (lines(said("a")) + b"\n\xff", "line 3: this is not JSON"),
        (lines() + b"\n[]", "line 2: an entry is an object"),
        (lines({"type": "message"}), "line 2: a message is an object"),
        (lines({"type": "message", "message": 7}), "line 2: a message is an object"),
        (lines({"type": "message", "message": {"role": "user"}}), "line 2: "),
        (lines({"type": "message", "message": {"role": "user", "content": 7}}), "line 2: "),
        (lines({"type": "model_change", "provider": "p"}), "line 2: .*modelId"),
        (lines(said("a", id="a", parentId="gone"), version=3), "line 2: there is no entry 'gone'"),
        (lines(said("a"), version=3), "line 2: an entry needs an id"),
        (
            lines({"type": "compaction", "summary": "s", "firstKeptEntryIndex": 77}),
            "line 2: the entry that is kept first",
        ),
    ],
)
def test_a_malformed_file_is_refused_with_its_line(content: bytes, problem: str) -> None:
    with pytest.raises(PiFormatError, match=problem):
        parse_pi_session(content, at=1)
