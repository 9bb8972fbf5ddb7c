"""Pages of other origins: those that are configured may call the gateway, others may not."""

from collections.abc import Collection

import falcon

from web.ui.paths import is_ui

EXPOSED_HEADERS = (
    "Retry-After",
    "X-Request-Id",
    "X-Session-Key",
    "x-should-retry",
    "x-vercel-ai-ui-message-stream",
)


class CrossOrigin(falcon.CORSMiddleware):  # type: ignore[type-arg] # its own bounds refuse falcon.Request
    """Falcon's own CORS, for the origins given, and what it leaves to the application.

    Before it sends what its page wants a browser asks by OPTIONS, without a token: such a request
    is marked as ``preflight``. And a cache must not give one origin's answer to another. None of
    it counts for the operator's page: its cookie would let another page read what it shows.
    """

    def __init__(self, origins: Collection[str]) -> None:
        super().__init__(origins, expose_headers=EXPOSED_HEADERS, allow_credentials=origins)

    def process_request(self, request: falcon.Request, _response: falcon.Response) -> None:
        """Mark a browser's question whether a page may call."""
        request.context.preflight = (
            request.method == "OPTIONS"
            and not is_ui(request.path)
            and request.get_header("Access-Control-Request-Method") is not None
            and request.get_header("Origin") in self.allow_origins
        )

    def process_response(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,
        req_succeeded: bool,  # noqa: FBT001 - Falcon's signature
    ) -> None:
        """Set the headers that let an allowed origin's page read the answer."""
        if is_ui(req.path):
            return
        super().process_response(req, resp, resource, req_succeeded)
        if req.context.preflight:
            resp.status = falcon.HTTP_204
        if self.allow_origins:
            resp.append_header("Vary", "Origin")
