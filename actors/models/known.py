"""What is known of models without asking their provider: from a package, and from their ids.

Prices and windows are those of the package genai-prices, which knows a server by its address:
what an unknown server asks for a model nobody can say. The package is imported on first use.

OpenAI's own list tells ids and nothing else, and the package nothing of abilities. So the
patterns below say which of OpenAI's ids reason, see pictures, or are no chat models at all;
of an id that fits none of them it isn't known. Those that only the Responses API serves can't be
told apart and stay in.
"""

import functools
import re
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from actors.models._sdk import Once
from actors.models.info import Facts, Price

if TYPE_CHECKING:
    import genai_prices.types as prices

LOOKUPS_KEPT = 2_048

_GPT_5_OR_LATER = r"gpt-(?:[5-9]|[1-9]\d)(?:\D|$)"
_REASONS = re.compile(rf"(?:o\d|codex-|gpt-oss|{_GPT_5_OR_LATER})(?!.*chat)")
_DOES_NOT_REASON = re.compile(r"(?:chatgpt-4|gpt-[34])")
_SEES = re.compile(
    rf"(?:o1(?!-mini|-preview)|o3(?!-mini)|o4|chatgpt-4o|gpt-4o|gpt-4\.|gpt-4-turbo(?!-preview)|"
    rf"{_GPT_5_OR_LATER})"
)
_NO_CHAT = re.compile(
    r"(?:^|[-_.])(?:audio|babbage|computer-use|dall-e|davinci|deep-research|embedding|image|"
    r"instruct|live|moderation|realtime|sora|transcribe|translate|tts|video|whisper)(?:[-_.]|$)"
)


class KnownModels:
    """The models of one server, as the package knows them."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._provider = Once(self._find_provider)
        self._find = functools.lru_cache(LOOKUPS_KEPT)(self._search)

    def facts(self, model_id: str, at: datetime) -> Facts:
        """Return what is known; prices are those at that time. Does not block on the network."""
        model = self._find(model_id)
        if model is None:
            return Facts()
        price = _price(model.get_prices(at)) if model.prices else None
        name = model.name if model.id == model_id else None  # not one for all dated versions
        return Facts(name, model.context_window, price=price)

    def _search(self, model_id: str) -> "prices.ModelInfo | None":
        provider, everyone = self._provider.get()
        return None if provider is None else provider.find_model(model_id, all_providers=everyone)

    def _find_provider(self) -> "tuple[prices.Provider | None, list[prices.Provider]]":
        from genai_prices import data_snapshot

        snapshot = data_snapshot.get_snapshot()
        try:
            return snapshot.find_provider(None, None, self._address), snapshot.providers
        except LookupError:
            return None, snapshot.providers


def openai_facts(model_id: str) -> Facts:
    """Return what the id of one of OpenAI's own models tells."""
    name = _tuned_from(model_id)
    reasoning = True if _REASONS.match(name) else None
    if _DOES_NOT_REASON.match(name):
        reasoning = False
    return Facts(reasoning=reasoning, vision=True if _SEES.match(name) else None)


def is_openai_chat(model_id: str) -> bool:
    """Tell whether an id of OpenAI's own list may be a chat model's."""
    return _NO_CHAT.search(_tuned_from(model_id)) is None


def _tuned_from(model_id: str) -> str:
    """Return the id of the model that one was fine-tuned from: ``ft:<that>:<owner>:<name>``."""
    return model_id.split(":")[1] if model_id.startswith("ft:") else model_id


def _price(price: "prices.ModelPrice") -> Price | None:
    told, answered = _usd(price.input_mtok), _usd(price.output_mtok)
    if told is None or answered is None:  # a price of pictures or minutes, not of tokens
        return None
    return Price(told, answered, _usd(price.cache_read_mtok), _usd(price.cache_write_mtok))


def _usd(price: "Decimal | prices.TieredPrices | None") -> float | None:
    """Return a price as a number; one that rises with the prompt's length as it begins."""
    if price is None:
        return None
    return float(price if isinstance(price, Decimal) else price.base)
