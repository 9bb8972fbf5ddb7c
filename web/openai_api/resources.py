"""What is served below /v1: models, chat completions and responses."""

from collections.abc import Iterator, Sequence
from typing import Literal

import falcon
from msgspec import Struct

from web.errors import Problem
from web.openai_api.answering import Asked, respond
from web.openai_api.choosing import Choice, Prepared, choice_of, named
from web.openai_api.completions import Completion, CompletionWriter
from web.openai_api.conversation import conversation_of
from web.openai_api.errors import ErrorEnvelope, no_model
from web.openai_api.inputs import ANY_MODEL, CompletionBody, OpenAIHeaders, ResponseBody
from web.openai_api.responses import Described, OpenAIResponse, ResponseWriter, key_in
from web.operations import EVENT_STREAM, PROMPT, READ, operation
from web.prompts import PROMPT_ERRORS
from web.resources.base import Resource, Route
from web.schemas import body_of

ERRORS = (*PROMPT_ERRORS, 404, 409, 502)


class OpenAIModel(Struct, frozen=True):
    """A model; its provider doesn't say since when there is one, so ``created`` is 0."""

    id: str
    owned_by: str
    object: Literal["model"] = "model"
    created: int = 0


class OpenAIModels(Struct, frozen=True):
    """The models that a request may name."""

    data: list[OpenAIModel]
    object: Literal["list"] = "list"


class _ModelsResource(Resource):
    def _listed(self) -> Iterator[OpenAIModel]:
        """Yield the models as provider/id, the first of them the session's own."""
        yield OpenAIModel(ANY_MODEL, "sessiond")
        for each in self._gateway.registry.models.listed():
            yield OpenAIModel(f"{each.provider}/{each.model_id}", each.provider)


class OpenAIModelsResource(_ModelsResource):
    """GET /v1/models."""

    @operation(READ, {200: OpenAIModels}, problem=ErrorEnvelope)
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the models that a request may name; waits for their providers."""
        response.data = body_of(OpenAIModels(list(self._listed())))


class OpenAIModelResource(_ModelsResource):
    """GET /v1/models/{model}."""

    @operation(READ, {200: OpenAIModel}, errors=(404,), problem=ErrorEnvelope)
    def on_get(self, _request: falcon.Request, response: falcon.Response, model: str) -> None:
        """Answer with one of the models; waits for their providers."""
        for each in self._listed():
            if each.id == model:
                response.data = body_of(each)
                return
        raise no_model(model)


class CompletionsResource(Resource):
    """POST /v1/chat/completions."""

    @operation(
        PROMPT,
        {200: (Completion, EVENT_STREAM)},
        body=CompletionBody,
        images=True,
        headers=OpenAIHeaders,
        errors=ERRORS,
        problem=ErrorEnvelope,
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Prompt a session with the last message, and answer as OpenAI's API does.

        The run goes on when the client leaves.
        """
        body: CompletionBody = request.context.body
        now_ms = self._gateway.registry.now_ms()
        conversation = conversation_of(body.messages, now_ms)
        stream = bool(body.stream)
        choice = choice_of(request, body.user, task=conversation.is_task and not stream)
        usage = body.stream_options is not None and bool(body.stream_options.include_usage)
        respond(
            self._gateway,
            request,
            response,
            Asked(conversation, choice, body.model, stream),
            lambda prepared: CompletionWriter(now_ms // 1_000, prepared.model_name, usage=usage),
        )


class ResponsesResource(Resource):
    """POST /v1/responses."""

    @operation(
        PROMPT,
        {200: (OpenAIResponse, EVENT_STREAM)},
        body=ResponseBody,
        images=True,
        headers=OpenAIHeaders,
        errors=ERRORS,
        problem=ErrorEnvelope,
    )
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Prompt a session with the last item, and answer as OpenAI's API does.

        The run goes on when the client leaves.
        """
        body: ResponseBody = request.context.body
        now_ms = self._gateway.registry.now_ms()
        conversation = conversation_of(body.messages, now_ms, body.instructions)
        stream = bool(body.stream)
        choice = self._choice(request, body, task=conversation.is_task and not stream)
        respond(
            self._gateway,
            request,
            response,
            Asked(conversation, choice, body.model, stream),
            lambda prepared: ResponseWriter(_described(body, prepared, now_ms // 1_000)),
        )

    def _choice(self, request: falcon.Request, body: ResponseBody, *, task: bool) -> Choice:
        if body.previous_response_id is None:
            return choice_of(request, body.user, task=task)
        choice = named(request, key_in(body.previous_response_id))
        self._gateway.registry.state(choice.key)
        return choice


def _described(body: ResponseBody, prepared: Prepared, created_s: int) -> Described:
    return Described(
        prepared.key,
        created_s,
        prepared.model_name,
        body.instructions,
        body.previous_response_id,
        body.metadata,
    )


OPENAI_ROUTES: tuple[Route, ...] = (
    ("/v1/models", OpenAIModelsResource),
    ("/v1/models/{model:path}", OpenAIModelResource),
    ("/v1/chat/completions", CompletionsResource),
    ("/v1/responses", ResponsesResource),
)


def switched_off(req: falcon.Request, resp: falcon.Response, **_parts: str) -> None:  # noqa: ARG001 - Falcon passes them by name
    """Falcon's answer below /v1 where it isn't served."""
    text = "OpenAI's API is off here: SESSIOND_OPENAI_ENDPOINT=true switches it on."
    raise Problem(404, text)


def openai_routes(*, served: bool) -> Sequence[Route]:
    """Return the paths of OpenAI's API, where they are served."""
    return OPENAI_ROUTES if served else ()
