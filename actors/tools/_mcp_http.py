"""A server that is somewhere else: its messages go over streamable HTTP."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import streamable_http_client

from actors.tools._mcp_stdio import MESSAGE_BYTES_MAX

CONNECT_TIMEOUT_S = 10.0
GOODBYE_TIMEOUT_S = 2.0


@asynccontextmanager
async def http_streams(url: str, headers: Mapping[str, str]) -> AsyncIterator[TransportStreams]:
    """Connect to a server; the headers go with each request.

    Reading has no timeout: an answer may take as long as its call may, and whoever waits for a
    request sets a limit. Redirects that leave the server are not followed.
    """
    async with (
        httpx2.AsyncClient(
            headers=dict(headers),
            timeout=httpx2.Timeout(CONNECT_TIMEOUT_S, read=None),
            event_hooks={"request": [_hurry_goodbye]},
        ) as client,
        streamable_http_client(
            url, http_client=client, max_sse_event_size=MESSAGE_BYTES_MAX
        ) as streams,
    ):
        yield streams


async def _hurry_goodbye(request: httpx2.Request) -> None:
    """Limit the request that ends a session: nobody waits for that one."""
    if request.method == "DELETE":
        request.extensions["timeout"] = dict.fromkeys(
            ("connect", "read", "write", "pool"), GOODBYE_TIMEOUT_S
        )
