import re
from typing import Any

import pytest

from actors.models.anthropic import AnthropicModel
from actors.models.base import ModelRequest
from actors.models.listing import MODELS_MAX, anthropic_models
from actors.session.messages import (
    AssistantMessage,
    Image,
    Text,
    Thinking,
    ToolCall,
    ToolResultMessage,
    UserMessage,
)
from tests.contracts.closing_contract import ClosingContract
from tests.contracts.list_contract import WHOLE, ListContract
from tests.contracts.model_contract import HELLO, ModelContract
from tests.wire.lists import Offer
from tests.wire.servers import AnthropicWire, Ask, Finish, ModelServer, Refuse, Report, Say, Think

PICTURE_BLOCK = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
}
ADAPTIVE = {"type": "adaptive", "display": "summarized"}


class TestAnthropicModel(ModelContract):
    provider = "anthropic"
    wire = AnthropicWire()
    make = AnthropicModel

    @pytest.mark.parametrize(
        ("model_id", "level", "thinking", "effort"),
        [
            ("claude-sonnet-5-5", "", None, None),
            ("claude-sonnet-5-5", "off", None, None),
            ("claude-sonnet-5-5", "minimal", ADAPTIVE, {"effort": "low"}),
            ("claude-sonnet-5-5", "high", ADAPTIVE, {"effort": "high"}),
            ("claude-haiku-4-5", "minimal", {"type": "enabled", "budget_tokens": 1_024}, None),
            (
                "claude-haiku-4-5-20251001",
                "high",
                {"type": "enabled", "budget_tokens": 6_144},
                None,
            ),
        ],
    )
    def test_thinking_is_an_effort_or_a_budget(
        self,
        server: ModelServer,
        model_id: str,
        level: str,
        thinking: dict[str, Any] | None,
        effort: dict[str, str] | None,
    ) -> None:
        request = ModelRequest(HELLO.messages, thinking_level=level)
        body = self.sent(server, request, model_id=model_id).body
        assert (body.get("thinking"), body.get("output_config")) == (thinking, effort)

    def test_a_short_answer_leaves_less_to_think_in(self, server: ModelServer) -> None:
        def sent(limit: int) -> dict[str, Any]:
            request = ModelRequest(HELLO.messages, thinking_level="high", max_output_tokens=limit)
            return self.sent(server, request, model_id="claude-haiku-4-5").body

        budget = {"type": "enabled", "budget_tokens": 3_000}
        assert sent(4_000) | {"thinking": budget, "max_tokens": 4_000} == sent(4_000)
        assert "thinking" not in sent(1_024)

    def test_a_signature_is_kept_and_goes_back_with_its_thinking(self, server: ModelServer) -> None:
        steps = Think([], "sig-0"), Think(["Hm"], "sig-1"), Say(["So."]), Finish()
        answer = self.message(server, *steps)
        assert answer.content == (Thinking("", "sig-0"), Thinking("Hm", "sig-1"), Text("So."))
        sent = self.sent(server, ModelRequest((*HELLO.messages, answer, *HELLO.messages)))
        assert sent.body["messages"][1]["content"] == [
            {"type": "thinking", "thinking": "", "signature": "sig-0"},
            {"type": "thinking", "thinking": "Hm", "signature": "sig-1"},
            {"type": "text", "text": "So."},
        ]

    def test_encrypted_thinking_goes_back_as_it_came(self, server: ModelServer) -> None:
        answer = self.message(server, Think([], "", redacted="enc"), Say(["So."]), Finish())
        sent = self.sent(server, ModelRequest((*HELLO.messages, answer, *HELLO.messages)))
        block = sent.body["messages"][1]["content"][0]
        assert block == {"type": "redacted_thinking", "data": "enc"}

    def test_an_empty_block_takes_no_index(self, server: ModelServer) -> None:
        answer = self.message(server, Say([""]), Ask("a", "t", []), Finish("tool_use"))
        assert answer.content == (ToolCall("a", "t", {}),)

    def test_the_conversation_is_told_as_the_protocol_has_it(self, server: ModelServer) -> None:
        picture = Image("image/png", "aGk=")
        messages = (
            UserMessage((Text("See"), picture), 0),
            UserMessage((Text(" "),), 0),
            AssistantMessage((Thinking("Hm"), Text(""), ToolCall("f_0", "t", [1])), 0),
            ToolResultMessage("f_0", "t", (Text(""), picture), 0, is_error=True),
            UserMessage((Text("And?"),), 0),
        )
        sent = self.sent(server, ModelRequest(messages))
        assert sent.path == "/v1/messages"
        assert sent.body["max_tokens"] == 8_192
        result = {
            "type": "tool_result",
            "tool_use_id": "f_0",
            "is_error": True,
            "content": [PICTURE_BLOCK],
        }
        call = {"type": "tool_use", "id": "f_0", "name": "t", "input": {"input": [1]}}
        assert sent.body["messages"] == [
            {"role": "user", "content": [{"type": "text", "text": "See"}, PICTURE_BLOCK]},
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [result, {"type": "text", "text": "And?"}]},
        ]

    def test_an_id_with_other_characters_is_told_by_another_one(self, server: ModelServer) -> None:
        ids = ["f:0", "f;0", "f_0", "", "x" * 65]
        messages = [*HELLO.messages]
        for each in ids:
            messages.append(AssistantMessage((ToolCall(each, "t", {}),), 0))
            messages.append(ToolResultMessage(each, "t", (Text("x"),), 0))
        body = self.sent(server, ModelRequest(messages)).body
        told = [call.call_id for call in self.wire.told_calls(body)]
        assert told == [result.call_id for result in self.wire.told_results(body)]
        assert len(set(told)) == len(ids)
        assert told[2] == "f_0"
        assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in told)

    @pytest.mark.parametrize(
        "text",
        [
            "prompt is too long: 213462 tokens > 200000 maximum",
            (
                "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, "
                "decrease input length or `max_tokens` and try again"
            ),
            "Input is too long for requested model.",
        ],
    )
    def test_what_it_says_when_a_prompt_does_not_fit_is_understood(
        self, server: ModelServer, text: str
    ) -> None:
        error = self.refusal(server, Refuse(400, text))
        assert (error.status, error.overflow, error.retryable) == (400, True, False)

    def test_it_may_be_said_when_the_answer_has_begun(self, server: ModelServer) -> None:
        error = self.error(server, Say(["x"]), Report("request_too_large", "Too large."))
        assert (error.status, error.overflow) == (413, True)


class TestClosingAnthropicCalls(ClosingContract):
    provider = "anthropic"
    wire = AnthropicWire()
    make = AnthropicModel


class TestAnthropicList(ListContract):
    provider = "anthropic"
    wire = AnthropicWire()
    fetch = anthropic_models

    def test_retired_models_are_left_out(self, server: ModelServer) -> None:
        gone = Offer("m-0", fields={"lifecycle": "retired"})
        old = Offer("m-2", fields={"lifecycle": "deprecated"})
        assert list(self.listed(server, gone, WHOLE, old)) == ["m-1", "m-2"]

    def test_the_whole_list_is_asked_for(self, server: ModelServer) -> None:
        self.listed(server)
        assert server.listings[0].path == f"/v1/models?limit={MODELS_MAX}"
