"""Who asked: what the log keeps of the request that led to an event."""

import uuid
from collections.abc import Collection
from typing import Any

import falcon

from actors.runs.tracing import (
    TRACEPARENT,
    TRACESTATE,
    read_traceparent,
    read_tracestate,
    traced_request,
)
from actors.session.events import Request
from web.addresses import Network, source_address
from web.tokens import Access

REQUEST_ID = "X-Request-Id"
AGENT_CHARACTERS_MAX = 200
QUERY_CHARACTERS_MAX = 1_000
REPLACEMENT = "\ufffd"


class RequestIdentity:
    """Middleware: give each request an id of its own, and the address that it came from.

    The id is never taken over from the client: in the log it stands for one request, and nobody
    may make theirs look like somebody else's. Every answer has it in its header. The trace is
    the one that the client names; without one it begins here where ``begin_traces`` says so.
    """

    def __init__(self, trusted: Collection[Network], *, begin_traces: bool = False) -> None:
        self._trusted = trusted
        self._begin_traces = begin_traces

    def process_request(self, request: falcon.Request, response: falcon.Response) -> None:
        """Note both, and the trace that the request is part of."""
        request.context.request_id = str(uuid.uuid4())
        response.set_header(REQUEST_ID, request.context.request_id)
        forwarded = request.get_header("X-Forwarded-For") or ""
        peer = request.env.get("REMOTE_ADDR") or ""
        request.context.address = source_address(peer, forwarded, self._trusted)
        header = request.get_header(TRACEPARENT)
        trace = traced_request(header, begin=self._begin_traces)
        request.context.trace = trace
        state = (request.get_header(TRACESTATE) or "") if read_traceparent(trace) else ""
        request.context.tracestate = read_tracestate(state)


def asked(request: falcon.Request) -> dict[str, Any]:
    """Return what a command is told of who gave it: its ``principal`` and ``request``."""
    access: Access = request.context.access
    return {"principal": access.principal, "request": request_of(request)}


def request_of(request: falcon.Request) -> Request:
    """Return what the log keeps of a request."""
    context = request.context
    agent = agent_of(request.get_header("User-Agent") or "")
    return Request(
        context.request_id,
        context.access.token_id,
        context.address,
        agent,
        context.trace,
        context.tracestate,
    )


def query_of(request: falcon.Request) -> str:
    """Return a request's parameters as they were sent, cut."""
    return shown(request.query_string, QUERY_CHARACTERS_MAX)


def agent_of(header: str) -> str:
    """Return what a client says it is, cut."""
    return shown(header, AGENT_CHARACTERS_MAX)


def shown(text: str, characters_max: int) -> str:
    """Return a text of a request's header, cut, and without what can't be shown.

    WSGI hands over bytes as Latin-1; clients that send more than ASCII mean UTF-8.
    """
    decoded = text.encode("latin-1", "replace").decode("utf-8", "replace")
    return "".join(
        [each if each.isprintable() else REPLACEMENT for each in decoded[:characters_max]]
    )
