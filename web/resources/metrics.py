"""What the gateway's processes count, for Prometheus."""

import falcon

from web.bootstrap import Gateway
from web.errors import RETRY_AFTER_S, Problem
from web.metrics import CONTENT_TYPE, process_metrics
from web.operations import PLAIN_TEXT, READ, operation
from web.resources.base import Resource


class MetricsResource(Resource):
    """GET /metrics."""

    def __init__(self, gateway: Gateway) -> None:
        super().__init__(gateway)
        self._metrics = process_metrics()

    @operation(READ, {200: PLAIN_TEXT})
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Answer in Prometheus's text format, for all workers of this worker's master."""
        try:
            response.data = self._metrics.exposition()
        except TimeoutError as error:
            raise Problem(503, str(error), headers={"Retry-After": RETRY_AFTER_S}) from error
        response.content_type = CONTENT_TYPE
