"""GET /v1/models, POST /v1/chat/completions and POST /v1/responses."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import falcon
from msgspec import Struct

from actors.errors import SessionNotFound
from actors.feed import Committed, FeedClosedError
from actors.tail import Tail
from web.bootstrap import Gateway
from web.openai_api.answer import Answer, Failure, Piece
from web.openai_api.choosing import SOURCE, Choice, Prepared, choice_of, named, prepare
from web.openai_api.completions import Completion, CompletionStream, completion
from web.openai_api.conversation import Conversation, conversation_of
from web.openai_api.errors import ErrorEnvelope, problem_of_failure
from web.openai_api.inputs import ANY_MODEL, CompletionBody, OpenAIHeaders, ResponseBody
from web.openai_api.responses import (
    Described,
    OpenAIResponse,
    ResponseStream,
    key_in,
    response_of,
)
from web.operations import EVENT_STREAM, PROMPT, READ, operation
from web.prompts import PROMPT_ERRORS, STOPPED, queue_prompt
from web.resources.base import Resource, Route
from web.schemas import body_of
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT
from web.streams import StreamSlot, bounded_writes

SESSION_KEY = "X-Session-Key"
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


class Encoder(Protocol):
    """How an answer is streamed."""

    def opening(self) -> Iterator[bytes]:
        """Yield what comes before the first piece."""

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Yield a piece."""

    def ending(self) -> Iterator[bytes]:
        """Yield what comes after the last piece."""


class OpenAIModelsResource(Resource):
    """GET /v1/models."""

    @operation(READ, {200: OpenAIModels}, problem=ErrorEnvelope)
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the models as provider/id, the first of them the session's own."""
        listed = self._gateway.registry.models.listed()
        models = [OpenAIModel(f"{each.provider}/{each.model_id}", each.provider) for each in listed]
        response.data = body_of(OpenAIModels([OpenAIModel(ANY_MODEL, "sessiond"), *models]))


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
        choice = choice_of(request, body.user)
        created_s = now_ms // 1_000
        with _prompted(self._gateway, request, choice, conversation, body.model) as prompted:
            answer, model = prompted.answer, prompted.prepared.model_name
            if body.stream:
                usage = body.stream_options is not None and bool(body.stream_options.include_usage)
                stream = CompletionStream(answer, created_s, model, usage=usage)
                prompted.stream(request, response, stream)
            else:
                prompted.wait(response)
                response.data = body_of(completion(answer, created_s, model))


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
        choice = self._choice(request, body)
        with _prompted(self._gateway, request, choice, conversation, body.model) as prompted:
            described = Described(
                prompted.prepared.key,
                now_ms // 1_000,
                prompted.prepared.model_name,
                body.instructions,
                body.previous_response_id,
                body.metadata,
            )
            if body.stream:
                prompted.stream(request, response, ResponseStream(prompted.answer, described))
            else:
                prompted.wait(response)
                response.data = body_of(response_of(prompted.answer, described))

    def _choice(self, request: falcon.Request, body: ResponseBody) -> Choice:
        if body.previous_response_id is None:
            return choice_of(request, body.user)
        choice = named(request, key_in(body.previous_response_id))
        self._gateway.registry.state(choice.key)
        return choice


OPENAI_ROUTES: tuple[Route, ...] = (
    ("/v1/models", OpenAIModelsResource),
    ("/v1/chat/completions", CompletionsResource),
    ("/v1/responses", ResponsesResource),
)


def openai_routes(*, served: bool) -> Sequence[Route]:
    """Return the paths of OpenAI's API, where they are served."""
    return OPENAI_ROUTES if served else ()


class _Prompted:
    """A prompt that was accepted, and its answer as it comes."""

    def __init__(
        self, gateway: Gateway, prepared: Prepared, prompt_id: str, tail: Tail, slot: StreamSlot
    ) -> None:
        self.prepared = prepared
        self.answer = Answer(prompt_id)
        self.streams = False
        self._gateway = gateway
        self._tail = tail
        self._slot = slot

    def close(self) -> None:
        """Follow the session no longer."""
        self._tail.close()
        self._slot.close()

    def wait(self, response: falcon.Response) -> None:
        """Wait for the whole answer. Raises Refused where there is none."""
        for _pieces in self._pieces():
            pass
        if self.answer.failure is not None:
            raise problem_of_failure(self.answer.failure)
        response.set_header(SESSION_KEY, _header(self.prepared.key))

    def stream(self, request: falcon.Request, response: falcon.Response, encoder: Encoder) -> None:
        """Answer with the pieces as they come."""
        self.streams = True
        response.content_type = CONTENT_TYPE
        response.set_headers(HEADERS)
        response.set_header(SESSION_KEY, _header(self.prepared.key))
        frames = self._frames(encoder)
        response.stream = bounded_writes(request, self._gateway, frames, self._tail, self._slot)

    def _frames(self, encoder: Encoder) -> Iterator[bytes]:
        yield b"".join(encoder.opening())
        try:
            for pieces in self._pieces():
                frames = [frame for piece in pieces for frame in encoder.piece(piece)]
                if frames or not pieces:
                    yield b"".join(frames) or HEARTBEAT
        except GeneratorExit:
            self._gateway.log_lines.add(f"[openai] session={self._tail.key} client disconnected")
            raise
        yield b"".join(encoder.ending())

    def _pieces(self) -> Iterator[list[Piece]]:
        """Yield what has come, until all has: an empty list where nothing has for a while."""
        answer, gateway = self.answer, self._gateway
        try:
            while not answer.done:
                batch = self._tail.next(gateway.settings.heartbeat_s)
                pieces = [piece for each in batch for piece in answer.pieces(each.event)]
                if batch and _waits_now(gateway, batch[-1]):
                    pieces.extend(answer.waiting(batch[-1].state.pending))
                if pieces or not batch:
                    yield pieces
        except FeedClosedError:
            answer.done, answer.failure = True, Failure(503, STOPPED)


@contextlib.contextmanager
def _prompted(
    gateway: Gateway,
    request: falcon.Request,
    choice: Choice,
    conversation: Conversation,
    model: str,
) -> Iterator[_Prompted]:
    """Queue the prompt, durably; what it holds is let go of here unless it streams."""
    slot = StreamSlot(gateway)
    try:
        prepared = prepare(gateway, request, choice, conversation, model)
        prompt_id, tail = queue_prompt(gateway, request, prepared.key, conversation.prompt, SOURCE)
    except BaseException:
        slot.close()
        raise
    prompted = _Prompted(gateway, prepared, prompt_id, tail, slot)
    try:
        yield prompted
    except BaseException:
        prompted.close()
        raise
    if not prompted.streams:
        prompted.close()


def _waits_now(gateway: Gateway, last: Committed) -> bool:
    """Tell whether the run waits for approvals, now and not only in what is replayed."""
    if not last.state.pending:
        return False
    with contextlib.suppress(SessionNotFound):
        return gateway.registry.state(last.state.key).pending == last.state.pending
    return False


def _header(key: str) -> str:
    """Return a key as WSGI sends it: bytes as Latin-1."""
    return key.encode().decode("latin-1")
