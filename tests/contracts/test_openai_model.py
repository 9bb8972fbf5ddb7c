import json
from typing import Any

import pytest

from actors.models.base import ModelRequest
from actors.models.openai import OpenAIModel
from actors.session.events import ThinkingDelta, ToolInputDelta
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from tests.contracts.model_contract import HELLO, ModelContract
from tests.wire.servers import Finish, ModelServer, OpenAIWire, Raw

PICTURE = Image("image/png", "aGk=")
PICTURE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def deltas(*fields: dict[str, Any]) -> Raw:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in fields]
    return Raw("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode())


class TestOpenAIModel(ModelContract):
    provider = "openai"
    wire = OpenAIWire()
    make = OpenAIModel

    def test_usage_is_asked_for_and_a_missing_key_is_none(self, server: ModelServer) -> None:
        sent = self.sent(server, api_key="")
        assert sent.path == "/chat/completions"
        assert sent.body["stream_options"] == {"include_usage": True}
        assert sent.headers["authorization"] == "Bearer none"

    @pytest.mark.parametrize(
        ("level", "effort"), [("", None), ("off", None), ("minimal", "minimal"), ("high", "high")]
    )
    def test_the_thinking_level_is_the_effort(
        self, server: ModelServer, level: str, effort: str | None
    ) -> None:
        sent = self.sent(server, ModelRequest(HELLO.messages, thinking_level=level))
        assert sent.body.get("reasoning_effort") == effort

    def test_other_servers_get_the_limit_by_its_old_name(self, server: ModelServer) -> None:
        assert self.sent(server, max_output_tokens=99).body["max_tokens"] == 99

    def test_the_conversation_is_told_as_the_protocol_has_it(self, server: ModelServer) -> None:
        answer = (Thinking("Hm", "sig"), Text("I look."), ToolCall("a", "t", {"n": 1}))
        messages = (
            UserMessage((Text("See"), PICTURE), 0),
            AssistantMessage(answer, 0),
            ToolResultMessage("a", "t", (Text("seen"), PICTURE), 0),
            AssistantMessage((Thinking("only"),), 0),
            UserMessage((Text("And?"),), 0),
        )
        sent = self.sent(server, ModelRequest(messages, system="Be brief."))
        call = {"type": "function", "id": "a", "function": {"name": "t", "arguments": '{"n":1}'}}
        assert sent.body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "See"}, PICTURE_PART]},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "seen"},
            {"role": "user", "content": [PICTURE_PART]},
            {"role": "user", "content": "And?"},
        ]

    def test_thinking_has_another_name_elsewhere(self, server: ModelServer) -> None:
        thought = deltas({"reasoning": "Hm", "content": None})
        assert self.parts(server, thought, Finish())[0] == ThinkingDelta(0, "Hm")

    def test_a_call_without_an_id_gets_one(self, server: ModelServer) -> None:
        call = {"index": 0, "function": {"name": "t", "arguments": "{}"}}
        asked = deltas({"tool_calls": [call]})
        part = self.parts(server, asked, Finish("stop"))[0]
        assert part == ToolInputDelta(0, "call_1_0", "t", "{}")
        message = self.message(server, asked, Finish("stop"))
        assert message.content == (ToolCall("call_1_0", "t", {}),)
        assert message.stop_reason == "tool_use"

    def test_calls_of_one_index_are_told_apart_by_their_ids(self, server: ModelServer) -> None:
        function = {"name": "t", "arguments": "{}"}
        calls = [{"tool_calls": [{"id": name, "function": function}]} for name in "ab"]
        message = self.message(server, deltas(*calls), Finish("tool_use"))
        assert message.content == (ToolCall("a", "t", {}), ToolCall("b", "t", {}))
