"""Prompts: waited for (messages), or streamed in the AI SDK's protocol (chat)."""

import contextlib
from collections.abc import Iterator

import falcon
from msgspec.structs import replace

from actors.errors import SessionNotFound
from actors.feed import Committed, FeedClosedError
from actors.session import commands as c
from actors.session.events import SteeringReceived
from actors.tail import Tail
from web.ai_sdk import DONE, HEADER, UiMessageStream, encode_chunk
from web.asked import asked
from web.bootstrap import Gateway
from web.errors import Problem
from web.inputs import Answered, ChatBody, IdempotencyHeaders, MessagesBody
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
        {200: PromptResult, 202: Enqueued},
        body=MessagesBody,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 409, 502),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and answer when the run ends."""
        prompt = request.context.body.found()
        answer_when_done(self._gateway, request, response, key, prompt, "messages")


class ChatResource(Resource):
    """POST /sessions/K/chat."""

    @operation(
        PROMPT,
        {200: EVENT_STREAM},
        body=ChatBody,
        images=True,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 404, 409),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and stream what happens.

        The run goes on when the client leaves; it can come back to the stream. Messages that end
        with an assistant's answer approvals instead, and the stream goes on with their run.
        """
        answers = request.context.body.answers()
        slot = StreamSlot(self._gateway)
        try:
            if answers:
                prompt_id, tail = self._answer(request, key, answers)
            else:
                prompt = request.context.body.found()
                prompt_id, tail = queue_prompt(self._gateway, request, key, prompt, "chat")
        except BaseException:
            slot.close()
            raise
        message = UiMessageStream(prompt_id, resumed=bool(answers))
        stream_chat(self._gateway, request, response, tail, message, slot)

    def _answer(
        self, request: falcon.Request, key: str, answers: list[Answered]
    ) -> tuple[str, Tail]:
        """Resolve approvals; return the prompt whose run waits, and a tail of what follows.

        Those that were answered before stay as they are; Problem 409 where none of them waits.
        """
        registry = self._gateway.registry
        state, reader = registry.reader(key)
        tail = Tail(self._gateway.log, key, reader)
        try:
            waiting = {each.approval_id for each in state.pending}
            fresh = [each for each in answers if each.approval_id in waiting]
            if state.run is None or not fresh:
                raise Problem(409, "None of these approvals is waited for any more.")
            for each in fresh:
                command = c.ResolveApproval(
                    registry.now_ms(),
                    each.approval_id,
                    each.approved,
                    each.reason,
                    **asked(request),
                )
                registry.ask(key, command)
        except BaseException:
            tail.close()
            raise
        return state.run.prompt_id, tail


class SteerResource(Resource):
    """POST /sessions/K/steer."""

    @operation(
        PROMPT,
        {200: Steered},
        body=ChatBody,
        images=True,
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
        images=True,
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
            self._gateway.record_access(request, "chat.stream", key)
            slot = StreamSlot(self._gateway)
        except BaseException:
            tail.close()
            raise
        message = UiMessageStream(state.run.prompt_id)
        stream_chat(self._gateway, request, response, tail, message, slot)


def stream_chat(
    gateway: Gateway,
    request: falcon.Request,
    response: falcon.Response,
    tail: Tail,
    message: UiMessageStream,
    slot: StreamSlot,
) -> None:
    """Answer with one prompt's UI message stream."""
    response.content_type = CONTENT_TYPE
    response.set_headers(HEADERS)
    response.set_header(*HEADER)
    chunks = _chat_chunks(gateway, tail, message)
    response.stream = bounded_writes(request, gateway, chunks, tail, slot)


def _chat_chunks(gateway: Gateway, tail: Tail, message: UiMessageStream) -> Iterator[bytes]:
    yield OPENING
    try:
        while not message.done:
            batch = tail.next(gateway.settings.heartbeat_s)
            chunks = [chunk for committed in batch for chunk in message.chunks(committed.event)]
            if batch and _waits_now(gateway, batch[-1]):
                chunks.extend(message.paused())
            if chunks or not batch:
                yield b"".join(map(encode_chunk, chunks)) or HEARTBEAT
    except FeedClosedError:
        yield encode_chunk({"type": "error", "errorText": STOPPED})
    except GeneratorExit:
        gateway.log_lines.add(f"[chat] session={tail.key} client disconnected")
        raise
    yield DONE


def _waits_now(gateway: Gateway, last: Committed) -> bool:
    """Tell whether the run waits for approvals, now and not only in what is replayed."""
    if not last.state.pending:
        return False
    with contextlib.suppress(SessionNotFound):
        return gateway.registry.state(last.state.key).pending == last.state.pending
    return False
