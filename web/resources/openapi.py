"""What can be asked of the gateway, for programs that want to know."""

from collections.abc import Sequence

import falcon
import msgspec

from web.openapi import openapi_document
from web.operations import operation
from web.resources.base import Route

OPENAPI_PATH = "/openapi.json"


class OpenApiResource:
    """GET /openapi.json: the routes, and itself."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = [*routes, (OPENAPI_PATH, type(self))]
        self._document: bytes | None = None

    @operation(None, {200: dict})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the OpenAPI 3.1 document of everything that is served."""
        if self._document is None:
            self._document = msgspec.json.encode(openapi_document(self._routes))
        response.data = self._document
