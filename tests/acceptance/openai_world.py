"""A gateway with the endpoint of OpenAI's API, a provider behind it, and the SDK's clients."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import openai
import pytest

from actors.session.messages import Usage
from tests.acceptance.conftest import KEY, OpenGateway
from tests.acceptance.gateway import RunningGateway, text_of
from tests.wire.lists import Offer
from tests.wire.servers import Finish, ModelServer, OpenAIWire, Say

TOKEN = "canary-openai-token"
BOUND = "team:"
RULES = [{"tool": "write", "action": "ask"}]
RETRIES_S = 0.01
CHAT = "X-OpenWebUI-Chat-Id"
BODY_BYTES = 100_000
ANSWER = "The answer is four."

RESPONSE = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]
"""The events of a response, one of a kind in a row."""
UNSUPPORTED: dict[str, dict[str, Any]] = {
    "n": {"n": 2},
    "response_format": {"response_format": {"type": "json_object"}},
    "tool_choice": {"tool_choice": "required"},
    "logprobs": {"logprobs": True},
    "modalities": {"modalities": ["text", "audio"]},
}
"""What is refused, by its parameter."""


class World(NamedTuple):
    gateway: RunningGateway
    provider: ModelServer
    client: openai.OpenAI
    bound: openai.OpenAI
    reader: openai.OpenAI

    def history(self, key: str) -> list[tuple[str, str]]:
        answer = self.gateway.get(f"/sessions/{key}/history", **AUTHORIZED)
        return [(each["role"], text_of(each)) for each in answer.body["messages"]]

    def sessions(self) -> set[str]:
        answer = self.gateway.get("/sessions", **AUTHORIZED)
        return {each["sessionKey"] for each in answer.body["sessions"]}

    def told(self, *conversation: tuple[str, str], chat: str = "") -> Any:
        """Complete a conversation by the provider's model; return what that was told."""
        self.provider.reply((Say([ANSWER]), Finish("stop", Usage(11, 7, 5, 0))))
        complete(self.client, *conversation, model="openai/llama", **{CHAT: chat})
        return self.provider.requests[-1].body["messages"]


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def world(open_gateway: OpenGateway) -> Iterator[World]:
    with ModelServer(OpenAIWire()) as provider:
        provider.listing = (Offer("llama", None, 8_000, vision=True),)
        variables = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": provider.url}
        with open_gateway(
            variables=variables,
            openai_endpoint=True,
            token=TOKEN,
            model="demo/echo",
            tools="write",
            tool_rules=json.dumps(RULES),
            demo_delay_ms=20,
            heartbeat_s=0.01,
            model_retry_delay_s=RETRIES_S,
            model_retries_max=1,
            memory_enabled=False,
            queue_max=1,
            body_bytes_max=1_000,
            image_body_bytes_max=BODY_BYTES,
        ) as gateway:
            issued = [
                gateway.post("/tokens", body, **AUTHORIZED).body["token"]
                for body in (
                    {"name": "bound", "scopes": ["prompt"], "keyPrefix": BOUND},
                    {"name": "reader", "scopes": ["read"]},
                )
            ]
            yield World(gateway, provider, *[client_of(gateway, each) for each in (TOKEN, *issued)])


def client_of(gateway: RunningGateway, token: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=token, timeout=20)


def complete(
    client: openai.OpenAI, *conversation: tuple[str, str], model: str = "sessiond", **headers: str
) -> str:
    messages: Any = [{"role": role, "content": text} for role, text in conversation]
    given = {name.replace("_", "-"): value for name, value in headers.items() if value}
    found = client.chat.completions.create(model=model, messages=messages, extra_headers=given)
    return str(found.choices[0].message.content)
