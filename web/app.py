"""The WSGI application: routes, middleware, error handlers."""

import time
from typing import Any

import falcon

from web.addresses import networks_of
from web.asked import RequestIdentity
from web.auth import Authentication
from web.bootstrap import Gateway
from web.cors import CrossOrigin
from web.errors import ErrorHandler, not_found
from web.limits import Limits
from web.metrics import Metrics, process_metrics
from web.openai_api.errors import BASE as OPENAI_BASE
from web.openai_api.errors import openai_errors
from web.openai_api.resources import openai_routes, switched_off
from web.resources.access import AccessResource
from web.resources.approvals import ApprovalResource, ApprovalsResource
from web.resources.base import Route
from web.resources.chats import (
    ChatResource,
    ChatStreamResource,
    EnqueueResource,
    MessagesResource,
    SteerResource,
)
from web.resources.checkpoints import (
    CheckpointResource,
    CheckpointsResource,
    ConsistencyResource,
    CosignaturesResource,
    KeysResource,
    LatestCheckpointResource,
    ProofResource,
)
from web.resources.config import ChannelsResource, ConfigResource
from web.resources.erasing import EraseResource, ErasuresResource, HoldResource
from web.resources.events import EventsResource
from web.resources.exports import ExportResource
from web.resources.health import HealthResource, ReadyResource
from web.resources.history import HistoryResource, StateResource
from web.resources.logs import LogsResource
from web.resources.memory import (
    CoreMemoriesResource,
    ForgetResource,
    MemorySearchResource,
    MemoryStatusResource,
    RebuildResource,
    RememberResource,
)
from web.resources.metrics import MetricsResource
from web.resources.models import ModelsResource
from web.resources.openapi import OPENAPI_PATH, OpenApiResource
from web.resources.raw_log import LogResource, SessionLogResource
from web.resources.replay import ReplayResource
from web.resources.sessions import (
    AbortResource,
    CompactResource,
    ModelResource,
    ReloadResource,
    ResetResource,
    SessionResource,
    SessionsResource,
)
from web.resources.time_travel import (
    DiffResource,
    ForkResource,
    RerunResource,
    RunsResource,
)
from web.resources.tokens import TokenResource, TokensResource
from web.resources.verify import VerifyResource
from web.resources.webhooks import WebhookResource
from web.ui.cookies import Seal
from web.ui.problems import write_problem_as_asked
from web.ui.routes import UI_ROUTES
from web.ui.secret import cookie_secret
from web.ui.visit import PageForms, PageVisits

JSON = "application/json; charset=utf-8"
NO_ROUTE = "none"
"""Stands for the route of a request that was refused before one was looked for, or had none."""


ROUTES: tuple[Route, ...] = (
    ("/health", HealthResource),
    ("/ready", ReadyResource),
    ("/metrics", MetricsResource),
    ("/config", ConfigResource),
    ("/logs", LogsResource),
    ("/log", LogResource),
    ("/audit/access", AccessResource),
    ("/audit/checkpoints", CheckpointsResource),
    ("/audit/checkpoints/latest", LatestCheckpointResource),
    ("/audit/checkpoints/{size}", CheckpointResource),
    ("/audit/checkpoints/{size}/cosignatures", CosignaturesResource),
    ("/audit/consistency", ConsistencyResource),
    ("/audit/keys", KeysResource),
    ("/models", ModelsResource),
    ("/channels/status", ChannelsResource),
    ("/memory/status", MemoryStatusResource),
    ("/memory/core", CoreMemoriesResource),
    ("/memory/search", MemorySearchResource),
    ("/memory/remember", RememberResource),
    ("/memory/forget", ForgetResource),
    ("/memory/rebuild", RebuildResource),
    ("/tokens", TokensResource),
    ("/tokens/{token_id}", TokenResource),
    ("/sessions", SessionsResource),
    ("/sessions/{key}", SessionResource),
    ("/sessions/{key}/messages", MessagesResource),
    ("/sessions/{key}/chat", ChatResource),
    ("/sessions/{key}/chat/stream", ChatStreamResource),
    ("/sessions/{key}/chat/{chat_id}/stream", ChatStreamResource),
    ("/sessions/{key}/steer", SteerResource),
    ("/sessions/{key}/enqueue", EnqueueResource),
    ("/sessions/{key}/events", EventsResource),
    ("/sessions/{key}/history", HistoryResource),
    ("/sessions/{key}/log", SessionLogResource),
    ("/sessions/{key}/audit/export", ExportResource),
    ("/sessions/{key}/state", StateResource),
    ("/sessions/{key}/diff", DiffResource),
    ("/sessions/{key}/fork", ForkResource),
    ("/sessions/{key}/runs", RunsResource),
    ("/sessions/{key}/runs/{run_id}/rerun", RerunResource),
    ("/sessions/{key}/replay", ReplayResource),
    ("/sessions/{key}/erase", EraseResource),
    ("/sessions/{key}/hold", HoldResource),
    ("/sessions/{key}/audit/erasures", ErasuresResource),
    ("/sessions/{key}/audit/verify", VerifyResource),
    ("/sessions/{key}/audit/proof", ProofResource),
    ("/sessions/{key}/abort", AbortResource),
    ("/sessions/{key}/reset", ResetResource),
    ("/sessions/{key}/reload", ReloadResource),
    ("/sessions/{key}/model", ModelResource),
    ("/sessions/{key}/compact", CompactResource),
    ("/sessions/{key}/approvals", ApprovalsResource),
    ("/sessions/{key}/approvals/{approval_id}", ApprovalResource),
)
"""Every path that is served without further settings, and what answers there."""


class RequestMetrics:
    """Middleware: count each request. It comes first, so that it sees the answer as it is sent."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Note when the request came."""
        request.context.began_s = time.perf_counter()

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        _resource: object,
        _req_succeeded: bool,  # noqa: FBT001 - Falcon's signature
    ) -> None:
        """Count it; of a stream nothing has been sent yet, so its length doesn't count."""
        seconds = time.perf_counter() - req.context.began_s
        self._metrics.request(req.method, req.uri_template or NO_ROUTE, resp.status_code, seconds)


def create_app(gateway: Gateway) -> falcon.App[falcon.Request, falcon.Response]:
    """Return the application that serves a gateway."""
    settings = gateway.settings
    webhooks = None if settings.webhook_secret is None else settings.webhook_base_path
    origins = frozenset(origin.strip() for origin in settings.cors_origins.split(",")) - {""}
    trusted = networks_of(settings.trusted_proxies)
    middleware: list[Any] = [  # Falcon types each kind apart
        RequestMetrics(process_metrics()),
        RequestIdentity(trusted, begin_traces=settings.otel_endpoint is not None),
        CrossOrigin(origins),
        PageVisits(
            gateway.tokens,
            Seal(cookie_secret(settings)),
            trusted,
            gateway.registry.now_ms,
            lambda: gateway.settings.ui_session_hours,
        ),
        Authentication(gateway.tokens, webhooks, gateway.admin.refresh),
        Limits(lambda: gateway.settings),
        PageForms(),
    ]
    app = falcon.App(media_type=JSON, middleware=middleware)
    handler = ErrorHandler(gateway.log_lines, openai_errors(write_problem_as_asked))
    for kind in (Exception, falcon.HTTPError):  # Falcon has a handler of its own for its errors
        app.add_error_handler(kind, handler)
    app.add_sink(not_found)
    if not settings.openai_endpoint:
        app.add_sink(switched_off, OPENAI_BASE)
    openai = openai_routes(served=settings.openai_endpoint)
    routes = [*ROUTES, *openai, *webhook_routes(webhooks)]
    for path, resource in routes:
        app.add_route(path, resource(gateway))
    for path, resource in UI_ROUTES:
        app.add_route(path, resource(gateway))
    app.add_route(OPENAPI_PATH, OpenApiResource(routes))
    return app


def webhook_routes(base: str | None) -> list[Route]:
    """Return the paths of the webhooks, where there are any."""
    if base is None:
        return []
    return [(path, WebhookResource) for path in (base, f"{base}/", f"{base}/{{route:path}}")]
