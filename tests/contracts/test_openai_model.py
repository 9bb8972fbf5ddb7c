import json
from typing import Any

import pytest

from actors.models.base import ModelRequest
from actors.models.info import Facts, Price
from actors.models.listing import openai_models
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
from tests.contracts.list_contract import KEY, WHOLE, ListContract
from tests.contracts.model_contract import HELLO, ModelContract
from tests.wire.lists import Offer
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


class TestOpenAIList(ListContract):
    provider = "openai"
    wire = OpenAIWire()
    fetch = openai_models

    @pytest.mark.parametrize(
        ("fields", "facts"),
        [
            ({"max_model_len": 8_192}, Facts(context_tokens=8_192)),
            ({"context_window": 8_192}, Facts(context_tokens=8_192)),
            ({"max_completion_tokens": 512}, Facts(output_tokens_max=512)),
            (
                {"pricing": {"prompt": "0.0000025", "completion": "0.00001"}},
                Facts(price=Price(2.5, 10)),
            ),
            (
                {"pricing": {"prompt": "0", "completion": "0", "input_cache_read": "0.0000001"}},
                Facts(price=Price(0, 0, 0.1)),
            ),
            ({"pricing": {"prompt": "-1", "completion": "-1"}}, Facts()),
            ({"pricing": {"prompt": "NaN", "completion": "1e999999"}}, Facts()),
            ({"pricing": {"prompt": "cheap", "completion": "1"}}, Facts()),
        ],
    )
    def test_other_servers_say_it_in_their_own_fields(
        self, server: ModelServer, fields: dict[str, Any], facts: Facts
    ) -> None:
        assert self.listed(server, Offer("m", fields=fields)) == {"m": facts}

    def test_only_of_openai_itself_is_an_id_enough_to_be_left_out(
        self, server: ModelServer
    ) -> None:
        server.listing = [Offer("whisper-1"), WHOLE, Offer("text-embedding-3-small")]
        assert len(openai_models(KEY, server.url)) == 3
        assert list(openai_models(KEY, f"{server.url}/my.openai.azure.com")) == ["m-1"]
