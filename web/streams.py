"""Open streams: bounded in number, and in the time that a reader may take."""

import contextlib
from collections.abc import Iterator
from typing import Protocol, Self

import falcon

from web.bootstrap import Gateway
from web.errors import RETRY_AFTER_S, Problem
from web.tokens import Access, Tokens


class StreamSlot:
    """One of the worker's streams. Raises Problem 503 when all are taken."""

    def __init__(self, gateway: Gateway) -> None:
        self._streams = gateway.streams
        self._held = self._streams.acquire()
        if not self._held:
            raise Problem(
                503, "Too many streams are open; try again.", headers={"Retry-After": RETRY_AFTER_S}
            )

    def close(self) -> None:
        """Give the slot back, once."""
        if self._held:
            self._held = False
            self._streams.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()


class Followed(Protocol):
    """What a stream goes on with: a Tail, or a Watcher."""

    def stop(self) -> None:
        """End the waiting, from another thread."""

    def close(self) -> None:
        """Follow it no longer."""


class BoundedStream:
    """A response's chunks; closing it, sent or not, gives back the slot and leaves the feed.

    It ends when the token that opened it is revoked.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        tail: Followed,
        slot: StreamSlot,
        tokens: Tokens,
        access: Access,
    ) -> None:
        self._chunks = chunks
        self._tail = tail
        self._slot = slot
        self._tokens = tokens
        self._token_id = access.token_id
        tokens.watch(access.token_id, tail.stop)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Release what the stream holds; the server calls it however the response ends."""
        self._tokens.unwatch(self._token_id, self._tail.stop)
        self._tail.close()
        self._slot.close()


def bounded_writes(
    request: falcon.Request,
    gateway: Gateway,
    chunks: Iterator[bytes],
    tail: Followed,
    slot: StreamSlot,
) -> BoundedStream:
    """Return the chunks as a response that a client who doesn't drain it can't hold open.

    A write that makes no progress for ``slow_reader_timeout_s`` ends the connection.
    """
    socket = request.env.get("gunicorn.socket")
    if socket is not None:
        with contextlib.suppress(OSError):
            socket.settimeout(gateway.settings.slow_reader_timeout_s)
    return BoundedStream(chunks, tail, slot, gateway.tokens, request.context.access)
