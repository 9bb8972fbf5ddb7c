"""Webhooks: prompts from programs that know a secret instead of a token."""

import time

import falcon

from web.errors import Problem
from web.images import images_of
from web.inputs import ChatPrompt, IdempotencyHeaders, WebhookBody, WebhookQuery
from web.keys import checked_key
from web.operations import operation
from web.prompts import PROMPT_ERRORS, answer_at_once, answer_when_done
from web.requests import object_of, read_body, typed_object
from web.resources.base import Resource
from web.schemas import Enqueued, PromptResult
from web.settings import Settings
from web.webhook_auth import (
    SECRET_HEADERS,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    is_secret,
    is_signed,
)

KEY_PREFIX = "webhook:"
DEFAULT = "default"


class WebhookResource(Resource):
    """POST /webhooks and /webhooks/<route>."""

    @operation(
        None,
        {200: PromptResult, 202: Enqueued},
        body=WebhookBody,
        raw_body=True,
        query=WebhookQuery,
        headers=IdempotencyHeaders,
        errors=(*PROMPT_ERRORS, 401, 403, 409, 502),
    )
    def on_post(self, request: falcon.Request, response: falcon.Response, route: str = "") -> None:
        """Prompt the webhook's session; wait for the answer unless ``?wait=false``."""
        settings = self._gateway.settings
        body = read_body(request, settings.body_bytes_max)
        signature = proven(request, body, settings)
        fields = typed_object(object_of(body), WebhookBody)
        prompt = ChatPrompt(
            fields.text,
            idempotency_key=signature and f"signature:{signature}",
            metadata=fields.metadata,
            images=images_of(fields.images or ()),
        )
        answer = answer_when_done if request.context.query.wait else answer_at_once
        key = checked_key(_key_of(route.lstrip("/"), fields, settings))
        answer(self._gateway, request, response, key, prompt, "webhook")


def proven(request: falcon.Request, body: bytes, settings: Settings) -> str:
    """Return the request's signature, "" where the secret itself was sent. Raises Problem 401.

    A signed request that is sent again is the same prompt, so that nobody can replay it.
    """
    assert settings.webhook_secret is not None
    secret = settings.webhook_secret.get_secret_value()
    for header in SECRET_HEADERS:
        offered = request.get_header(header)
        if offered is not None and is_secret(offered, secret):
            return ""
    signature = request.get_header(SIGNATURE_HEADER) or ""
    timestamp = request.get_header(TIMESTAMP_HEADER) or ""
    if is_signed(
        signature,
        timestamp,
        body,
        secret,
        now_s=time.time(),
        tolerance_s=settings.webhook_tolerance_s,
    ):
        return signature
    raise Problem(401, "Invalid webhook secret")


def _key_of(route: str, fields: WebhookBody, settings: Settings) -> str:
    named = fields.session_key
    if isinstance(named, str):
        allowed = {key.strip() for key in settings.webhook_sessions.split(",")} - {""}
        if not named.startswith(KEY_PREFIX) and named not in allowed:
            raise Problem(403, f"A webhook reaches {KEY_PREFIX}… sessions, not {named!r}.")
        return named
    sender = fields.sender
    if not isinstance(sender, str) or not sender:
        sender = DEFAULT
    return f"{KEY_PREFIX}{route or DEFAULT}:{sender}"
