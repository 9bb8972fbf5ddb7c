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
from web.keys import checked_key
from web.prompts import STOPPED, answer_at_once, answer_when_done, queue_prompt
from web.requests import ChatPrompt, chat_prompt, message_text, read_object
from web.schemas import Steered, body_of
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT
from web.streams import StreamSlot, bounded_writes

OPENING = b"\n"


class MessagesResource:
    """POST /sessions/K/messages."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and answer when the run ends."""
        body = read_object(request, self._gateway.settings.body_bytes_max)
        prompt = ChatPrompt(message_text(body))
        answer_when_done(self._gateway, request, response, key, prompt, "messages")


class ChatResource:
    """POST /sessions/K/chat."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and stream what happens.

        The run goes on when the client leaves; it can come back to the stream.
        """
        body = read_object(request, self._gateway.settings.body_bytes_max)
        prompt = chat_prompt(body)
        slot = StreamSlot(self._gateway)
        try:
            prompt_id, tail = queue_prompt(self._gateway, request, key, prompt, "chat")
        except BaseException:
            slot.close()
            raise
        stream_chat(self._gateway, request, response, tail, prompt_id, slot)


class SteerResource:
    """POST /sessions/K/steer."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Say more to the run in progress; a session where nothing runs is prompted."""
        prompt = chat_prompt(read_object(request, self._gateway.settings.body_bytes_max))
        self._gateway.registry.state(checked_key(key))
        _, tail = queue_prompt(self._gateway, request, key, prompt, "steer", c.Steer)
        with contextlib.closing(tail):
            steered = isinstance(tail.next(0)[0].event, SteeringReceived)
        mode = "steer" if steered else "queued"
        response.data = body_of(Steered(ok=True, mode=mode, session_key=key))


class EnqueueResource:
    """POST /sessions/K/enqueue."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session without waiting for the answer."""
        body = read_object(request, self._gateway.settings.body_bytes_max)
        prompt = replace(chat_prompt(body), metadata=body.get("metadata"))
        answer_at_once(self._gateway, request, response, key, prompt, "enqueue")


class ChatStreamResource:
    """GET /sessions/K/chat/stream and /sessions/K/chat/<any id>/stream."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(
        self,
        request: falcon.Request,
        response: falcon.Response,
        key: str,
        chat_id: str | None = None,  # noqa: ARG002 - the session's key says all
    ) -> None:
        """Stream the running prompt from its start; 204 when nothing runs."""
        state, reader = self._gateway.registry.reader(checked_key(key))
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
    chunks = _chat_chunks(tail, prompt_id, gateway.settings.heartbeat_s)
    response.stream = bounded_writes(request, gateway, chunks, tail, slot)


def _chat_chunks(tail: Tail, prompt_id: str, heartbeat_s: float) -> Iterator[bytes]:
    yield OPENING
    message = UiMessageStream(prompt_id)
    while not message.done:
        try:
            batch = tail.next(heartbeat_s)
        except FeedClosedError:
            yield encode_chunk({"type": "error", "errorText": STOPPED})
            break
        frames = [
            encode_chunk(chunk) for committed in batch for chunk in message.chunks(committed.event)
        ]
        if frames or not batch:
            yield b"".join(frames) or HEARTBEAT
    yield DONE
