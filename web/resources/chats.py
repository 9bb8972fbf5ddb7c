"""Prompts: waited for (messages), or streamed in the AI SDK's protocol (chat)."""

import contextlib
from collections.abc import Iterator

import falcon
from msgspec.structs import replace

from actors.feed import FeedClosedError
from actors.session import commands as c
from actors.session.events import SteeringReceived
from actors.tail import Tail
from web.ai_sdk import DONE, HEADER, UiMessageStream, encode_chunk
from web.bootstrap import Gateway
from web.inputs import ChatBody, ChatPrompt, IdempotencyHeaders, MessagesBody
from web.operations import EVENT_STREAM, PROMPT, READ, operation
from web.prompts import (
    PROMPT_ERRORS,
    STOPPED,
    answer_at_once,
    answer_when_done,
    queue_prompt,
)
from web.resources.base import Resource
from web.schemas import Enqueued, PromptResult, Steered, body_of
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT
from web.streams import StreamSlot, bounded_writes

OPENING = b"\n"


class MessagesResource(Resource):
    """POST /sessions/K/messages."""

    @operation(
        PROMPT,
        {200: PromptResult},
        body=MessagesBody,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 409, 502),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and answer when the run ends."""
        prompt = ChatPrompt(request.context.body.text)
        answer_when_done(self._gateway, request, response, key, prompt, "messages")


class ChatResource(Resource):
    """POST /sessions/K/chat."""

    @operation(
        PROMPT,
        {200: EVENT_STREAM},
        body=ChatBody,
        headers=IdempotencyHeaders,
        errors=PROMPT_ERRORS,
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and stream what happens.

        The run goes on when the client leaves; it can come back to the stream.
        """
        prompt = request.context.body.found()
        slot = StreamSlot(self._gateway)
        try:
            prompt_id, tail = queue_prompt(self._gateway, request, key, prompt, "chat")
        except BaseException:
            slot.close()
            raise
        stream_chat(self._gateway, request, response, tail, prompt_id, slot)


class SteerResource(Resource):
    """POST /sessions/K/steer."""

    @operation(
        PROMPT,
        {200: Steered},
        body=ChatBody,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 404),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Say more to the run in progress; a session where nothing runs is prompted."""
        prompt = request.context.body.found()
        self._gateway.registry.state(key)
        _, tail = queue_prompt(self._gateway, request, key, prompt, "steer", c.Steer)
        with contextlib.closing(tail):
            steered = isinstance(tail.next(0)[0].event, SteeringReceived)
        mode = "steer" if steered else "queued"
        response.data = body_of(Steered(ok=True, mode=mode, session_key=key))


class EnqueueResource(Resource):
    """POST /sessions/K/enqueue."""

    @operation(
        PROMPT,
        {202: Enqueued},
        body=ChatBody,
        headers=IdempotencyHeaders,
        errors=PROMPT_ERRORS,
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session without waiting for the answer."""
        body: ChatBody = request.context.body
        prompt = replace(body.found(), metadata=body.metadata)
        answer_at_once(self._gateway, request, response, key, prompt, "enqueue")


class ChatStreamResource(Resource):
    """GET /sessions/K/chat/stream and /sessions/K/chat/<any id>/stream."""

    @operation(READ, {200: EVENT_STREAM, 204: None}, errors=(404,))
    def on_get(
        self,
        request: falcon.Request,
        response: falcon.Response,
        key: str,
        chat_id: str | None = None,  # noqa: ARG002 - the session's key says all
    ) -> None:
        """Stream the running prompt from its start; 204 when nothing runs."""
        state, reader = self._gateway.registry.reader(key)
        if state.run is None:
            reader.close()
            response.status = falcon.HTTP_204
            return
        reader.after = state.run.started_seq - 1
        tail = Tail(self._gateway.log, key, reader)
        try:
            slot = StreamSlot(self._gateway)
        except BaseException:
            tail.close()
            raise
        stream_chat(self._gateway, request, response, tail, state.run.prompt_id, slot)


def stream_chat(
    gateway: Gateway,
    request: falcon.Request,
    response: falcon.Response,
    tail: Tail,
    prompt_id: str,
    slot: StreamSlot,
) -> None:
    """Answer with one prompt's UI message stream."""
    response.content_type = CONTENT_TYPE
    response.set_headers(HEADERS)
    response.set_header(*HEADER)
    chunks = _chat_chunks(gateway, tail, prompt_id)
    response.stream = bounded_writes(request, gateway, chunks, tail, slot)


def _chat_chunks(gateway: Gateway, tail: Tail, prompt_id: str) -> Iterator[bytes]:
    yield OPENING
    message = UiMessageStream(prompt_id)
    try:
        while not message.done:
            batch = tail.next(gateway.settings.heartbeat_s)
            frames = [
                encode_chunk(chunk)
                for committed in batch
                for chunk in message.chunks(committed.event)
            ]
            if frames or not batch:
                yield b"".join(frames) or HEARTBEAT
    except FeedClosedError:
        yield encode_chunk({"type": "error", "errorText": STOPPED})
    except GeneratorExit:
        gateway.log_lines.add(f"[chat] session={tail.key} client disconnected")
        raise
    yield DONE
