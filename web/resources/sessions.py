"""The list of sessions, one session, and what can be done to it."""

import falcon
import msgspec
from msgspec import UNSET

from actors.replay import STREAM_PREFIX
from actors.session import commands as c
from actors.session.summary import SessionSummary, summary_of, with_model
from web.bootstrap import Gateway
from web.keys import checked_key
from web.requests import positive, read_object
from web.schemas import Ok, SessionAnswer, SessionList, body_of

PAGE_SESSIONS = 1_000

_decode_summary = msgspec.json.Decoder(SessionSummary).decode


class SessionsResource:
    """GET /sessions: every session in the log."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of sessions, the oldest first."""
        limit = positive(request, "limit", "The limit must be a positive integer.")
        size = min(limit or PAGE_SESSIONS, PAGE_SESSIONS)
        cursor = positive(request, "cursor", "The cursor must be one that a list gave.")
        entries = self._gateway.log.entries(
            after_row=cursor or 0, limit=size + 1, prefix=STREAM_PREFIX
        )
        resolve = self._gateway.registry.models.resolve
        sessions = [
            with_model(_decode_summary(entry.summary.body), resolve) for entry in entries[:size]
        ]
        more = str(entries[size - 1].row) if len(entries) > size else UNSET
        response.data = body_of(SessionList(sessions, more))


class SessionResource:
    """GET /sessions/K."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, _request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session at a glance."""
        registry = self._gateway.registry
        summary = summary_of(registry.state(checked_key(key)))
        response.data = body_of(SessionAnswer(with_model(summary, registry.models.resolve)))


class AbortResource:
    """POST /sessions/K/abort."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the running prompt, with ``{"queue": true}`` the waiting ones too."""
        registry = self._gateway.registry
        registry.state(checked_key(key))
        body = read_object(request, self._gateway.settings.body_bytes_max)
        command = c.AbortRun(registry.now_ms(), queue=body.get("queue") is True)
        response.data = body_of(Ok(registry.ask(key, command, request.context.principal) > 0))
