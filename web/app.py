"""The WSGI application: routes, middleware, error handlers."""

from typing import Any

import falcon

from web.auth import Authentication
from web.bootstrap import Gateway
from web.errors import handle, not_found
from web.limits import Limits
from web.resources.chats import (
    ChatResource,
    ChatStreamResource,
    EnqueueResource,
    MessagesResource,
    SteerResource,
)
from web.resources.config import ChannelsResource, ConfigResource
from web.resources.events import EventsResource
from web.resources.health import HealthResource, ReadyResource
from web.resources.history import HistoryResource, StateResource
from web.resources.models import ModelsResource
from web.resources.sessions import (
    AbortResource,
    ModelResource,
    ReloadResource,
    ResetResource,
    SessionResource,
    SessionsResource,
)
from web.resources.webhooks import WebhookResource

JSON = "application/json; charset=utf-8"


def create_app(gateway: Gateway) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application that serves a gateway."""
    settings = gateway.settings
    token = None if settings.token is None else settings.token.get_secret_value()
    webhooks = None if settings.webhook_secret is None else settings.webhook_base_path
    limits = Limits(lambda: gateway.settings.body_bytes_max)
    middleware: list[Any] = [
        Authentication(token, webhooks),
        limits,
    ]  # Falcon types each kind apart
    app = falcon.App(media_type=JSON, middleware=middleware)
    for kind in (Exception, falcon.HTTPError):  # Falcon has a handler of its own for its errors
        app.add_error_handler(kind, handle)
    app.add_sink(not_found)
    app.add_route("/health", HealthResource(gateway))
    app.add_route("/ready", ReadyResource(gateway))
    app.add_route("/config", ConfigResource(gateway))
    app.add_route("/models", ModelsResource(gateway))
    app.add_route("/channels/status", ChannelsResource())
    app.add_route("/sessions", SessionsResource(gateway))
    app.add_route("/sessions/{key}", SessionResource(gateway))
    app.add_route("/sessions/{key}/messages", MessagesResource(gateway))
    app.add_route("/sessions/{key}/chat", ChatResource(gateway))
    app.add_route("/sessions/{key}/chat/stream", ChatStreamResource(gateway))
    app.add_route("/sessions/{key}/chat/{chat_id}/stream", ChatStreamResource(gateway))
    app.add_route("/sessions/{key}/steer", SteerResource(gateway))
    app.add_route("/sessions/{key}/enqueue", EnqueueResource(gateway))
    app.add_route("/sessions/{key}/events", EventsResource(gateway))
    app.add_route("/sessions/{key}/history", HistoryResource(gateway))
    app.add_route("/sessions/{key}/state", StateResource(gateway))
    app.add_route("/sessions/{key}/abort", AbortResource(gateway))
    app.add_route("/sessions/{key}/reset", ResetResource(gateway))
    app.add_route("/sessions/{key}/reload", ReloadResource(gateway))
    app.add_route("/sessions/{key}/model", ModelResource(gateway))
    if webhooks is not None:
        for path in (webhooks, f"{webhooks}/", f"{webhooks}/{{route}}"):
            app.add_route(path, WebhookResource(gateway))
    return app
