"""Who is asking: a bearer token, compared in constant time by its digest."""

import hmac
import uuid
from hashlib import sha256

import falcon

from web.errors import Problem

OPEN_PATHS = frozenset({"/health"})


class Authentication:
    """Middleware: refuse requests without the token, where one is configured."""

    def __init__(self, token: str | None) -> None:
        self._digest = None if token is None else sha256(token.encode()).digest()

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Give the request an id and a principal. Raises Problem 401."""
        request.context.request_id = str(uuid.uuid4())
        request.context.principal = None
        if self._digest is None or request.path in OPEN_PATHS:
            return
        scheme, _, token = (request.get_header("Authorization") or "").partition(" ")
        offered = sha256(token.encode("utf-8", "replace")).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(offered, self._digest):
            raise Problem(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
        request.context.principal = "token"
