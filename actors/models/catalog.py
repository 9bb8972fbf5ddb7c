"""Which models this process can call, and which one a session gets."""

from collections.abc import Callable, Mapping
from typing import Protocol

from actors.models.base import Model, ModelError
from actors.models.demo import MODEL_ID, PROVIDER, DemoModel
from actors.session.state import ModelRef

DEFAULT_MODELS = {"anthropic": "claude-sonnet-5-5", "openai": "gpt-6.2-sol"}
"""What is called when a provider's key is there and no model is named."""


class ModelSettings(Protocol):
    """What the catalog reads of the settings."""

    model: str | None
    demo_deltas: int
    demo_delay_ms: int
    model_stall_timeout_s: float


class ModelCatalog:
    """Finds models by reference; each is made once and shared by all sessions.

    ``environment`` holds the providers' own variables: ``OPENAI_API_KEY``, ``OPENAI_BASE_URL``,
    ``ANTHROPIC_API_KEY``, ``ANTHROPIC_BASE_URL``. A server of one's own at OPENAI_BASE_URL needs
    no key. Raises ModelError when the configured model can't be used.
    """

    def __init__(self, settings: ModelSettings, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self._makers: dict[str, Callable[[str], Model]] = {PROVIDER: self._demo}
        if environment.get("ANTHROPIC_API_KEY"):
            self._makers["anthropic"] = self._anthropic
        if environment.get("OPENAI_API_KEY") or environment.get("OPENAI_BASE_URL"):
            self._makers["openai"] = self._openai
        self._models: dict[ModelRef, Model] = {}
        self.default = self._choose_default()

    def resolve(self, chosen: ModelRef | None) -> ModelRef:
        """Return the chosen model, or the default where its provider isn't configured here."""
        return chosen if chosen is not None and chosen.provider in self._makers else self.default

    def has(self, ref: ModelRef) -> bool:
        """Tell whether a session may choose the model: its provider is configured."""
        if ref.provider == PROVIDER:
            return ref.model_id == MODEL_ID
        return ref.provider in self._makers and bool(ref.model_id)

    def find(self, chosen: ModelRef | None) -> Model:
        """Return the model that ``resolve`` names."""
        ref = self.resolve(chosen)
        model = self._models.get(ref)
        if model is None:
            model = self._models[ref] = self._makers[ref.provider](ref.model_id)
        return model

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

    def _demo(self, _model_id: str) -> Model:
        return DemoModel(deltas=self._settings.demo_deltas, delay_ms=self._settings.demo_delay_ms)

    def _openai(self, model_id: str) -> Model:
        from actors.models.openai import OpenAIModel

        return OpenAIModel(
            model_id,
            api_key=self._environment.get("OPENAI_API_KEY", "none"),
            base_url=self._environment.get("OPENAI_BASE_URL") or None,
            stall_timeout_s=self._settings.model_stall_timeout_s,
        )

    def _anthropic(self, model_id: str) -> Model:
        from actors.models.anthropic import AnthropicModel

        return AnthropicModel(
            model_id,
            api_key=self._environment["ANTHROPIC_API_KEY"],
            base_url=self._environment.get("ANTHROPIC_BASE_URL") or None,
            stall_timeout_s=self._settings.model_stall_timeout_s,
        )
