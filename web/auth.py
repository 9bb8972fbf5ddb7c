"""Who is asking, and whether they may: a bearer token, and what its scopes and prefix allow."""

from collections.abc import Callable

import falcon

from actors.errors import SessionNotFound
from web.errors import Problem
from web.keys import checked_key
from web.operations import ADMIN, methods_of, operation_of
from web.tokens import ANONYMOUS, EVERYTHING, NOTHING, Access, Tokens
from web.ui.paths import is_open, is_ui

OPEN_PATHS = frozenset({"/health"})
WEBHOOK = "webhook"


class Authentication:
    """Middleware: refuse requests without a token, where one is needed.

    A POST to ``webhooks`` or below proves itself in another way. ``refresh`` takes in what other
    processes have changed.
    """

    def __init__(
        self,
        tokens: Tokens,
        webhooks: str | None = None,
        refresh: Callable[[], object] = lambda: None,
    ) -> None:
        self._tokens = tokens
        self._refresh = refresh
        self._webhooks = webhooks

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Give the request what it may do. Raises Problem 401."""
        request.context.access = self._access(request)

    def process_resource(
        self,
        request: falcon.Request,
        _response: falcon.Response,
        resource: object,
        params: dict[str, str],
    ) -> None:
        """Refuse what the token does not allow. Raises Problem 403, or 404 for a hidden session."""
        described = operation_of(resource, request.method)
        if described is None:  # a method that the resource doesn't have
            if request.method == "OPTIONS" and not request.context.preflight:
                raise falcon.HTTPMethodNotAllowed(methods_of(resource))
            return
        access: Access = request.context.access
        key = params.get("key")
        if key is not None and not access.sees(checked_key(key)):
            raise SessionNotFound(key)
        if described.scope is not None and not access.may(described.scope):
            raise Problem(403, f"This token is not allowed the scope {described.scope!r}.")
        if key is None and access.key_prefix and described.scope == ADMIN:
            raise Problem(403, f"This token is for the sessions {access.key_prefix}… only.")

    def _access(self, request: falcon.Request) -> Access:
        if self._is_webhook(request):
            return Access(WEBHOOK, NOTHING)
        if request.context.preflight:
            return Access(ANONYMOUS, NOTHING)
        if is_open(request.path):
            return Access(ANONYMOUS, NOTHING)
        if request.path in OPEN_PATHS or not self._tokens.required:
            return Access(ANONYMOUS, EVERYTHING)
        if is_ui(request.path):  # a cookie counts there only, so that no other page can use the API
            access = self.access_of(request.context.visit.token)
            if access is None:
                raise Problem(401, "Sign in first.")
            return access
        scheme, _, token = (request.get_header("Authorization") or "").partition(" ")
        access = self.access_of(token) if scheme.lower() == "bearer" else None
        if access is None:
            raise Problem(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
        return access

    def access_of(self, token: str) -> Access | None:
        """Return what a token allows, as all processes know it now; None for one that is none."""
        access = self._tokens.access(token)
        if access is None and token:  # it may have been issued a moment ago
            self._refresh()
            access = self._tokens.access(token)
        return access

    def _is_webhook(self, request: falcon.Request) -> bool:
        base = self._webhooks
        return (
            base is not None
            and request.method == "POST"
            and (request.path == base or request.path.startswith(f"{base}/"))
        )
