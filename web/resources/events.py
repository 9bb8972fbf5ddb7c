"""A session's events as they are committed, from any place in its log."""

from collections.abc import Iterator

import falcon

from actors.feed import FeedClosedError
from actors.replay import state_at, stream_of
from actors.session.events import SessionDeleted
from actors.session.state import SessionState
from actors.tail import Tail
from web.bootstrap import Gateway
from web.errors import Problem
from web.inputs import EventsQuery, ResumeHeaders, seq_of
from web.operations import EVENT_STREAM, READ, operation
from web.resources.base import Resource
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT, OPENING, Frames, pieces
from web.streams import StreamSlot, bounded_writes


class EventsResource(Resource):
    """GET /sessions/K/events."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._frames = Frames(gateway.registry.models.resolve)

    @operation(
        READ, {200: EVENT_STREAM}, query=EventsQuery, headers=ResumeHeaders, errors=(404, 412)
    )
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Stream events: all that follow ``Last-Event-ID`` or ``?after=``, else new ones."""
        after = seq_of(request.context.headers.last or request.context.query.after)
        state, reader = self._gateway.registry.reader(key)
        tail = Tail(self._gateway.log, key, reader)
        try:
            if after is not None and after > state.version:
                raise Problem(412, f"The session's log ends at {state.version}, before {after}.")
            start = state.version if after is None else after
            if start != state.version:
                state = self._state_at(key, start)
            reader.after = start
            self._gateway.record_access(request, "events", key)
            slot = StreamSlot(self._gateway)
        except BaseException:
            tail.close()
            raise
        response.content_type = CONTENT_TYPE
        response.set_headers(HEADERS)
        chunks = self._chunks(tail, state)
        response.stream = bounded_writes(request, self._gateway, chunks, tail, slot)

    def _state_at(self, key: str, seq: int) -> SessionState:
        head = self._gateway.log.head(stream_of(key))
        assert head is not None
        return state_at(self._gateway.log, head, seq)

    def _chunks(self, tail: Tail, state: SessionState) -> Iterator[bytes]:
        yield OPENING + self._frames.hello(state)
        frame = self._frames.frame
        while True:
            try:
                batch = tail.next(self._gateway.settings.heartbeat_s)
            except FeedClosedError:
                return
            if not batch:
                yield HEARTBEAT
            yield from pieces(map(frame, batch))
            if batch and isinstance(batch[-1].event, SessionDeleted):
                return
