"""The list of sessions, one session, and what can be done to it."""

import uuid

import falcon
import msgspec
from msgspec import UNSET

from actors.models.base import ModelError
from actors.replay import STREAM_PREFIX
from actors.session import commands as c
from actors.session.state import ModelRef
from actors.session.summary import SessionSummary, summary_of, with_model
from persistence.records import StreamEntry
from web.asked import asked
from web.errors import Problem
from web.inputs import AbortBody, ModelBody, NameBody, SessionsQuery
from web.operations import ADMIN, PROMPT, READ, operation
from web.resources.base import Resource
from web.schemas import (
    Compacted,
    ModelAnswer,
    ModelChoice,
    Ok,
    SessionAnswer,
    SessionList,
    body_of,
)
from web.streams import StreamSlot

PAGE_SESSIONS = 1_000

_decode_summary = msgspec.json.Decoder(SessionSummary).decode


class SessionCommands(Resource):
    """What resources share that give a session commands."""

    def _time_of_existing(self, key: str) -> int:
        """Return the time for a command to a session. Raises SessionNotFound."""
        self._gateway.registry.state(key)
        return self._gateway.registry.now_ms()


class SessionsResource(Resource):
    """GET /sessions: every session in the log."""

    @operation(READ, {200: SessionList}, query=SessionsQuery)
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with a page of sessions, the oldest first."""
        self._gateway.record_access(request, "sessions")
        query: SessionsQuery = request.context.query
        size = min(query.limit or PAGE_SESSIONS, PAGE_SESSIONS)
        prefix = request.context.access.narrowed(query.prefix)
        entries: list[StreamEntry] = []
        if prefix is not None:
            entries = self._gateway.log.entries(
                after_row=query.cursor or 0,
                limit=size + 1,
                prefix=STREAM_PREFIX + prefix,
                active=query.active,
            )
        resolve = self._gateway.registry.models.resolve
        sessions = [
            with_model(_decode_summary(entry.summary.body), resolve) for entry in entries[:size]
        ]
        more = str(entries[size - 1].row) if len(entries) > size else UNSET
        response.data = body_of(SessionList(sessions, more))


class SessionResource(SessionCommands):
    """GET, PATCH and DELETE /sessions/K."""

    @operation(READ, {200: SessionAnswer}, errors=(404,))
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session at a glance."""
        registry = self._gateway.registry
        summary = summary_of(registry.state(key))
        self._gateway.record_access(request, "session", key)
        response.data = body_of(SessionAnswer(with_model(summary, registry.models.resolve)))

    @operation(PROMPT, {200: Ok}, body=NameBody, errors=(404,))
    def on_patch(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Name the session."""
        at = self._time_of_existing(key)
        name = request.context.body.name
        if name is not UNSET:
            command = c.RenameSession(at, name.strip(), **asked(request))
            self._gateway.registry.ask(key, command)
        response.data = body_of(Ok(ok=True))

    @operation(ADMIN, {200: Ok}, errors=(404,))
    def on_delete(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the session; its log stays, and the key starts empty when it is used again."""
        if key == self._gateway.settings.primary_session:
            raise Problem(400, "Cannot delete primary session")
        at = self._time_of_existing(key)
        self._gateway.registry.ask(key, c.DeleteSession(at, **asked(request)))
        response.data = body_of(Ok(ok=True))


class AbortResource(SessionCommands):
    """POST /sessions/K/abort."""

    @operation(PROMPT, {200: Ok}, body=AbortBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the running prompt, with ``{"queue": true}`` the waiting ones too."""
        at = self._time_of_existing(key)
        command = c.AbortRun(at, queue=request.context.body.queue, **asked(request))
        response.data = body_of(Ok(self._gateway.registry.ask(key, command) > 0))


class ResetResource(SessionCommands):
    """POST /sessions/K/reset."""

    @operation(ADMIN, {200: Ok}, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Begin the conversation anew; what was said stays in the log."""
        at = self._time_of_existing(key)
        command = c.ResetSession(at, str(uuid.uuid4()), **asked(request))
        self._gateway.registry.ask(key, command)
        response.data = body_of(Ok(ok=True))


class ReloadResource(SessionCommands):
    """POST /sessions/K/reload."""

    @operation(ADMIN, {200: Ok}, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Note that the settings were asked for anew; they are read at every run anyway."""
        at = self._time_of_existing(key)
        self._gateway.registry.ask(key, c.ReloadSession(at, **asked(request)))
        response.data = body_of(Ok(ok=True))


class CompactResource(SessionCommands):
    """POST /sessions/K/compact."""

    @operation(PROMPT, {200: Compacted}, errors=(404, 409, 502))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Have a summary stand for older messages when the model is called; history stays."""
        with StreamSlot(self._gateway):
            try:
                made = self._gateway.registry.compact(key, **asked(request))
            except ModelError as error:
                raise Problem(502, str(error)) from error
        if made is None:
            response.data = body_of(Compacted(ok=True, compacted=False))
            return
        response.data = body_of(
            Compacted(
                ok=True,
                compacted=True,
                summary=made.summary,
                first_kept_seq=made.first_kept_seq,
                tokens_before=made.tokens_before,
            )
        )


class ModelResource(SessionCommands):
    """POST /sessions/K/model."""

    @operation(PROMPT, {200: ModelAnswer}, body=ModelBody, errors=(404,))
    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Send the session's next model calls to another model, or have it think more or less."""
        at = self._time_of_existing(key)
        body: ModelBody = request.context.body
        registry = self._gateway.registry
        level = None if body.thinking_level is UNSET else body.thinking_level
        keep = level is not None and body.provider is body.model_id is None
        model = registry.models.default if keep else self._chosen(body)
        command = c.SelectModel(at, model.provider, model.model_id, level, keep, **asked(request))
        registry.ask(key, command)
        state = registry.state(key)
        used = registry.models.resolve(state.model)
        response.data = body_of(
            ModelAnswer(
                ok=True,
                model=ModelChoice(used.provider, used.model_id),
                thinking_level=state.thinking_level or UNSET,
            )
        )

    def _chosen(self, body: ModelBody) -> ModelRef:
        provider, model_id = (
            value if isinstance(value, str) else "" for value in (body.provider, body.model_id)
        )
        chosen = ModelRef(provider, model_id)
        if not self._gateway.registry.models.has(chosen):
            raise Problem(404, f"Model not found: {provider}/{model_id}")
        return chosen
