"""What runs tell a tracer, so that nothing here knows OpenTelemetry; by default nobody listens.

A run is one span, its model calls and tool calls are spans below it. Runs wait for approvals and
go on elsewhere, so the run's own span is told once, when the run has ended; which trace it is in
comes from the log, and so is the same in every process.
"""

import re
import secrets
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from hashlib import sha256
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from actors.feed import Committed
from actors.models.base import Model
from actors.runs.conversation import EndedRun
from actors.session.messages import ToolCall
from actors.session.state import ModelRef, Run, SessionState
from actors.tools.base import ToolResult

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
"""The names of the W3C's headers, and of the same in the ``_meta`` of an MCP call."""

TRACESTATE_CHARACTERS_MAX = 512
"""How much of a tracestate goes on: what W3C Trace Context asks everybody to pass on."""
TRACESTATE_MEMBERS_MAX = 32
LONG_MEMBER_CHARACTERS = 128
"""Members longer than this are the first to go where there is too much."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_VERSION = "00"
_SAMPLED = 1
_MEMBER = re.compile(
    r"([a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)


class TraceContext(Struct, frozen=True):
    """A place in a trace, or without a ``span_id`` its beginning.

    Ids are in lower-case hexadecimal. Whether it is ``sampled`` is decided where it begins.
    ``state`` is what tracers on the way have to say to each other, a tracestate.
    """

    trace_id: str
    span_id: str = ""
    sampled: bool = True
    state: str = ""

    @property
    def header(self) -> str:
        """Return it as a traceparent, as W3C Trace Context has it."""
        return f"{_VERSION}-{self.trace_id}-{self.span_id}-{int(self.sampled):02x}"


def read_traceparent(header: str) -> TraceContext | None:
    """Return what a traceparent says; None where it is none."""
    found = _TRACEPARENT.fullmatch(header.strip())
    if found is None or (header.strip().startswith(_VERSION) and len(header.strip()) != 55):
        return None
    trace_id, span_id, flags = found.groups()
    if int(trace_id, 16) == 0 or int(span_id, 16) == 0:
        return None
    return TraceContext(trace_id, span_id, bool(int(flags, 16) & _SAMPLED))


def read_tracestate(header: str) -> str:
    """Return what goes on of a tracestate; "" where it is none, for it is all or nothing.

    What is too long loses its longest members, then its oldest, as W3C Trace Context has it.
    """
    members = [each for part in header.split(",") if (each := part.strip(" \t"))]
    found = [_MEMBER.fullmatch(each) for each in members]
    keys = {each.group(1) for each in found if each is not None}
    if len(keys) != len(members) or len(members) > TRACESTATE_MEMBERS_MAX:
        return ""
    if len(",".join(members)) > TRACESTATE_CHARACTERS_MAX:
        members = [each for each in members if len(each) <= LONG_MEMBER_CHARACTERS]
    while len(",".join(members)) > TRACESTATE_CHARACTERS_MAX:
        members.pop()
    return ",".join(members)


def traced_request(header: str | None, *, begin: bool) -> str:
    """Return what the log keeps as a request's trace: the caller's, or one that begins here.

    Empty where there is none, and none is to ``begin``.
    """
    context = None if header is None else read_traceparent(header)
    if context is not None:
        return context.header
    return secrets.token_hex(16) if begin else ""


def trace_id_of(trace: str) -> str:
    """Return the id of a request's trace, as the log keeps it; "" where there is none."""
    context = read_traceparent(trace)
    return trace if context is None else context.trace_id


def caller_of(run: Run) -> TraceContext:
    """Return where in which trace a run was asked for.

    Without any trace the run's prompt names one, the same in every process.
    """
    if not run.trace:
        return TraceContext(_derived("trace", run.prompt_id, 16))
    context = read_traceparent(run.trace)
    return TraceContext(run.trace) if context is None else replace(context, state=run.tracestate)


def span_id_of(run: Run) -> str:
    """Return the id of a run's own span, the same in every process."""
    return _derived("run", run.prompt_id, 8)


def _derived(kind: str, prompt_id: str, size: int) -> str:
    return sha256(f"{kind}:{prompt_id}".encode()).digest()[:size].hex()


class ToolSpan(Protocol):
    """A tool call that is being made; its place in the trace is for what it asks elsewhere."""

    traceparent: str
    tracestate: str

    def done(self, result: ToolResult) -> None:
        """Take the result."""


class RunTrace(Protocol):
    """Follows the work on one run, as long as this process does it."""

    def model(self, model: Model) -> Model:
        """Return the model; calls of what is returned are traced."""

    def tool(self, call: ToolCall) -> AbstractContextManager[ToolSpan]:
        """Trace a tool call for as long as the context is open."""


class Tracer(Protocol):
    """Takes note of what runs do. No method blocks, none fails."""

    def run(self, state: SessionState, run: Run) -> RunTrace:
        """Return what follows the work on a session's run."""

    def run_ended(self, ended: EndedRun, model: ModelRef) -> None:
        """Take note of a run that is over, the model being its session's."""

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """Take note of a session's events that are durable."""


class _NoToolSpan:
    traceparent = ""
    tracestate = ""

    def done(self, result: ToolResult) -> None:
        pass


class _NoTrace:
    """Follows nothing. Implements RunTrace."""

    def model(self, model: Model) -> Model:
        return model

    def tool(self, call: ToolCall) -> AbstractContextManager[ToolSpan]:  # noqa: ARG002 - RunTrace's
        return _NO_SPAN


class NoTracer:
    """Takes note of nothing. Implements Tracer."""

    def run(self, state: SessionState, run: Run) -> RunTrace:  # noqa: ARG002 - Tracer's
        """See Tracer.run."""
        return NO_TRACE

    def run_ended(self, ended: EndedRun, model: ModelRef) -> None:
        """See Tracer.run_ended."""

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """See Tracer.committed."""


_NO_SPAN: AbstractContextManager[ToolSpan] = nullcontext(_NoToolSpan())
NO_TRACE: RunTrace = _NoTrace()
NO_TRACER: Tracer = NoTracer()
