"""A session as a file: events that prove themselves, or a transcript for people."""

from collections.abc import Iterator
from typing import Literal
from urllib.parse import quote

import falcon

from actors.audit.exporting.file_format import FORMATS
from actors.audit.exporting.transcript_html import content_policy
from actors.audit.exporting.transcripts import transcript
from actors.audit.exporting.writing import Exported, export_lines, export_of
from web.bootstrap import Gateway
from web.operations import AUDIT, Refusable, operation
from web.resources.base import Resource
from web.sse import pieces
from web.streams import StreamSlot, bounded_writes

NDJSON = "application/x-ndjson"
RESOURCE = "export"

FILES = {
    "jsonl": (NDJSON, "jsonl"),
    "cloudevents": (NDJSON, "cloudevents.jsonl"),
    "markdown": ("text/markdown", "md"),
    "html": ("text/html", "html"),
}
"""The media type of each format, and how the names of its files end."""


class ExportQuery(Refusable, frozen=True):
    """What kind of file."""

    format: Literal["jsonl", "cloudevents", "markdown", "html"] = "jsonl"


class ExportResource(Resource):
    """GET /sessions/K/audit/export."""

    @operation(
        AUDIT, {200: (NDJSON, "text/markdown", "text/html")}, query=ExportQuery, errors=(404,)
    )
    def on_get(self, request: falcon.Request, response: falcon.Response, key: str) -> None:
        """Answer with a file of the session's whole log, a deleted session's too."""
        form = request.context.query.format
        gateway = self._gateway
        now = gateway.registry.now_ms()
        exported = export_of(gateway.log, gateway.checkpoints, key, now)
        slot = StreamSlot(gateway)
        try:
            gateway.record_access(request, RESOURCE, key)
            media_type, ending = FILES[form]
            response.content_type = f"{media_type}; charset=utf-8"
            response.set_headers(_headers(key, ending))
            if form == "html":
                response.set_header("Content-Security-Policy", content_policy())
            reading = _Reading()
            chunks = reading.until_stopped(pieces(file_chunks(gateway, exported, form)))
            response.stream = bounded_writes(request, gateway, chunks, reading, slot)
        except BaseException:
            slot.close()
            raise


class _Reading:
    """An answer on its way. Implements Followed."""

    def __init__(self) -> None:
        self._stopped = False

    def until_stopped(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks; once stopped break off, so that nobody takes the file for whole."""
        for chunk in chunks:
            if self._stopped:
                raise ConnectionAbortedError("The token was revoked.")
            yield chunk

    def stop(self) -> None:
        """See Followed.stop."""
        self._stopped = True

    def close(self) -> None:
        """See Followed.close."""


def file_chunks(gateway: Gateway, exported: Exported, form: str) -> Iterator[bytes]:
    """Yield a file in small parts."""
    if form in FORMATS:
        return export_lines(gateway.log, exported, FORMATS[form])
    return (text.encode() for text in transcript(gateway.log, exported, form))


def _headers(key: str, ending: str) -> dict[str, str]:
    plain, named = f"session.{ending}", quote(f"{key}.{ending}", safe="")
    return {
        "Content-Disposition": f"attachment; filename=\"{plain}\"; filename*=UTF-8''{named}",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
