"""The raw log: one session's stream, and all streams that a token may see."""

import falcon
from msgspec import UNSET

from actors.audit.watch import EVERY
from actors.errors import SessionNotFound
from actors.replay import STREAM_PREFIX, stream_of
from persistence.records import Cursor
from web.errors import Problem
from web.operations import AUDIT, operation
from web.raw_log import (
    NDJSON,
    EventsWanted,
    Filter,
    LogPage,
    LogQuery,
    LogSource,
    Source,
    StreamPage,
    StreamQuery,
    StreamSource,
    cursor_of,
    filter_of,
    lines,
    page_of,
    shown,
    tailed_lines,
)
from web.resources.base import Resource
from web.schemas import body_of
from web.sse import HEADERS
from web.streams import StreamSlot, bounded_writes
from web.tokens import Access

JSON = "application/json"
RESOURCE = "log"


class _RawLogResource(Resource):
    def _stream(
        self,
        request: falcon.Request,
        response: falcon.Response,
        source: Source,
        wanted: Filter,
        row: int,
    ) -> None:
        """Answer with lines, which hold one of the worker's streams."""
        query: EventsWanted = request.context.query
        slot = StreamSlot(self._gateway)
        watcher = self._gateway.log_watch.watcher(row)
        response.content_type = NDJSON
        response.set_headers(HEADERS)
        chunks = lines(
            source,
            wanted,
            watcher,
            limit=query.limit,
            heartbeat_s=self._gateway.settings.heartbeat_s if query.follow else None,
            shared=self._gateway.shared,
        )
        response.stream = bounded_writes(request, self._gateway, chunks, watcher, slot)


class SessionLogResource(_RawLogResource):
    """GET /sessions/K/log."""

    @operation(AUDIT, {200: (NDJSON, StreamPage)}, query=StreamQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session's events as they are stored, a deleted session's too.

        As lines of JSON, or where the client accepts JSON as a page of them.
        """
        query: StreamQuery = request.context.query
        head = self._gateway.log.head(stream_of(key))
        if head is None or not head.version:
            raise SessionNotFound(key)
        paged = wants_page(request, query)
        self._gateway.record_access(request, RESOURCE, key)
        source = StreamSource(self._gateway.log, head, query)
        if not paged:
            self._stream(request, response, source, filter_of(query), head.row)
            return
        page = page_of(source, filter_of(query), query.limit)
        last = UNSET if page.last is None or not page.more else page.last.event.seq
        response.data = body_of(StreamPage([each.line() for each in page.events], last))


class LogResource(_RawLogResource):
    """GET /log."""

    @operation(AUDIT, {200: (NDJSON, LogPage)}, query=LogQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the events of all streams that the token may see, each with its cursor.

        As lines of JSON, or where the client accepts JSON as a page of them.
        """
        query: LogQuery = request.context.query
        access: Access = request.context.access
        after = cursor_of(query.after, self._gateway.log)
        paged = wants_page(request, query)
        self._gateway.record_access(request, RESOURCE)
        within = STREAM_PREFIX + access.key_prefix if access.key_prefix else ""
        wanted = filter_of(query, stream=query.stream, within=within)
        until = None if query.follow else self._gateway.log.end()
        source = LogSource(self._gateway.log, after, wanted.types, until)
        if not paged:
            self._stream(request, response, source, wanted, EVERY)
            return
        page = page_of(source, wanted, query.limit)
        last: Cursor = (page.last and page.last.cursor) or after
        response.data = body_of(LogPage(tailed_lines(page.events), shown(last), page.more))


def wants_page(request: falcon.Request, query: EventsWanted) -> bool:
    """Tell whether the client asks for JSON rather than for lines of it. Raises Problem 400."""
    named = JSON in request.accept and NDJSON not in request.accept
    paged = named or request.client_prefers((NDJSON, JSON)) == JSON
    if paged and query.follow:
        raise Problem(400, f"follow goes on without end: it needs Accept: {NDJSON}.")
    return paged
