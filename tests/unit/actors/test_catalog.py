"""What is known of models, from whom, and which can be chosen."""

import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from actors.models.base import ModelRequest
from actors.models.catalog import DEMO, ModelCatalog
from actors.models.info import ModelInfo, Price
from actors.models.known import is_openai_chat, openai_facts
from actors.session.messages import Image, Text, UserMessage
from actors.session.state import ModelRef
from tests.unit.actors.world import DEADLINE_S, WorldSettings
from tests.wire.lists import Offer
from tests.wire.servers import (
    AnthropicWire,
    Finish,
    Meet,
    ModelServer,
    OpenAIWire,
    Recorded,
    Refuse,
    Say,
    Stall,
)
from web.configured import PROVIDERS, ConfiguredModel

KEY = "sk-canary-0123456789"
DEFAULT = ModelRef("anthropic", "claude-sonnet-5-5")
REQUEST = ModelRequest((UserMessage((Text("Hello"),), 0),), thinking_level="high")
CLAUDE = Offer("claude-x", "Claude X", 40_000, 64_000, reasoning=True, vision=True)
LOCAL = Offer("llama", None, 8_000, None, reasoning=False)


class Servers:
    """Both providers, and a catalog that knows only them."""

    def __init__(self, anthropic: ModelServer, openai: ModelServer) -> None:
        self.anthropic = anthropic
        self.openai = openai
        anthropic.listing = [CLAUDE]
        openai.listing = [LOCAL]

    def catalog(self, *models: ConfiguredModel, list_timeout_s: float = 5.0) -> ModelCatalog:
        environment = {
            "ANTHROPIC_API_KEY": KEY,
            "ANTHROPIC_BASE_URL": self.anthropic.url,
            "OPENAI_BASE_URL": self.openai.url,
        }
        settings = WorldSettings(models=models)
        return ModelCatalog(settings, environment, list_timeout_s=list_timeout_s)

    @property
    def asked(self) -> int:
        return len(self.anthropic.listings) + len(self.openai.listings)


@pytest.fixture(scope="module")
def sdks() -> None:
    """Import the SDKs: on a busy machine that takes longer than a list is waited for."""
    for name in ("anthropic", "openai"):
        importlib.import_module(name)


@pytest.fixture
def servers(sdks: None) -> Iterator[Servers]:
    with ExitStack() as stack:
        anthropic = stack.enter_context(ModelServer(AnthropicWire()))
        yield Servers(anthropic, stack.enter_context(ModelServer(OpenAIWire())))


def sent(
    catalog: ModelCatalog, server: ModelServer, ref: ModelRef, request: ModelRequest = REQUEST
) -> Recorded:
    """Return what the server gets of a request to the model."""
    server.reply([Say(["x"]), Finish()])
    with catalog.find(ref).stream(request) as stream:
        list(stream)
    return server.requests[-1]


def test_the_demo_is_all_there_is_without_providers() -> None:
    catalog = ModelCatalog(WorldSettings(), {})
    assert catalog.listed() == [ModelInfo("demo", "echo", "Echo (demo)", 8_192)]
    assert catalog.has(DEMO)
    assert not catalog.has(ModelRef("demo", "other"))
    assert not catalog.has(ModelRef("openai", "gpt"))


def test_the_list_has_the_demo_configured_models_the_default_and_the_providers(
    servers: Servers,
) -> None:
    mine = ConfiguredModel(provider="openai", id="mine")
    assert servers.catalog(mine).listed() == [
        ModelInfo("demo", "echo", "Echo (demo)", 8_192),
        ModelInfo("openai", "mine", "mine"),
        ModelInfo("anthropic", "claude-sonnet-5-5", "claude-sonnet-5-5"),
        ModelInfo("anthropic", "claude-x", "Claude X", 40_000, 64_000, reasoning=True, vision=True),
        ModelInfo("openai", "llama", "llama", 8_000),
    ]


def test_a_model_that_two_name_is_listed_once(servers: Servers) -> None:
    servers.anthropic.listing = [Offer(DEFAULT.model_id, "Sonnet")]
    listed = servers.catalog(ConfiguredModel(provider="openai", id="llama")).listed()
    assert [each.name for each in listed] == ["Echo (demo)", "llama", "Sonnet"]


def test_the_configuration_counts_more_than_the_provider_field_by_field(servers: Servers) -> None:
    catalog = servers.catalog(
        ConfiguredModel(
            provider="anthropic",
            id="claude-x",
            name="Mine",
            vision=False,
            input_price=1,
            output_price=2.5,
        )
    )
    catalog.listed()
    assert catalog.info(ModelRef("anthropic", "claude-x")) == ModelInfo(
        "anthropic",
        "claude-x",
        "Mine",
        40_000,
        64_000,
        reasoning=True,
        vision=False,
        price=Price(1, 2.5),
    )


def test_a_model_of_a_provider_without_a_key_is_not_there() -> None:
    settings = WorldSettings(models=(ConfiguredModel(provider="openai", id="mine"),))
    catalog = ModelCatalog(settings, {})
    assert not catalog.has(ModelRef("openai", "mine"))
    assert [each.provider for each in catalog.listed()] == ["demo"]


def test_nobody_is_asked_about_what_is_known(servers: Servers) -> None:
    catalog = servers.catalog(ConfiguredModel(provider="openai", id="mine"))
    for ref in (DEMO, DEFAULT, ModelRef("openai", "mine")):
        assert catalog.has(ref)
    for ref in (ModelRef("anthropic", ""), ModelRef("anthropic", "a\n"), ModelRef("x", "y")):
        assert not catalog.has(ref)
    assert not catalog.has(ModelRef("anthropic", "x" * 201))
    assert catalog.info(ModelRef("anthropic", "claude-x")).name == "claude-x"
    assert catalog.find(DEFAULT).context_tokens == 200_000
    assert servers.asked == 0


def test_what_is_not_listed_cannot_be_chosen(servers: Servers) -> None:
    catalog = servers.catalog()
    assert catalog.has(ModelRef("anthropic", "claude-x"))
    assert catalog.has(ModelRef("openai", "llama"))
    assert not catalog.has(ModelRef("anthropic", "llama"))
    assert not catalog.has(ModelRef("openai", "claude-x"))
    catalog.listed()
    assert servers.asked == 2


def test_where_there_is_no_list_any_model_can_be_chosen(servers: Servers) -> None:
    servers.openai.listing = Refuse(404, "There is no list here.")
    catalog = servers.catalog()
    assert catalog.has(ModelRef("openai", "anything"))
    assert not catalog.has(ModelRef("openai", ""))
    assert [each.model_id for each in catalog.listed()][-1] == "claude-x"


def test_providers_are_asked_at_once(servers: Servers) -> None:
    servers.anthropic.listing = servers.openai.listing = Meet(threading.Barrier(2))
    catalog = servers.catalog(list_timeout_s=3 * DEADLINE_S)
    assert [each.model_id for each in catalog.listed()] == ["echo", DEFAULT.model_id]
    assert not catalog.has(ModelRef("openai", "any"))


def test_providers_that_hang_are_not_waited_for_long(servers: Servers) -> None:
    servers.anthropic.listing = servers.openai.listing = Stall()
    catalog = servers.catalog(list_timeout_s=0.2)
    assert [each.model_id for each in catalog.listed()] == ["echo", DEFAULT.model_id]
    assert servers.asked == 2


def test_a_model_gets_the_limits_that_are_known_by_now(servers: Servers) -> None:
    catalog = servers.catalog()
    ref = ModelRef("anthropic", "claude-x")
    before = catalog.find(ref)
    assert catalog.find(ref) is before
    assert sent(catalog, servers.anthropic, ref).body["max_tokens"] == 8_192
    catalog.listed()
    assert catalog.find(ref).context_tokens == 40_000
    # A quarter of the window, and not the 64,000 of which the prompt would leave no room.
    assert sent(catalog, servers.anthropic, ref).body["max_tokens"] == 10_000
    assert catalog.find(ref) is catalog.find(ref)


def test_a_model_without_reasoning_is_not_told_to_think(servers: Servers) -> None:
    catalog = servers.catalog(
        ConfiguredModel(provider="openai", id="mine", reasoning=True),
        ConfiguredModel(provider="openai", id="plain", reasoning=False),
    )
    catalog.listed()

    def effort(model_id: str) -> object:
        body = sent(catalog, servers.openai, ModelRef("openai", model_id)).body
        return body.get("reasoning_effort")

    assert [effort(each) for each in ("mine", "plain", "llama", "unknown")] == [
        "high",
        None,
        None,
        "high",
    ]


def test_a_model_is_sent_pictures_unless_somebody_says_that_it_does_not_see(
    servers: Servers,
) -> None:
    servers.openai.listing = [Offer("blind", vision=False), Offer("seeing", vision=True)]
    servers.anthropic.listing = [Offer("claude-blind", vision=False)]
    catalog = servers.catalog()
    catalog.listed()
    looking = ModelRequest((UserMessage((Text("Look:"), Image("image/png", "aGk=")), 0),))

    def sees(server: ModelServer, ref: ModelRef) -> bool:
        return "aGk=" in str(sent(catalog, server, ref, looking).body)

    assert [
        sees(servers.openai, ModelRef("openai", each)) for each in ("blind", "seeing", "x")
    ] == [
        False,
        True,
        True,
    ]
    assert not sees(servers.anthropic, ModelRef("anthropic", "claude-blind"))
    assert sees(servers.anthropic, DEFAULT)


def test_a_short_name_stands_for_the_whole_one(servers: Servers) -> None:
    servers.anthropic.listing = [Offer("claude-y-20260101", "Claude Y", 5_000)]
    catalog = servers.catalog()
    ref = ModelRef("anthropic", "claude-y")
    assert catalog.has(ref)
    assert catalog.info(ref).context_tokens == 5_000
    assert ref not in [ModelRef(each.provider, each.model_id) for each in catalog.listed()]


@pytest.mark.parametrize(
    ("provider", "model_id"), [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-4.1")]
)
def test_prices_and_windows_are_known_of_the_providers_themselves(
    provider: str, model_id: str
) -> None:
    catalog = ModelCatalog(WorldSettings(), {f"{provider.upper()}_API_KEY": KEY})
    info = catalog.info(ModelRef(provider, model_id))
    assert info.price is not None
    assert 0 < info.price.input < info.price.output
    assert info.price.cache_read is not None
    assert 0 < info.price.cache_read < info.price.input
    assert info.context_tokens is not None
    assert info.context_tokens >= 200_000
    assert catalog.find(ModelRef(provider, model_id)).context_tokens == info.context_tokens
    dated = catalog.info(ModelRef(provider, f"{model_id}-2025-04-14"))
    assert (dated.price, dated.name) == (info.price, f"{model_id}-2025-04-14")
    assert catalog.info(ModelRef(provider, "nobody-knows-this")).price is None


def test_the_demo_costs_no_start_up_time() -> None:
    program = """
import sys
from actors.models.catalog import DEMO, ModelCatalog
from tests.unit.actors.world import WorldSettings
catalog = ModelCatalog(WorldSettings(), {"OPENAI_API_KEY": "x"})
catalog.info(DEMO), catalog.find(DEMO)
assert not {"genai_prices", "openai", "anthropic"} & sys.modules.keys()
"""
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True, timeout=DEADLINE_S)


def test_settings_and_catalog_know_the_same_providers() -> None:
    environment = {"ANTHROPIC_API_KEY": KEY, "OPENAI_API_KEY": KEY}
    catalog = ModelCatalog(WorldSettings(), environment)
    known = {catalog.resolve(ModelRef(each, "x")).provider for each in PROVIDERS}
    assert known == set(PROVIDERS)
    assert ConfiguredModel(provider=DEMO.provider, id=DEMO.model_id).provider == "demo"


@pytest.mark.parametrize(
    ("model_id", "reasoning", "vision"),
    [
        ("gpt-6.2-sol", True, True),
        ("gpt-5-mini", True, True),
        ("gpt-5-chat-latest", None, True),
        ("o3", True, True),
        ("o3-mini", True, None),
        ("gpt-oss-20b", True, None),
        ("gpt-4o-2024-11-20", False, True),
        ("gpt-4", False, None),
        ("gpt-3.5-turbo", False, None),
        ("ft:gpt-4.1-mini:me:gpt-9-vision:1", False, True),
        ("gpt-50-future", True, True),
        ("another", None, None),
    ],
)
def test_the_ids_of_openai_tell_what_its_list_does_not(
    model_id: str, reasoning: bool | None, vision: bool | None
) -> None:
    facts = openai_facts(model_id)
    assert (facts.reasoning, facts.vision) == (reasoning, vision)


@pytest.mark.parametrize(
    "model_id",
    [
        "text-embedding-3-small",
        "whisper-1",
        "gpt-4o-mini-tts",
        "tts-1-hd",
        "dall-e-3",
        "omni-moderation-latest",
        "gpt-image-1",
        "gpt-4o-realtime-preview",
        "gpt-audio-mini",
        "gpt-4o-transcribe",
        "sora-2",
        "davinci-002",
        "gpt-3.5-turbo-instruct",
    ],
)
def test_what_does_not_chat_is_told_by_its_id(model_id: str) -> None:
    assert not is_openai_chat(model_id)


@pytest.mark.parametrize("model_id", ["gpt-6.2-sol", "o3", "gpt-4o", "ft:gpt-4o:me:tts:1"])
def test_what_chats_stays(model_id: str) -> None:
    assert is_openai_chat(model_id)
