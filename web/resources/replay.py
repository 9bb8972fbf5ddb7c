"""A session's events once more, in their own time."""

from collections.abc import Iterator

import falcon

from actors.audit.travel.places import place_of, seq_at
from actors.audit.travel.replaying import Playback
from actors.audit.travel.run_list import find_run, last_run
from actors.feed import FeedClosedError
from actors.replay import state_at
from persistence.records import Head
from web.ai_sdk import DONE, HEADER, UiMessageStream, encode_chunk
from web.bootstrap import Gateway
from web.errors import Problem
from web.inputs import ResumeHeaders, seq_of
from web.operations import EVENT_STREAM, READ, operation
from web.past import AI_SDK, ReplayQuery, head_of
from web.resources.base import Resource
from web.sse import CONTENT_TYPE, HEADERS, HEARTBEAT, OPENING, Frames, pieces
from web.streams import StreamSlot, bounded_writes


class ReplayResource(Resource):
    """GET /sessions/K/replay."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._frames = Frames(gateway.registry.models.resolve)

    @operation(
        READ,
        {200: EVENT_STREAM, 204: None},
        query=ReplayQuery,
        headers=ResumeHeaders,
        errors=(404, 412),
    )
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Stream what is recorded as it happened; 204 where nothing is left of it.

        ``Last-Event-ID`` goes on after that event.
        """
        query: ReplayQuery = request.context.query
        pace = query.pace()
        log = self._gateway.log
        head = head_of(self._gateway, request, key)
        start, end, run = self._bounds(request, head)
        if start >= end:
            response.status = falcon.HTTP_204
            return
        slot = StreamSlot(self._gateway)
        try:
            self._gateway.record_access(request, "replay", key)
            playback = Playback(
                log.read(head, after=start, before=end + 1),
                state_at(log, head, start),
                pace,
                closing=lambda: self._gateway.registry.draining,
            )
        except BaseException:
            slot.close()
            raise
        response.content_type = CONTENT_TYPE
        response.set_headers(HEADERS)
        if query.format == AI_SDK:
            response.set_header(*HEADER)
            chunks = self._chunks(playback, UiMessageStream(run))
        else:
            chunks = self._events(playback)
        response.stream = bounded_writes(request, self._gateway, chunks, playback, slot)

    def _bounds(self, request: falcon.Request, head: Head) -> tuple[int, int, str]:
        """Return after which seq to begin, with which to end, and which run to play."""
        query: ReplayQuery = request.context.query
        log = self._gateway.log
        end = head.version if query.to is None else seq_at(log, head, place_of(query.to))
        start = 0 if query.at is None else seq_at(log, head, place_of(query.at))
        if query.at is None and query.format != AI_SDK:
            start = max(0, state_at(log, head, end).first_seq - 1)
        resumed = seq_of(request.context.headers.last)
        if query.format != AI_SDK:
            return max(start, resumed or 0), end, ""
        if query.run is None:
            run = last_run(log, head, after=start, before=end + 1)
        else:
            run = find_run(log, head, query.run)
        if run is None or not start < run.seq <= end:
            raise Problem(404, "No such run began there.")
        return run.seq - 1, end, run.correlation_id or ""

    def _events(self, playback: Playback) -> Iterator[bytes]:
        yield OPENING + self._frames.hello(playback.state)
        frame = self._frames.frame
        try:
            for batch in playback.batches(self._gateway.settings.heartbeat_s):
                if not batch:
                    yield HEARTBEAT
                yield from pieces(frame(each.committed) for each in batch)
        except FeedClosedError:
            return

    def _chunks(self, playback: Playback, message: UiMessageStream) -> Iterator[bytes]:
        yield b"\n"
        try:
            for batch in playback.batches(self._gateway.settings.heartbeat_s):
                chunks = [chunk for each in batch for chunk in message.chunks(each.committed.event)]
                if chunks or not batch:
                    yield b"".join(map(encode_chunk, chunks)) or HEARTBEAT
                if message.done:
                    break
        except FeedClosedError:
            pass
        rest = message.paused() if playback.state.pending else message.cut()
        yield b"".join(map(encode_chunk, rest)) + DONE
