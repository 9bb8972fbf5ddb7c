"""Who is asking: a bearer token, compared in constant time by its digest."""

import hmac
import uuid
from hashlib import sha256

import falcon

from web.errors import Problem

OPEN_PATHS = frozenset({"/health"})


class Authentication:
    """Middleware: refuse requests without the token, where one is configured.

    A POST to ``webhooks`` or below proves itself in another way.
    """

    def __init__(self, token: str | None, webhooks: str | None = None) -> None:
        self._digest = None if token is None else sha256(token.encode()).digest()
        self._webhooks = webhooks

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Give the request an id and a principal. Raises Problem 401."""
        request.context.request_id = str(uuid.uuid4())
        request.context.principal = None
        if self._digest is None or self._is_open(request):
            return
        scheme, _, token = (request.get_header("Authorization") or "").partition(" ")
        offered = sha256(token.encode("utf-8", "replace")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(offered, self._digest):
            raise Problem(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
        request.context.principal = "token"

    def _is_open(self, request: falcon.Request) -> bool:
        if request.path in OPEN_PATHS:
            return True
        base = self._webhooks
        return (
            base is not None
            and request.method == "POST"
            and (request.path == base or request.path.startswith(f"{base}/"))
        )
