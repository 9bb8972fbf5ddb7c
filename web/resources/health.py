"""Whether the process lives, and whether it takes requests."""

import falcon

from web.bootstrap import Gateway
from web.schemas import Health, Readiness, body_of


class HealthResource:
    """GET /health, for anybody."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer while the process lives."""
        response.data = body_of(Health(ok=True, ready=self._gateway.ready))


class ReadyResource:
    """GET /ready, for load balancers and operators."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer 200 when requests are taken, 503 while the process starts or stops."""
        ready = self._gateway.ready
        response.status = falcon.HTTP_200 if ready else falcon.HTTP_503
        response.data = body_of(Readiness(ready, ready, self._gateway.registry.count))
