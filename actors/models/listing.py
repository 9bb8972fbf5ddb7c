"""What providers say about their models: asked for when needed, kept for a while."""

import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal

from actors.models import anthropic, openai
from actors.models._failures import Failures
from actors.models._sdk import well_formed
from actors.models.base import ModelError
from actors.models.info import Facts, Price
from actors.models.known import is_openai_chat
from persistence.native import run_soon

LIST_TIMEOUT_S = 5.0
WAIT_S = 15.0
"""The longest wait for a list: its SDK is imported first, and a server may send it drop by drop."""

KEPT_S = 600.0
PAUSE_AFTER_FAILURE_S = 60.0
MODELS_MAX = 1_000
TOKENS_PER_PRICE = 1_000_000
USD_MAX = 1_000_000

WINDOW_FIELDS = ("context_length", "max_model_len", "context_window", "max_context_length")
OUTPUT_FIELDS = ("max_completion_tokens", "max_output_tokens")
REASONING_PARAMETERS = frozenset({"reasoning", "reasoning_effort", "include_reasoning"})

_BEYOND_SHORT_NAME = re.compile(r"(?:-20\d{6}|:latest)$")

logger = logging.getLogger(__name__)

Fetch = Callable[[], Mapping[str, Facts]]


class Listed:
    """A provider's models, in its order."""

    def __init__(self, facts: Mapping[str, Facts]) -> None:
        self.facts = facts
        self._whole = {_BEYOND_SHORT_NAME.sub("", each): each for each in reversed(list(facts))}

    def find(self, model_id: str) -> Facts | None:
        """Return what is said about a model; its id may lack its date, or ``:latest``.

        Anthropic and Ollama take the short name too, and list the whole one only.
        """
        return self.facts.get(model_id) or self.facts.get(self._whole.get(model_id, ""))


class ProviderList:
    """One provider's list. Fetched on a thread of its own, by one at a time.

    A list is kept for KEPT_S. After a failure, which is logged, the provider is left alone for
    PAUSE_AFTER_FAILURE_S, and what was had before stays. ``fetch`` raises ModelError; ``now_s``
    tells the time in seconds.
    """

    def __init__(self, fetch: Fetch, now_s: Callable[[], float], wait_s: float = WAIT_S) -> None:
        self.had: Listed | None = None
        self._fetch = fetch
        self._now_s = now_s
        self._wait_s = wait_s
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._pause_s = 0.0
        self._fetching: threading.Event | None = None

    def refresh(self) -> threading.Event | None:
        """Begin to fetch what is old or missing; return what is set when it is through.

        Does not block. Returns None where there is nothing to wait for.
        """
        with self._lock:
            if self._fetching is None and not 0 <= self._now_s() - self._asked_at < self._pause_s:
                self._fetching = threading.Event()
                run_soon(self._run)
            return self._fetching

    def get(self) -> Listed | None:
        """Return the list, None where there never was one. Blocks ``wait_s`` at most."""
        fetching = self.refresh()
        if fetching is not None:
            fetching.wait(self._wait_s)
        return self.had

    def _run(self) -> None:
        pause_s = PAUSE_AFTER_FAILURE_S
        try:
            self.had = Listed(self._fetch())
            pause_s = KEPT_S
        except ModelError as error:
            logger.warning("There is no list of models: %s", error)
        finally:
            with self._lock:
                self._asked_at = self._now_s()
                self._pause_s = pause_s
                through, self._fetching = self._fetching, None
            assert through is not None
            through.set()


def anthropic_models(
    api_key: str, base_url: str | None, timeout_s: float = LIST_TIMEOUT_S
) -> dict[str, Facts]:
    """Return the models that Anthropic lists, without retired ones. Raises ModelError."""
    failures = Failures(anthropic.PROVIDER, api_key, timeout_s, timeout_s)
    with (
        failures.told(),
        anthropic.connect(
            api_key, base_url, timeout_s=timeout_s, connect_timeout_s=timeout_s
        ) as client,
    ):
        page = client.models.list(limit=MODELS_MAX)
        return {
            model_id: _anthropic_facts(each)
            for model_id, each in _models_of(page, anthropic.PROVIDER)
            if _at(each, "lifecycle") != "retired"
        }


def openai_models(
    api_key: str, base_url: str | None, timeout_s: float = LIST_TIMEOUT_S
) -> dict[str, Facts]:
    """Return the models that OpenAI or another server lists; of OpenAI's own, those for chats.

    Raises ModelError.
    """
    failures = Failures(openai.PROVIDER, api_key, timeout_s, timeout_s)
    own = openai.is_own(base_url)
    with (
        failures.told(),
        openai.connect(
            api_key, base_url, timeout_s=timeout_s, connect_timeout_s=timeout_s
        ) as client,
    ):
        return {
            model_id: _openai_facts(each)
            for model_id, each in _models_of(client.models.list(), openai.PROVIDER)
            if not own or is_openai_chat(model_id)
        }


def _models_of(page: object, provider: str) -> Iterator[tuple[str, object]]:
    """Yield the models of a list with their ids. The SDKs take any JSON, so nothing is certain."""
    models = _at(page, "data")
    if not isinstance(models, list):
        raise ModelError(f"{provider} sent something that is no list of models.")
    for each in models[:MODELS_MAX]:
        model_id = _text(_at(each, "id"))
        if model_id is not None:
            yield model_id, each


def _anthropic_facts(model: object) -> Facts:
    return Facts(
        name=_text(_at(model, "display_name")),
        context_tokens=_count(_at(model, "max_input_tokens")),
        output_tokens_max=_count(_at(model, "max_tokens")),
        reasoning=_flag(_at(model, "capabilities", "thinking", "supported")),
        vision=_flag(_at(model, "capabilities", "image_input", "supported")),
    )


def _openai_facts(model: object) -> Facts:
    """Return what servers say beside the schema: vLLM, OpenRouter, Groq, Mistral and others."""
    parameters = _at(model, "supported_parameters")
    inputs = _at(model, "architecture", "input_modalities")
    outputs = [*(_at(model, field) for field in OUTPUT_FIELDS)]
    outputs.append(_at(model, "top_provider", "max_completion_tokens"))
    return Facts(
        name=_text(_at(model, "name")),
        context_tokens=_first_count(_at(model, field) for field in WINDOW_FIELDS),
        output_tokens_max=_first_count(outputs),
        reasoning=any(each in parameters for each in REASONING_PARAMETERS)
        if isinstance(parameters, list)
        else None,
        vision="image" in inputs if isinstance(inputs, list) else None,
        price=_price(_at(model, "pricing")),
    )


def _price(pricing: object) -> Price | None:
    """Return OpenRouter's price, which is for one token; below zero it means that it varies."""
    told, answered = _usd(_at(pricing, "prompt")), _usd(_at(pricing, "completion"))
    if told is None or answered is None:
        return None
    read, written = _at(pricing, "input_cache_read"), _at(pricing, "input_cache_write")
    return Price(told, answered, _usd(read), _usd(written))


def _usd(price: object) -> float | None:
    if not isinstance(price, str | int | float):
        return None
    try:
        usd = float(Decimal(str(price)) * TOKENS_PER_PRICE)
    except (ArithmeticError, ValueError):
        return None
    return usd if 0 <= usd <= USD_MAX else None  # not infinite either, and not NaN


def _at(value: object, *path: str) -> object:
    """Return what lies there in SDK objects and plain JSON, None where nothing does."""
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def _first_count(values: Iterable[object]) -> int | None:
    return next((count for each in values if (count := _count(each)) is not None), None)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return well_formed(value) if isinstance(value, str) and value.strip() else None
