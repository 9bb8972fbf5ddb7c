"""Which models this process can call, what is known of them, and which one a session gets."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from actors.models.anthropic import ADDRESS as ANTHROPIC_ADDRESS
from actors.models.anthropic import AnthropicModel
from actors.models.base import Model, ModelError
from actors.models.demo import CONTEXT_TOKENS, MODEL_ID, NAME, PROVIDER, DemoModel
from actors.models.info import Facts, ModelInfo, Price, merged
from actors.models.known import KnownModels, openai_facts
from actors.models.listing import LIST_TIMEOUT_S, ProviderList, anthropic_models, openai_models
from actors.models.openai import ADDRESS as OPENAI_ADDRESS
from actors.models.openai import OpenAIModel, is_own
from actors.runs.context import ANSWER_SHARE
from actors.session.state import ModelRef

DEFAULT_MODELS = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-6.2-sol"}
"""What is called when a provider's key is there and no model is named."""

ADDRESSES = {"anthropic": ANTHROPIC_ADDRESS, "openai": OPENAI_ADDRESS}
"""Where a provider is unless its variable names another server."""

ID_CHARACTERS_MAX = 200

DEMO = ModelRef(PROVIDER, MODEL_ID)
DEMO_FACTS = Facts(NAME, CONTEXT_TOKENS)


class ConfiguredModel(Protocol):
    """What the configuration says about a model; None is what it doesn't say."""

    provider: str
    id: str
    name: str | None
    context_tokens: int | None
    output_tokens_max: int | None
    reasoning: bool | None
    vision: bool | None
    input_price: float | None
    output_price: float | None


class ModelSettings(Protocol):
    """What the catalog reads of the settings."""

    model: str | None
    demo_deltas: int
    demo_delay_ms: int
    model_stall_timeout_s: float

    @property
    def models(self) -> Sequence[ConfiguredModel]:
        """Models of which the configuration says something."""


Fetch = Callable[[str, str | None, float], Mapping[str, Facts]]
"""Fetches a provider's list with a key, from an address, in so many seconds."""


class ModelCatalog:
    """Finds models by reference, and tells about them.

    What is said about a model comes from the configuration, then from its provider's own list,
    then from what is known without asking; for each field the first that says something counts.
    A model is shared by all sessions, until something else is said about it.

    ``environment`` holds the providers' own variables: ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``,
    ``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``. A server of one's own at OPENAI_BASE_URL needs
    no key. ``now_s`` is the time in seconds since the epoch. Raises ModelError when the
    configured model can't be used.
    """

    def __init__(
        self,
        settings: ModelSettings,
        environment: Mapping[str, str],
        *,
        now_s: Callable[[], float] = time.time,
        list_timeout_s: float = LIST_TIMEOUT_S,
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._now_s = now_s
        self._list_timeout_s = list_timeout_s
        self._makers: dict[str, Callable[[str, Facts], Model]] = {PROVIDER: self._demo}
        self._lists: dict[str, ProviderList] = {}
        if environment.get("ANTHROPIC_API_KEY"):
            self._makers["anthropic"] = self._anthropic
            self._lists["anthropic"] = self._list(anthropic_models, "anthropic")
        if environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"):
            self._makers["openai"] = self._openai
            self._lists["openai"] = self._list(openai_models, "openai")
        self._known = {
            name: KnownModels(self._address(name) or ADDRESSES[name]) for name in self._lists
        }
        self._configured = {
            ModelRef(each.provider, each.id): _facts_of(each)
            for each in settings.models
            if each.provider in self._makers
        }
        self._models: dict[ModelRef, tuple[Facts, Model]] = {}
        self.default = self._choose_default()

    def resolve(self, chosen: ModelRef | None) -> ModelRef:
        """Return the chosen model, or the default where its provider isn't configured here."""
        return chosen if chosen is not None and chosen.provider in self._makers else self.default

    def has(self, ref: ModelRef) -> bool:
        """Tell whether a session may choose the model.

        That is one that ``listed`` returns, and where a provider's list can't be had any of its.
        Blocks as ``listed`` does, unless the answer is known.
        """
        if ref in (DEMO, self.default) or ref in self._configured:
            return True
        if ref.provider not in self._lists or not _may_be_id(ref.model_id):
            return False
        had = self._lists[ref.provider].get()
        return had is None or had.find(ref.model_id) is not None

    def listed(self) -> list[ModelInfo]:
        """Return the demo, configured models, the default, and what the providers list.

        Blocks while lists are fetched, some seconds at most; without those that can't be had.
        """
        for each in self._lists.values():
            each.refresh()  # all at once
        refs = [DEMO, *self._configured, self.default]
        for provider, each in self._lists.items():
            had = each.get()
            refs.extend(ModelRef(provider, model_id) for model_id in (had.facts if had else ()))
        return [self.info(ref) for ref in dict.fromkeys(refs)]

    def info(self, ref: ModelRef) -> ModelInfo:
        """Return what is known of a model by now. Does not block."""
        facts = self._facts(ref)
        return ModelInfo(
            ref.provider,
            ref.model_id,
            facts.name or ref.model_id,
            facts.context_tokens,
            facts.output_tokens_max,
            reasoning=bool(facts.reasoning),
            vision=bool(facts.vision),
            price=facts.price,
        )

    def find(self, chosen: ModelRef | None) -> Model:
        """Return the model that ``resolve`` names, with the limits known by now."""
        ref = self.resolve(chosen)
        facts = self._facts(ref)
        before, model = self._models.get(ref, (None, None))
        if model is None or facts != before:
            model = self._makers[ref.provider](ref.model_id, facts)
            self._models[ref] = facts, model
        return model

    def _facts(self, ref: ModelRef) -> Facts:
        sources = [self._configured.get(ref, Facts())]
        if ref.provider in self._lists:
            had = self._lists[ref.provider].had
            sources.append((had and had.find(ref.model_id)) or Facts())
            at = datetime.fromtimestamp(self._now_s(), UTC)
            sources.append(self._known[ref.provider].facts(ref.model_id, at))
        if ref == DEMO:
            sources.append(DEMO_FACTS)
        elif ref.provider == "openai" and is_own(self._address("openai")):
            sources.append(openai_facts(ref.model_id))
        return merged(sources)

    def _choose_default(self) -> ModelRef:
        named = self._settings.model
        if named is not None:
            provider, _, model_id = named.partition("/")
            if provider not in self._makers or not model_id:
                raise ModelError(
                    f"The model {named!r} can't be used: name it provider/id, with a provider of "
                    f"{', '.join(self._makers)}. openai needs OPENAI_API_KEY or OPENAI_BASE_URL, "
                    "anthropic needs ANTHROPIC_API_KEY."
                )
            return ModelRef(provider, model_id)
        for provider in ("anthropic", "openai"):
            if self._environment.get(f"{provider.upper()}_API_KEY"):
                return ModelRef(provider, DEFAULT_MODELS[provider])
        return ModelRef(PROVIDER, MODEL_ID)

    def _demo(self, _model_id: str, facts: Facts) -> Model:
        return DemoModel(
            deltas=self._settings.demo_deltas,
            delay_ms=self._settings.demo_delay_ms,
            context_tokens=facts.context_tokens,
        )

    def _openai(self, model_id: str, facts: Facts) -> Model:
        return OpenAIModel(
            model_id,
            api_key=self._key("openai"),
            base_url=self._address("openai"),
            stall_timeout_s=self._settings.model_stall_timeout_s,
            context_tokens=facts.context_tokens,
            max_output_tokens=_answer_limit(facts),
            reasoning=facts.reasoning is not False,
            vision=facts.vision is not False,
        )

    def _anthropic(self, model_id: str, facts: Facts) -> Model:
        return AnthropicModel(
            model_id,
            api_key=self._key("anthropic"),
            base_url=self._address("anthropic"),
            stall_timeout_s=self._settings.model_stall_timeout_s,
            context_tokens=facts.context_tokens,
            max_output_tokens=_answer_limit(facts),
            reasoning=facts.reasoning is not False,
            vision=facts.vision is not False,
        )

    def _list(self, fetch: Fetch, provider: str) -> ProviderList:
        timeout_s = self._list_timeout_s
        key, address = self._key(provider), self._address(provider)
        return ProviderList(lambda: fetch(key, address, timeout_s), self._now_s)

    def _key(self, provider: str) -> str:
        return self._environment.get(f"{provider.upper()}_API_KEY", "")

    def _address(self, provider: str) -> str | None:
        return self._environment.get(f"{provider.upper()}_BASE_URL") or None


def _may_be_id(text: str) -> bool:
    return 0 < len(text) <= ID_CHARACTERS_MAX and text.isprintable()


def _facts_of(model: ConfiguredModel) -> Facts:
    price = None
    if model.input_price is not None and model.output_price is not None:
        price = Price(model.input_price, model.output_price)
    return Facts(
        model.name,
        model.context_tokens,
        model.output_tokens_max,
        model.reasoning,
        model.vision,
        price,
    )


def _answer_limit(facts: Facts) -> int | None:
    """Return how long an answer may be: never longer than what the context leaves free for it.

    Servers refuse a request whose prompt and longest answer together don't fit the window.
    """
    longest = facts.output_tokens_max
    if longest is None or facts.context_tokens is None:
        return longest
    return max(1, min(longest, int(facts.context_tokens * ANSWER_SHARE)))
