"""One session's page: how it is, how it was, and what happens there."""

from typing import Annotated, Any, Literal
from urllib.parse import quote

import falcon
import msgspec
from msgspec import Meta, Struct

from actors.audit.exporting.readable import shown
from actors.audit.travel.places import BeyondEndError, event_at
from actors.errors import SessionNotFound
from actors.replay import state_at, stream_of
from actors.session.state import SessionState
from actors.tail import Tail
from persistence.chain import digest_of
from persistence.records import Head, StoredEvent
from web.errors import Problem
from web.inputs import Count, ResumeHeaders, seq_of
from web.operations import AUDIT, EVENT_STREAM, READ, Refusable, operation
from web.sse import CONTENT_TYPE, HEADERS
from web.streams import StreamSlot, bounded_writes
from web.ui.bubbles import draft_bubble
from web.ui.lanes import KINDS, Wire
from web.ui.live import Frames, chunks
from web.ui.looking import MARKS_MAX, jump, marks, panel, seen_at, window
from web.ui.page import HTML, HTML_TYPE, Frame, Page, frame_of, visit_of
from web.ui.templating import templates

PAYLOAD_CHARACTERS_MAX = 50_000
NOW = "now"

Seq = Annotated[int, Meta(ge=0, le=10**18 - 1)]


class SessionPageQuery(Refusable, frozen=True):
    """Which event to show the session at, and before which one its messages lie."""

    at: Count | None = None
    before: Count | None = None


class TimelineQuery(Refusable, frozen=True):
    """Which events."""

    after: Seq = 0
    limit: Count = MARKS_MAX


class TimelineAnswer(Struct, frozen=True):
    """Events as [seq, milliseconds, lane, kind, type]; ``last`` is where the log ends."""

    marks: list[Wire]
    last: int


class JumpQuery(Refusable, frozen=True, rename={"start": "from"}):
    """From which event, to what, on or back."""

    start: Seq
    kind: str = KINDS[0]
    way: Literal["on", "back"] = "on"


class JumpAnswer(Struct, frozen=True):
    """Where to; not ``found``, it is where the search ended."""

    seq: int
    found: bool


class LiveQuery(Refusable, frozen=True):
    """Which event the page has already."""

    after: Seq = 0


class SessionPage(Page):
    """What the resources of one session's page share."""

    def _url(self, frame: Frame, key: str) -> str:
        return f"{frame.root}/sessions/{quote(key, safe='')}"

    def _head(self, key: str) -> Head:
        """Return where a session's log ends, a deleted session's too. Raises SessionNotFound."""
        head = self._gateway.log.head(stream_of(key))
        if head is None or not head.version:
            raise SessionNotFound(key)
        return head

    def _known(self, request: falcon.Request, key: str) -> SessionState:
        """Return a session's state; of a deleted one only for who may read the raw log."""
        try:
            return self._gateway.registry.state(key)
        except SessionNotFound:
            if not request.context.access.may(AUDIT):
                raise
            return state_at(self._gateway.log, self._head(key))

    def _view(
        self, frame: Frame, state: SessionState, *, live: bool, before: int | None = None
    ) -> dict[str, Any]:
        """Return what the templates show of a state."""
        return {
            "ui": frame,
            "key": state.key,
            "session_url": self._url(frame, state.key),
            "state": state,
            "window": window(self._gateway.log, state, before),
            "panel": panel(self._gateway, state),
            "draft": None if before is not None else draft_bubble(state),
            "live": live,
        }


class ConversationPage(SessionPage):
    """GET /ui/sessions/K."""

    @operation(READ, {200: HTML}, query=SessionPageQuery, errors=(404, 412))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Show the session as it is, or as it was."""
        query: SessionPageQuery = request.context.query
        current = self._gateway.registry.state(key)
        state = seen_at(self._gateway.log, key, query.at, current)
        self._gateway.record_access(request, "state", key)
        live = query.at is None and query.before is None
        values = self._view(frame_of(request), state, live=live, before=query.before)
        del values["ui"]
        self.render(
            request,
            response,
            "session.html",
            **values,
            last=current.version,
            kinds=KINDS,
            fork_key=f"{key[:180]}+fork-",
        )


class ViewPart(SessionPage):
    """GET /ui/sessions/K/at/<seq>: the session's view at an event, or ``now``."""

    @operation(READ, {200: HTML}, query=SessionPageQuery, errors=(404, 412))
    def on_get(
        self, request: falcon.Request, response: falcon.Response, key: str, place: str
    ) -> None:
        """Answer with a fragment: state and newest messages, or with ``before`` older ones."""
        current = self._gateway.registry.state(key)
        seq = None if place == NOW else _seq_in(place)
        state = seen_at(self._gateway.log, key, seq, current)
        self._gateway.record_access(request, "state", key)
        before = request.context.query.before
        values = self._view(frame_of(request), state, live=seq is None, before=before)
        template = "_view.html" if before is None else "_messages.html"
        response.content_type = HTML_TYPE
        response.text = templates().get_template(template).render(**values)


class TimelinePart(SessionPage):
    """GET /ui/sessions/K/timeline."""

    @operation(READ, {200: TimelineAnswer}, query=TimelineQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with where events stand on the time axis."""
        self._gateway.registry.state(key)
        head = self._head(key)
        query: TimelineQuery = request.context.query
        self._gateway.record_access(request, "events", key)
        found = marks(self._gateway.log, head, query.after, query.limit)
        answer = TimelineAnswer([each.wire() for each in found], head.version)
        response.data = msgspec.json.encode(answer)


class JumpPart(SessionPage):
    """GET /ui/sessions/K/jump."""

    @operation(READ, {200: JumpAnswer}, query=JumpQuery, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the next event of a kind."""
        self._gateway.registry.state(key)
        query: JumpQuery = request.context.query
        self._gateway.record_access(request, "events", key)
        forward = query.way == "on"
        found = jump(self._gateway.log, self._head(key), query.start, query.kind, forward=forward)
        response.data = msgspec.json.encode(JumpAnswer(found.seq, found.found))


class EventPart(SessionPage):
    """GET /ui/sessions/K/events/<seq>."""

    @operation(AUDIT, {200: HTML}, errors=(404, 412))
    def on_get(
        self, request: falcon.Request, response: falcon.Response, key: str, place: str
    ) -> None:
        """Answer with an event as it lies in the log, and its link of the hash chain."""
        head, seq = self._head(key), _seq_in(place)
        if seq > head.version:
            raise BeyondEndError(seq, head.version)
        event = event_at(self._gateway.log, head, seq)
        self._gateway.record_access(request, "log", key)
        payload = None if event.payload is None else _readable(event.payload)
        response.content_type = HTML_TYPE
        response.text = (
            templates()
            .get_template("_event.html")
            .render(
                event=event,
                digest=_digest(event),
                payload=None if payload is None else payload[:PAYLOAD_CHARACTERS_MAX],
                cut=max(0, len(payload or "") - PAYLOAD_CHARACTERS_MAX),
            )
        )


class LivePart(SessionPage):
    """GET /ui/sessions/K/live."""

    @operation(READ, {200: EVENT_STREAM}, query=LiveQuery, headers=ResumeHeaders, errors=(404, 412))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Stream what changes on the page after ``Last-Event-ID``, or ``?after=``."""
        last = seq_of(request.context.headers.last)
        after = request.context.query.after if last is None else last
        state, reader = self._gateway.registry.reader(key)
        tail = Tail(self._gateway.log, key, reader)
        try:
            if after > state.version:
                raise BeyondEndError(after, state.version)
            reader.after = after
            self._gateway.record_access(request, "events", key)
            slot = StreamSlot(self._gateway)
        except BaseException:
            tail.close()
            raise
        response.content_type = CONTENT_TYPE
        response.set_headers(HEADERS)
        frames = self._frames(frame_of(request), key)
        registry, until = self._gateway.registry, visit_of(request).until
        stream = chunks(
            tail,
            frames,
            lambda: self._gateway.settings.heartbeat_s,
            lambda: registry.now_ms() > until,
        )
        response.stream = bounded_writes(request, self._gateway, stream, tail, slot)

    def _frames(self, frame: Frame, key: str) -> Frames:
        one = templates().get_template("_one.html")
        beside = templates().get_template("_panel.html")
        url = self._url(frame, key)

        def render_panel(state: SessionState) -> str:
            shown_panel = panel(self._gateway, state)
            if state.draft_at is not None:  # what has arrived of it is not in a feed's states
                shown_panel = shown_panel._replace(digest="")
            return beside.render(ui=frame, session_url=url, panel=shown_panel, live=True)

        return Frames(
            lambda bubble: one.render(bubble=bubble),
            render_panel,
            self._gateway.registry.now_ms,
        )


def _seq_in(place: str) -> int:
    """Return the seq in an address. Raises Problem 404."""
    if not (place.isascii() and place.isdigit() and len(place) <= 18 and int(place)):
        raise Problem(404, "An event is named by its seq, from 1 on.")
    return int(place)


def _digest(event: StoredEvent) -> str:
    if event.payload is None or event.salt is None:
        return event.payload_digest.hex()
    return digest_of(event.salt, event.payload).hex()


def _readable(payload: bytes) -> str:
    try:
        return shown(msgspec.json.format(payload, indent=2).decode())
    except (msgspec.DecodeError, UnicodeDecodeError):
        return shown(payload.decode("utf-8", "replace"))
