"""What the gateway did lately, in lines."""

import falcon

from web.operations import ADMIN, operation
from web.resources.base import Resource
from web.schemas import LogEntry, Logs, body_of

SHOWN_LINES = 200


class LogsResource(Resource):
    """GET /logs."""

    @operation(ADMIN, {200: Logs})
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer with the newest lines; they quote no prompt unless ``log_texts`` says so."""
        if self._gateway.settings.log_texts:
            self._gateway.record_access(request, "logs")
        lines = self._gateway.log_lines.newest(SHOWN_LINES)
        entries = [LogEntry(each.at, each.level, each.line) for each in lines]
        response.data = body_of(Logs([each.line for each in lines], entries))
