"""The models of a real gateway: what it lists, and what a session's choice sends to providers."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import pytest

from tests.acceptance.conftest import OpenGateway
from tests.acceptance.gateway import Answer, RunningGateway, check_log, until
from tests.wire.lists import Offer
from tests.wire.servers import (
    AnthropicWire,
    Finish,
    ModelServer,
    OpenAIWire,
    Refuse,
    Say,
)

KEY = "sk-canary-0123456789"
CONFIGURED = (
    '[{"provider": "openai", "id": "mine", "name": "My model", "context_tokens": 4000,'
    ' "vision": true, "input_price": 0.5, "output_price": 2}]'
)
CLAUDE = Offer("claude-x", "Claude X", 40_000, 8_000, reasoning=True, vision=True)
PLAIN_CLAUDE = Offer("claude-plain", "Claude Plain", reasoning=False)
LLAMA = Offer("llama", None, 8_000, reasoning=True)
PLAIN_LLAMA = Offer("plain", "Plain", reasoning=False, vision=False)

DEMO_SHOWN = {
    "provider": "demo",
    "modelId": "echo",
    "displayName": "Echo (demo)",
    "capabilities": [],
    "contextWindow": 8192,
}


class World(NamedTuple):
    gateway: RunningGateway
    anthropic: ModelServer
    openai: ModelServer

    @property
    def listings(self) -> tuple[int, int]:
        return len(self.anthropic.listings), len(self.openai.listings)

    def models(self) -> Any:
        answer = self.gateway.get("/models")
        assert answer.status == 200
        return answer.body

    def ids(self) -> list[str]:
        return [each["modelId"] for each in self.models()["models"]]

    def until_listed(self, *model_ids: str) -> None:
        """Wait for lists: on a busy machine their SDKs are not there when the first answer is."""
        until(lambda: set(model_ids) <= set(self.ids()), f"{model_ids} are listed")

    def choose(self, key: str, **fields: object) -> Answer:
        return self.gateway.post(f"/sessions/{key}/model", fields)

    def made(self, key: str) -> str:
        """Make a session without calling a model of a provider."""
        assert self.gateway.post(f"/sessions/{key}/enqueue", {"text": "x"}).status == 202
        return key


@contextmanager
def opened(open_gateway: OpenGateway, **settings: object) -> Iterator[World]:
    """Open a gateway with both providers; the demo is its default model."""
    with ExitStack() as stack:
        anthropic = stack.enter_context(ModelServer(AnthropicWire()))
        openai = stack.enter_context(ModelServer(OpenAIWire()))
        anthropic.listing = [CLAUDE, PLAIN_CLAUDE]
        openai.listing = [LLAMA, PLAIN_LLAMA]
        variables = {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": anthropic.url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": openai.url,
        }
        settings = {"model": "demo/echo", "models": CONFIGURED} | settings
        running = stack.enter_context(open_gateway(variables=variables, **settings))
        yield World(running, anthropic, openai)
        check_log(running.folder, running)
        assert KEY not in running.log


@pytest.fixture(
    scope="module", params=["gevent", pytest.param("gthread", marks=pytest.mark.exhaustive)]
)
def worker_class(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def world(open_gateway: OpenGateway, worker_class: str) -> Iterator[World]:
    with opened(open_gateway, worker_class=worker_class) as made:
        yield made


@pytest.fixture
def fresh(open_gateway: OpenGateway) -> Iterator[World]:
    with opened(open_gateway) as made:
        yield made


def test_the_list_has_the_models_of_both_providers(world: World) -> None:
    world.until_listed("claude-x", "llama")
    assert world.models() == {
        "models": [
            DEMO_SHOWN,
            {
                "provider": "openai",
                "modelId": "mine",
                "displayName": "My model",
                "capabilities": ["vision"],
                "contextWindow": 4_000,
                "price": {"input": 0.5, "output": 2.0},
            },
            {
                "provider": "anthropic",
                "modelId": "claude-x",
                "displayName": "Claude X",
                "capabilities": ["reasoning", "vision"],
                "contextWindow": 40_000,
                "maxOutputTokens": 8_000,
            },
            {
                "provider": "anthropic",
                "modelId": "claude-plain",
                "displayName": "Claude Plain",
                "capabilities": [],
            },
            {
                "provider": "openai",
                "modelId": "llama",
                "displayName": "llama",
                "capabilities": ["reasoning"],
                "contextWindow": 8_000,
            },
            {
                "provider": "openai",
                "modelId": "plain",
                "displayName": "Plain",
                "capabilities": [],
            },
        ],
        "current": {"provider": "demo", "modelId": "echo"},
    }


def test_providers_are_asked_once_for_all_who_want_the_list(fresh: World) -> None:
    assert fresh.listings == (0, 0)
    fresh.until_listed("claude-x", "llama")
    first = fresh.ids()
    fresh.openai.listing = fresh.anthropic.listing = ()
    assert fresh.ids() == first
    assert fresh.choose(fresh.made("k"), provider="openai", modelId="llama").status == 200
    assert fresh.listings == (1, 1)


def test_a_provider_that_fails_takes_nothing_from_the_other(fresh: World) -> None:
    fresh.anthropic.listing = Refuse(401, f"{KEY} is not a key.")
    fresh.until_listed("llama")
    line = "There is no list of models: anthropic answered 401: [key] is not a key."
    until(lambda: line in fresh.gateway.log, "the other one has been asked")
    assert fresh.ids() == ["echo", "mine", "llama", "plain"]
    assert fresh.ids() == ["echo", "mine", "llama", "plain"]
    assert fresh.listings == (1, 1)
    assert fresh.gateway.log.count(line) == 1
    key = fresh.made("k")
    assert fresh.choose(key, provider="anthropic", modelId="whatever").status == 200
    assert fresh.choose(key, provider="anthropic", modelId="").status == 404


def test_current_is_the_primary_sessions_model(fresh: World) -> None:
    chosen = {"provider": "anthropic", "modelId": "claude-x"}
    assert fresh.choose("web:main", **chosen).body == {"ok": True, "model": chosen}
    assert fresh.models()["current"] == chosen
    assert fresh.gateway.snapshot("web:main")["modelId"] == "claude-x"


def test_a_model_that_no_list_has_is_not_found(world: World) -> None:
    key = world.made("unknown")
    for provider, model_id in [
        ("openai", "claude-x"),
        ("anthropic", "llama"),
        ("demo", "other"),
        ("openai", ""),
        ("openai", "x" * 1_000),
        ("other", "llama"),
    ]:
        refused = world.choose(key, provider=provider, modelId=model_id)
        assert refused.status == 404
        assert refused.body["error"] == f"Model not found: {provider}/{model_id}"
    assert world.gateway.snapshot(key)["modelProvider"] == "demo"


def answered_body(world: World, server: ModelServer, key: str) -> dict[str, Any]:
    """Prompt the session, and return what the server was sent."""
    server.reply([Say(["Yes."]), Finish()])
    answer = world.gateway.post(f"/sessions/{key}/messages", {"text": "Are you there?"})
    assert answer.body["response"] == "Yes."
    return server.requests[-1].body


def test_the_chosen_model_is_called_and_thinks_as_much_as_chosen(world: World) -> None:
    key = world.made("thinking")
    chosen = {"provider": "openai", "modelId": "llama"}
    answer = world.choose(key, **chosen, thinkingLevel="high")
    assert answer.body == {"ok": True, "model": chosen, "thinkingLevel": "high"}
    body = answered_body(world, world.openai, key)
    assert (body["model"], body["reasoning_effort"]) == ("llama", "high")

    chosen = {"provider": "anthropic", "modelId": "claude-x"}
    assert world.choose(key, **chosen).body == {
        "ok": True,
        "model": chosen,
        "thinkingLevel": "high",
    }
    body = answered_body(world, world.anthropic, key)
    assert (body["model"], body["max_tokens"]) == ("claude-x", 8_000)
    assert body["thinking"]["type"] == "adaptive"
    assert body["output_config"] == {"effort": "high"}


def test_a_model_without_reasoning_is_not_told_to_think(world: World) -> None:
    key = world.made("plain")
    plain = [("openai", "plain", world.openai), ("anthropic", "claude-plain", world.anthropic)]
    for provider, model_id, server in plain:
        answer = world.choose(key, provider=provider, modelId=model_id, thinkingLevel="low")
        assert answer.body["thinkingLevel"] == "low"
        body = answered_body(world, server, key)
        assert body["model"] == model_id
        assert not {"reasoning_effort", "thinking", "output_config"} & body.keys()


def test_the_thinking_level_alone_leaves_the_model(world: World) -> None:
    key = world.made("level")
    assert "thinkingLevel" not in world.gateway.snapshot(key)
    first = world.choose(key, thinkingLevel="minimal")
    assert first.body["model"] == {"provider": "demo", "modelId": "echo"}
    chosen = {"provider": "openai", "modelId": "llama"}
    world.choose(key, **chosen)
    answer = world.choose(key, thinkingLevel="off")
    assert answer.body == {"ok": True, "model": chosen, "thinkingLevel": "off"}
    assert world.gateway.snapshot(key)["thinkingLevel"] == "off"
    assert "reasoning_effort" not in answered_body(world, world.openai, key)


@pytest.mark.parametrize("level", ["", "max", "HIGH", "high ", None, 3, True, ["high"], {}])
def test_a_thinking_level_that_is_none_is_refused_with_those_there_are(
    world: World, level: object
) -> None:
    key = world.made("odd")
    refused = world.choose(key, provider="openai", modelId="llama", thinkingLevel=level)
    assert refused.status == 422
    assert refused.body["detail"] == "thinkingLevel is one of off, minimal, low, medium, high."
    assert world.gateway.snapshot(key)["modelProvider"] == "demo"


def test_model_and_thinking_level_are_kept_over_a_restart(fresh: World) -> None:
    key = fresh.made("kept")
    fresh.choose(key, provider="openai", modelId="llama", thinkingLevel="medium")
    fresh.gateway.restart()
    shown = fresh.gateway.snapshot(key)
    assert (shown["modelId"], shown["thinkingLevel"]) == ("llama", "medium")
    listed = fresh.gateway.get(f"/sessions?prefix={key}").body["sessions"]
    assert [each["thinkingLevel"] for each in listed] == ["medium"]
    body = answered_body(fresh, fresh.openai, key)
    assert (body["model"], body["reasoning_effort"]) == ("llama", "medium")
    assert fresh.listings == (0, 1)
