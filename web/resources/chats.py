"""Prompts: waited for (messages), or streamed in the AI SDK's protocol (chat)."""

import contextlib
import uuid
from collections.abc import Iterator

import falcon

from actors.feed import FeedClosedError
from actors.session import commands as c
from actors.session.events import SteeringReceived
from actors.tail import Tail
from web.ai_sdk import DONE, HEADER, UiMessageStream, encode_chunk
from web.bootstrap import Gateway
from web.errors import Problem, problem_of
from web.keys import checked_key
from web.outcome import Outcome
from web.requests import (
    ChatPrompt,
    chat_prompt,
    message_text,
    read_object,
    with_idempotency_key,
)
from web.schemas import Enqueued, PromptResult, Steered, body_of
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT
from web.streams import StreamSlot, bounded_writes

STOPPED = "The gateway stopped before the prompt's run ended; its events are in the log."
OPENING = b"\n"


class MessagesResource:
    """POST /sessions/K/messages."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Prompt the session, creating it where it is missing, and answer when the run ends."""
        body = read_object(request, self._gateway.settings.body_bytes_max)
        prompt = ChatPrompt(message_text(body))
        with StreamSlot(self._gateway):
            try:
                prompt_id, tail = queue_prompt(self._gateway, request, key, prompt, "messages")
            except Exception as error:
                raise _as_result(problem_of(error), key) from error
            outcome = self._wait(tail, Outcome(prompt_id))
        if outcome.error is not None:
            problem = Problem(outcome.status or 503, outcome.error)
            raise _as_result(problem, key, outcome.response)
        response.data = body_of(PromptResult(ok=True, response=outcome.response, session_key=key))

    def _wait(self, tail: Tail, outcome: Outcome) -> Outcome:
        heartbeat_s = self._gateway.settings.heartbeat_s
        with contextlib.closing(tail):
            while outcome.status is None:
                try:
                    for committed in tail.next(heartbeat_s):
                        outcome.follow(committed.event)
                except FeedClosedError:
                    outcome.status, outcome.error = 503, STOPPED
        return outcome


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
        prompt = chat_prompt(read_object(request, self._gateway.settings.body_bytes_max))
        prompt_id, tail = queue_prompt(self._gateway, request, key, prompt, "enqueue")
        tail.close()
        response.status = falcon.HTTP_202
        response.data = body_of(
            Enqueued(ok=True, queued=True, session_key=key, prompt_id=prompt_id)
        )


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


def queue_prompt(
    gateway: Gateway,
    request: falcon.Request,
    key: str,
    prompt: ChatPrompt,
    source: str,
    kind: type[c.QueuePrompt] = c.QueuePrompt,
) -> tuple[str, Tail]:
    """Queue a prompt, durably; return its id and a tail that has its events before it."""
    registry = gateway.registry
    identified = with_idempotency_key(request, prompt)
    command = kind(
        at=registry.now_ms(),
        session_id=str(uuid.uuid4()),
        prompt_id=str(uuid.uuid4()),
        text=identified.text,
        source=source,
        queue_max=gateway.settings.queue_max,
        message_id=identified.message_id,
        idempotency_key=identified.idempotency_key,
    )
    prompt_id, reader = registry.prompt(checked_key(key), command, request.context.principal)
    return prompt_id, Tail(gateway.log, key, reader)


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


def _as_result(problem: Problem, key: str, response: str = "") -> Problem:
    """Make a problem readable to clients that expect a prompt's result."""
    result = {"ok": False, "response": response, "error": problem.detail, "sessionKey": key}
    return Problem(problem.status, problem.detail, headers=problem.headers, extra=result)
