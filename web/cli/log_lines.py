"""The raw log of a running gateway, line by line, over lost connections."""

import contextlib
import json
import time
from collections.abc import Iterator

import click

from web.cli.client import Backoff, Client, Refused, Unreachable, session_path, with_query

NDJSON = "application/x-ndjson"

BEGINNING = "0-0"
"""The cursor before all events."""


def asked_lines(
    client: Client, key: str | None, types: str | None, after: str | int, *, follow: bool
) -> Iterator[bytes]:
    """Yield lines behind a place, of one session or of all streams, each once and in order.

    A connection that breaks off is taken up again behind the last line. Raises Refused or
    Unreachable.
    """
    backoff = Backoff()
    first = True
    while True:
        query = {"after": after, "types": types, "follow": "1" if follow else None}
        path = with_query("/log", **query) if key is None else session_path(key, "log", **query)
        error: click.ClickException | None = None
        try:
            lines = client.open(path, NDJSON)
        except (Refused, Unreachable) as refused:
            if first or (isinstance(refused, Refused) and refused.status != 503):
                raise
            error = refused
        else:
            first = False
            with contextlib.closing(lines):
                for text in lines:
                    backoff.reset()
                    if text.strip() and text.endswith(b"\n"):
                        line = json.loads(text)
                        after = line["seq"] if key is not None else line["cursor"]
                        yield text.rstrip(b"\n")
            if not follow and not lines.broken:
                return
        time.sleep(backoff.delay_s(error))
