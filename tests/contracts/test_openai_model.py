import json
from typing import Any

import pytest

from actors.models.base import ModelRequest
from actors.models.info import Facts, Price
from actors.models.listing import openai_models
from actors.models.openai import TOOL_FAILED, OpenAIModel
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
from tests.contracts.closing_contract import ClosingContract
from tests.contracts.list_contract import KEY, WHOLE, ListContract
from tests.contracts.model_contract import HELLO, ModelContract
from tests.wire.lists import Offer
from tests.wire.servers import Finish, ModelServer, OpenAIWire, Raw, Refuse

PICTURE = Image("image/png", "aGk=")
PICTURE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}

OVERFLOWS = [
    # OpenAI, and vLLM and DeepSeek much alike
    (
        "This model's maximum context length is 8192 tokens. However, your messages resulted in "
        "9001 tokens. Please reduce the length of the messages."
    ),
    "Your input exceeds the context window of this model. Please adjust your input and try again.",
    # vLLM
    (
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens "
        "(4500 in the messages, 500 in the completion). Please reduce the length of the messages "
        "or completion."
    ),
    "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
    "The engine prompt length 132000 exceeds the max_model_len 131072. Please reduce prompt.",
    # Ollama
    "prompt too long; exceeded max context length by 120 tokens",
    "the input length exceeds the context length",
    # llama.cpp, before and after it told the numbers
    "the request exceeds the available context size, try increasing it",
    "request (9012 tokens) exceeds the available context size (4096 tokens), try increasing it",
    # LM Studio
    "The number of tokens to keep from the initial prompt is greater than the context length.",
    (
        "Trying to keep the first 9012 tokens when context the overflows. However, the model is "
        "loaded with context length of only 4096 tokens, which is not enough."
    ),
    # OpenRouter
    (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about "
        "150000 tokens (149000 of text input, 1000 in the output)."
    ),
    # Gemini
    "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
    "The input token count exceeds the maximum number of tokens allowed 1048576.",
    # Mistral
    (
        "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length"
    ),
    # Groq, xAI, Kimi, MiniMax, Together, Copilot
    "Please reduce the length of the messages or completion.",
    "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    "Invalid request: Your request exceeded model token limit: 8192 (requested: 9001)",
    "invalid params, context window exceeds limit",
    "The input (9001 tokens) is longer than the model's context length (8193 tokens).",
    "prompt token count of 130000 exceeds the limit of 128000",
]


def deltas(*fields: dict[str, Any]) -> Raw:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in fields]
    return Raw("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode())


class TestOpenAIModel(ModelContract):
    provider = "openai"
    wire = OpenAIWire()
    make = OpenAIModel

    def failed(self, text: str) -> str:
        return f"{TOOL_FAILED}\n{text}"

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
            UserMessage((Text("Or"), Text("else?")), 0),
        )
        sent = self.sent(server, ModelRequest(messages, system="Be brief."))
        call = {"type": "function", "id": "a", "function": {"name": "t", "arguments": '{"n":1}'}}
        assert sent.body["messages"] == [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "See"}, PICTURE_PART]},
            {"role": "assistant", "content": "I look.", "tool_calls": [call]},
            {
                "role": "tool",
                "tool_call_id": "a",
                "content": "seen\n[Picture 1 is shown below.]",
            },
            {"role": "user", "content": [{"type": "text", "text": "Picture 1:"}, PICTURE_PART]},
            {"role": "user", "content": "And?"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "Or"}, {"type": "text", "text": "else?"}],
            },
        ]

    def test_the_pictures_of_several_tools_follow_the_last_of_them(
        self, server: ModelServer
    ) -> None:
        calls = ToolCall("a", "t", {}), ToolCall("b", "t", {})
        messages = (
            *HELLO.messages,
            AssistantMessage(calls, 0),
            ToolResultMessage("a", "t", (PICTURE,), 0, is_error=True),
            ToolResultMessage("b", "t", (PICTURE, Text("both")), 0),
        )
        first, second, shown = self.sent(server, ModelRequest(messages)).body["messages"][2:]
        assert first["content"] == f"{TOOL_FAILED}\n[Picture 1 is shown below.]"
        assert second["content"] == "[Picture 2 is shown below.]\nboth"
        assert shown["content"] == [
            {"type": "text", "text": "Picture 1:"},
            PICTURE_PART,
            {"type": "text", "text": "Picture 2:"},
            PICTURE_PART,
        ]

    def test_an_id_that_is_too_long_is_told_by_another_one(self, server: ModelServer) -> None:
        long_ids = [f"call_0123456789|fc_0123456789012345678{end}" for end in "0123"]
        messages = [*HELLO.messages]
        for each in long_ids:
            messages.append(AssistantMessage((ToolCall(each, "t", {}),), 0))
            messages.append(ToolResultMessage(each, "t", (Text("x"),), 0))
        body = self.sent(server, ModelRequest(messages)).body
        ids = [call.call_id for call in self.wire.told_calls(body)]
        assert ids == [result.call_id for result in self.wire.told_results(body)]
        assert len(set(ids)) == len(long_ids)
        assert max(map(len, ids)) <= 40

    @pytest.mark.parametrize("text", OVERFLOWS)
    def test_what_servers_say_when_a_prompt_does_not_fit_is_understood(
        self, server: ModelServer, text: str
    ) -> None:
        error = self.refusal(server, Refuse(400, text))
        assert (error.status, error.overflow, error.retryable) == (400, True, False)

    @pytest.mark.parametrize(
        "fields",
        [{"code": "context_length_exceeded"}, {"type": "exceed_context_size_error", "code": 400}],
    )
    def test_a_code_says_it_without_words(
        self, server: ModelServer, fields: dict[str, Any]
    ) -> None:
        assert self.refusal(server, Refuse(400, "Oh.", fields=fields)).overflow

    def test_what_does_not_fit_is_not_sent_again_whatever_its_status(
        self, server: ModelServer
    ) -> None:
        error = self.refusal(server, Refuse(500, OVERFLOWS[0]))
        assert (error.status, error.overflow, error.retryable) == (500, True, False)

    def test_it_may_be_said_when_the_answer_has_begun(self, server: ModelServer) -> None:
        chunk = {"error": {"message": OVERFLOWS[0], "code": "context_length_exceeded"}}
        error = self.error(server, Raw(f"data: {json.dumps(chunk)}\n\n".encode()))
        assert (error.status, error.overflow) == (None, True)

    def test_thinking_has_another_name_elsewhere(self, server: ModelServer) -> None:
        thought = deltas({"reasoning": "Hm", "content": None})
        assert self.parts(server, thought, Finish())[0] == ThinkingDelta(0, "Hm")

    def test_a_call_without_an_id_gets_one(self, server: ModelServer) -> None:
        call = {"index": 0, "function": {"name": "t", "arguments": "{}"}}
        asked = deltas({"tool_calls": [call]})
        request = ModelRequest((UserMessage((Text("Hello"),), 7),))
        part = self.parts(server, asked, Finish("stop"), request=request)[0]
        assert part == ToolInputDelta(0, "call_7_1_0_0", "t", "{}")
        message = self.message(server, asked, Finish("stop"), request=request)
        assert message.content == (ToolCall("call_7_1_0_0", "t", {}),)
        assert message.stop_reason == "tool_use"

    def test_calls_of_one_index_are_told_apart_by_their_ids(self, server: ModelServer) -> None:
        function = {"name": "t", "arguments": "{}"}
        calls = [{"tool_calls": [{"id": name, "function": function}]} for name in "ab"]
        message = self.message(server, deltas(*calls), Finish("tool_use"))
        assert message.content == (ToolCall("a", "t", {}), ToolCall("b", "t", {}))


class TestClosingOpenAICalls(ClosingContract):
    provider = "openai"
    wire = OpenAIWire()
    make = OpenAIModel


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
