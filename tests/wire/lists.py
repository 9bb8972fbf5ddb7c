"""Lists of models, as each provider's servers write them."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Offer(NamedTuple):
    """A model in a list. ``fields`` come in addition, and as they are."""

    model_id: Any
    name: str | None = None
    context_tokens: int | None = None
    output_tokens_max: int | None = None
    reasoning: bool | None = None
    vision: bool | None = None
    fields: Mapping[str, Any] = {}


def openai_list(offers: Iterable[Offer]) -> dict[str, Any]:
    """Return a list with the fields that OpenRouter adds."""
    return {"object": "list", "data": [_openai(offer) for offer in offers]}


def anthropic_list(offers: Iterable[Offer]) -> dict[str, Any]:
    data = [_anthropic(offer) for offer in offers]
    return {"data": data, "has_more": True, "first_id": "first", "last_id": "last"}


def _openai(offer: Offer) -> dict[str, Any]:
    model: dict[str, Any] = {
        "id": offer.model_id,
        "object": "model",
        "created": 1,
        "owned_by": "me",
    }
    if offer.name is not None:
        model["name"] = offer.name
    if offer.context_tokens is not None:
        model["context_length"] = offer.context_tokens
    if offer.output_tokens_max is not None:
        model["top_provider"] = {"max_completion_tokens": offer.output_tokens_max}
    if offer.reasoning is not None:
        model["supported_parameters"] = ["tools", *(["reasoning"] * offer.reasoning)]
    if offer.vision is not None:
        model["architecture"] = {"input_modalities": ["text", *(["image"] * offer.vision)]}
    return {**model, **offer.fields}


def _anthropic(offer: Offer) -> dict[str, Any]:
    capabilities = {
        name: {"supported": supported}
        for name, supported in (("thinking", offer.reasoning), ("image_input", offer.vision))
        if supported is not None
    }
    model: dict[str, Any] = {
        "id": offer.model_id,
        "type": "model",
        "display_name": offer.name,
        "created_at": "2026-01-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": offer.context_tokens,
        "max_tokens": offer.output_tokens_max,
        "capabilities": capabilities or None,
    }
    return {**model, **offer.fields}
