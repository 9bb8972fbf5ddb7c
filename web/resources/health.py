"""Whether the process lives, and whether it takes requests."""

import falcon
from msgspec import UNSET

from web.operations import READ, operation
from web.resources.base import Resource
from web.schemas import Health, McpServerShown, Readiness, body_of


class HealthResource(Resource):
    """GET /health, for anybody."""

    @operation(None, {200: Health})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer while the process lives."""
        response.data = body_of(Health(ok=True, ready=self._gateway.ready))


class ReadyResource(Resource):
    """GET /ready, for load balancers and operators."""

    @operation(READ, {200: Readiness, 503: Readiness})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer 200 when requests are taken, 503 while the process starts or stops."""
        gateway = self._gateway
        ready = gateway.ready
        response.status = falcon.HTTP_200 if ready else falcon.HTTP_503
        servers = [
            McpServerShown(each.name, each.state, each.tools, each.restarts, each.error or UNSET)
            for each in gateway.tooling.servers()
        ]
        response.data = body_of(
            Readiness(
                ready,
                ready,
                gateway.registry.count,
                gateway.settings.tools,
                gateway.tooling.sandbox,
                servers,
            )
        )
