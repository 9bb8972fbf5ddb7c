"""A request's prompt on its way into a session, and the answer on its way back."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

import falcon
from msgspec import Struct

from actors.errors import SessionNotFound
from actors.feed import Committed, FeedClosedError
from actors.tail import Tail
from web.bootstrap import Gateway
from web.openai_api.answer import Answer, Failure, Piece
from web.openai_api.choosing import SOURCE, Choice, Prepared, prepare
from web.openai_api.conversation import Conversation
from web.openai_api.errors import problem_of_failure
from web.prompts import STOPPED, queue_prompt
from web.schemas import body_of
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT
from web.streams import StreamSlot, bounded_writes

SESSION_KEY = "X-Session-Key"


class Encoder(Protocol):
    """How an answer is streamed."""

    def opening(self) -> Iterator[bytes]:
        """Yield what comes before the first piece."""

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """Yield a piece."""

    def ending(self) -> Iterator[bytes]:
        """Yield what comes after the last piece."""


class Writer(Protocol):
    """How an answer is told."""

    def whole(self, answer: Answer) -> Struct:
        """Return the body for an answer that is done."""

    def streamed(self, answer: Answer) -> Encoder:
        """Return what encodes an answer as it comes."""


class Asked(Struct, frozen=True):
    """What a request asks for."""

    conversation: Conversation
    choice: Choice
    model: str
    stream: bool


def respond(
    gateway: Gateway,
    request: falcon.Request,
    response: falcon.Response,
    asked: Asked,
    writer_of: Callable[[Prepared], Writer],
) -> None:
    """Prompt the session, durably, and answer as the writer for it does.

    Blocks until the answer is whole, unless it streams. Raises Problem where there is none.
    """
    with contextlib.ExitStack() as held:
        slot = held.enter_context(StreamSlot(gateway))
        prepared = prepare(gateway, request, asked.choice, asked.conversation, asked.model)
        prompt = asked.conversation.prompt
        prompt_id, tail = queue_prompt(gateway, request, prepared.key, prompt, SOURCE)
        held.callback(tail.close)
        response.set_header(SESSION_KEY, _header(prepared.key))
        answer, writer = Answer(prompt_id), writer_of(prepared)
        batches = _batches(gateway, tail, answer)
        if asked.stream:
            response.content_type = CONTENT_TYPE
            response.set_headers(HEADERS)
            frames = _frames(gateway, tail.key, batches, writer.streamed(answer))
            response.stream = bounded_writes(request, gateway, frames, tail, slot)
            held.pop_all()  # the stream gives them back
            return
        for _pieces in batches:
            pass
        if answer.failure is not None:
            raise problem_of_failure(answer.failure)
        response.data = body_of(writer.whole(answer))


def _batches(gateway: Gateway, tail: Tail, answer: Answer) -> Iterator[list[Piece]]:
    """Yield what has come, until all has: an empty list where nothing has for a while."""
    try:
        while not answer.done:
            batch = tail.next(gateway.settings.heartbeat_s)
            pieces = [piece for each in batch for piece in answer.pieces(each.event)]
            if batch and _waits_now(gateway, batch[-1]):
                pieces.extend(answer.waiting(batch[-1].state.pending))
            if pieces or not batch:
                yield pieces
    except FeedClosedError:
        answer.done, answer.failure = True, Failure(503, STOPPED)


def _frames(
    gateway: Gateway, key: str, batches: Iterator[list[Piece]], encoder: Encoder
) -> Iterator[bytes]:
    yield b"".join(encoder.opening())
    try:
        for pieces in batches:
            frames = [frame for piece in pieces for frame in encoder.piece(piece)]
            if frames or not pieces:
                yield b"".join(frames) or HEARTBEAT
    except GeneratorExit:
        gateway.log_lines.add(f"[openai] session={key} client disconnected")
        raise
    yield b"".join(encoder.ending())


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
