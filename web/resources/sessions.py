"""The list of sessions, one session, and what can be done to it."""

import uuid
from typing import Any

import falcon
import msgspec
from msgspec import UNSET

from actors.replay import STREAM_PREFIX
from actors.session import commands as c
from actors.session.state import ModelRef
from actors.session.summary import SessionSummary, summary_of, with_model
from web.bootstrap import Gateway
from web.errors import Problem
from web.keys import checked_key
from web.requests import positive, read_object, session_name, thinking_level
from web.schemas import (
    ModelAnswer,
    ModelChoice,
    Ok,
    SessionAnswer,
    SessionList,
    body_of,
)

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
            after_row=cursor or 0,
            limit=size + 1,
            prefix=STREAM_PREFIX + (request.get_param("prefix") or ""),
            active=request.get_param_as_bool("active"),
        )
        resolve = self._gateway.registry.models.resolve
        sessions = [
            with_model(_decode_summary(entry.summary.body), resolve) for entry in entries[:size]
        ]
        more = str(entries[size - 1].row) if len(entries) > size else UNSET
        response.data = body_of(SessionList(sessions, more))


class SessionResource:
    """GET, PATCH and DELETE /sessions/K."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, _request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with the session at a glance."""
        registry = self._gateway.registry
        summary = summary_of(registry.state(checked_key(key)))
        response.data = body_of(SessionAnswer(with_model(summary, registry.models.resolve)))

    def on_patch(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Name the session."""
        at = existing(self._gateway, key)
        name = session_name(read_object(request, self._gateway.settings.body_bytes_max))
        if name is not None:
            command = c.RenameSession(at, name)
            self._gateway.registry.ask(key, command, request.context.principal)
        response.data = body_of(Ok(ok=True))

    def on_delete(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the session; its log stays, and the key starts empty when it is used again."""
        if key == self._gateway.settings.primary_session:
            raise Problem(400, "Cannot delete primary session")
        at = existing(self._gateway, key)
        self._gateway.registry.ask(key, c.DeleteSession(at), request.context.principal)
        response.data = body_of(Ok(ok=True))


class AbortResource:
    """POST /sessions/K/abort."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """End the running prompt, with ``{"queue": true}`` the waiting ones too."""
        at = existing(self._gateway, key)
        body = read_object(request, self._gateway.settings.body_bytes_max)
        queue = body.get("queue", False)
        if not isinstance(queue, bool):
            raise Problem(422, "queue is true or false.")
        command = c.AbortRun(at, queue=queue)
        seq = self._gateway.registry.ask(key, command, request.context.principal)
        response.data = body_of(Ok(seq > 0))


class ResetResource:
    """POST /sessions/K/reset."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Begin the conversation anew; what was said stays in the log."""
        command = c.ResetSession(existing(self._gateway, key), str(uuid.uuid4()))
        self._gateway.registry.ask(key, command, request.context.principal)
        response.data = body_of(Ok(ok=True))


class ReloadResource:
    """POST /sessions/K/reload."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Note that the settings were asked for anew; they are read at every run anyway."""
        command = c.ReloadSession(existing(self._gateway, key))
        self._gateway.registry.ask(key, command, request.context.principal)
        response.data = body_of(Ok(ok=True))


class ModelResource:
    """POST /sessions/K/model."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_post(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Send the session's next model calls to another model, or have it think more or less."""
        at = existing(self._gateway, key)
        body = read_object(request, self._gateway.settings.body_bytes_max)
        level = thinking_level(body)
        registry = self._gateway.registry
        keep = level is not None and not {"provider", "modelId"} & body.keys()
        model = registry.models.default if keep else self._chosen(body)
        command = c.SelectModel(at, model.provider, model.model_id, level, keep)
        registry.ask(key, command, request.context.principal)
        state = registry.state(key)
        used = registry.models.resolve(state.model)
        response.data = body_of(
            ModelAnswer(
                ok=True,
                model=ModelChoice(used.provider, used.model_id),
                thinking_level=state.thinking_level or UNSET,
            )
        )

    def _chosen(self, body: dict[str, Any]) -> ModelRef:
        provider, model_id = (
            value if isinstance(value := body.get(name), str) else ""
            for name in ("provider", "modelId")
        )
        chosen = ModelRef(provider, model_id)
        if not self._gateway.registry.models.has(chosen):
            raise Problem(404, f"Model not found: {provider}/{model_id}")
        return chosen


def existing(gateway: Gateway, key: str) -> int:
    """Return the time for a command to a session that must exist. Raises SessionNotFound."""
    gateway.registry.state(checked_key(key))
    return gateway.registry.now_ms()
