"""The models that sessions may choose."""

import falcon
from msgspec import UNSET

from actors.models.info import ModelInfo, Price
from web.operations import READ, operation
from web.resources.base import Resource
from web.schemas import ModelChoice, ModelList, ModelShown, PriceShown, body_of

CAPABILITIES = ("reasoning", "vision")


class ModelsResource(Resource):
    """GET /models."""

    @operation(READ, {200: ModelList})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the models, and with the primary session's; waits for their providers."""
        registry = self._gateway.registry
        primary = registry.state(self._gateway.settings.primary_session)
        current = registry.models.resolve(primary.model)
        models = [_shown(each) for each in registry.models.listed()]
        choice = ModelChoice(current.provider, current.model_id)
        response.data = body_of(ModelList(models, choice))


def _shown(model: ModelInfo) -> ModelShown:
    return ModelShown(
        model.provider,
        model.model_id,
        model.name,
        [each for each in CAPABILITIES if getattr(model, each)],
        UNSET if model.context_tokens is None else model.context_tokens,
        UNSET if model.output_tokens_max is None else model.output_tokens_max,
        UNSET if model.price is None else _price(model.price),
    )


def _price(price: Price) -> PriceShown:
    return PriceShown(
        price.input,
        price.output,
        UNSET if price.cache_read is None else price.cache_read,
        UNSET if price.cache_write is None else price.cache_write,
    )
