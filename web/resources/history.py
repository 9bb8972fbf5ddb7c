"""History and state, read from the log."""

from collections.abc import Iterator

import falcon

from actors.replay import stream_of
from actors.session.state import SessionState
from actors.session.summary import summary_of, with_model
from persistence.records import StoredEvent
from web.bootstrap import Gateway
from web.inputs import HistoryQuery, seq_of
from web.operations import READ, operation
from web.past import PastQuery, state_at_place
from web.resources.base import Resource
from web.schemas import History, HistoryMessage, SessionStateAnswer, body_of
from web.views import digest_of, draft_message, history_message


class HistoryResource(Resource):
    """GET /sessions/K/history."""

    @operation(READ, {200: History}, query=PastQuery, errors=(404, 412))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the newest ``limit`` messages, between ``after`` and ``before``."""
        state = state_at_place(self._gateway, request, key, request.context.query.at)
        self._gateway.record_access(request, "history", key)
        messages = messages_of(self._gateway, state, request.context.query)
        response.data = body_of(History(messages))


class StateResource(Resource):
    """GET /sessions/K/state."""

    @operation(READ, {200: SessionStateAnswer}, query=PastQuery, errors=(404, 412))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session, its messages, and what has arrived of the next one."""
        registry = self._gateway.registry
        state = state_at_place(self._gateway, request, key, request.context.query.at)
        self._gateway.record_access(request, "state", key)
        messages = messages_of(self._gateway, state, request.context.query)
        draft = draft_message(state)
        if draft is not None:
            messages.append(draft)
        summary = with_model(summary_of(state), registry.models.resolve)
        response.data = body_of(
            SessionStateAnswer(summary, messages, state.version, digest_of(state))
        )


def messages_of(gateway: Gateway, state: SessionState, query: HistoryQuery) -> list[HistoryMessage]:
    """Return the messages of a session as of a state, in order; costs O(limit)."""
    after, before, limit = seq_of(query.after), seq_of(query.before), query.limit
    newest_first = limit is not None and after is None
    low = max(state.first_seq, after or 0)
    high = state.version + 1 if before is None else min(before, state.version + 1)
    stored = list(_stored(gateway, state, low, high, limit, newest_first=newest_first))
    if newest_first:
        stored.reverse()
    stream_id = stream_of(state.key)
    shown = [history_message(stream_id, state.session_id, each) for each in stored]
    return [message for message in shown if message is not None]


def _stored(
    gateway: Gateway,
    state: SessionState,
    low: int,
    high: int,
    limit: int | None,
    *,
    newest_first: bool,
) -> Iterator[StoredEvent]:
    head = gateway.log.head(stream_of(state.key))
    assert head is not None
    return gateway.log.read(
        head, after=low, before=high, limit=limit, newest_first=newest_first, paged=True
    )
