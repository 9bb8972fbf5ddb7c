"""Runs as OpenTelemetry's spans, by its conventions for generative AI; needs the extra ``otel``."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, TraceFlags, TraceState

from actors.feed import Committed
from actors.runs.conversation import EndedRun
from actors.runs.tracing import RunTrace, TraceContext, caller_of, read_traceparent, span_id_of
from actors.session import events as e
from actors.session.state import Approval, ModelRef, Run, SessionState
from web.tracing.call_spans import Attributes, Instruments, RunSpans, about_operation, about_usage

SCOPE = "sessiond"
NS_PER_MS = 1_000_000

OUTCOMES: dict[type[e.Event], str] = {
    e.RunCompleted: "completed",
    e.RunFailed: "failed",
    e.RunAborted: "aborted",
    e.RunInterrupted: "interrupted",
}


class ChosenIds(RandomIdGenerator):
    """Ids at random, but for a span whose ids follow from the log."""

    def __init__(self) -> None:
        self._chosen = threading.local()

    @contextlib.contextmanager
    def chosen(self, trace_id: str, span_id: str) -> Iterator[None]:
        """Give the next span on this thread these ids."""
        self._chosen.ids = int(trace_id, 16), int(span_id, 16)
        try:
            yield
        finally:
            self._chosen.ids = None

    def generate_trace_id(self) -> int:
        """See IdGenerator."""
        ids: tuple[int, int] | None = getattr(self._chosen, "ids", None)
        return super().generate_trace_id() if ids is None else ids[0]

    def generate_span_id(self) -> int:
        """See IdGenerator."""
        ids: tuple[int, int] | None = getattr(self._chosen, "ids", None)
        return super().generate_span_id() if ids is None else ids[1]


class SpanTracer:
    """Tells OpenTelemetry what runs do. Implements Tracer.

    ``agent`` and ``content`` are as Instruments has them. ``ids`` are those of the provider of
    spans.
    """

    def __init__(
        self,
        spans: TracerProvider,
        ids: ChosenIds,
        metrics: MeterProvider,
        agent: str,
        *,
        content: bool,
    ) -> None:
        scope = SCOPE, version("sessiond")
        self._instruments = Instruments(
            spans.get_tracer(*scope), metrics.get_meter(*scope), agent, content=content
        )
        self._sampler = spans.sampler
        self._ids = ids
        self._name = f"invoke_agent {agent}"

    def run(self, state: SessionState, run: Run) -> RunTrace:
        """See Tracer.run."""
        return RunSpans(self._instruments, state.key, self._below(run))

    def run_ended(self, ended: EndedRun, model: ModelRef) -> None:
        """See Tracer.run_ended."""
        run, end, caller = ended.run, ended.end, caller_of(ended.run)
        with self._ids.chosen(caller.trace_id, span_id_of(run)):
            span = self._instruments.spans.start_span(
                self._name,
                _place(caller, remote=True) if caller.span_id else Context(),
                attributes=self._about(ended, model),
                start_time=run.started_at * NS_PER_MS,
            )
        error, why = _error_of(end)
        if error:
            self._instruments.fail(span, error, why)
        at = max(getattr(end, "at", run.started_at), run.started_at)
        self._instruments.measure_run((at - run.started_at) / 1_000, error)
        span.end(at * NS_PER_MS)

    def committed(self, key: str, committed: Sequence[Committed]) -> None:
        """Tell of approvals that were waited for."""
        for each in committed:
            event, run = each.event, each.state.run
            if isinstance(event, e.ApprovalResolved) and run is not None:
                for approval in each.state.approvals:
                    if approval.approval_id == event.approval_id:
                        self._waited(key, run, approval, event)

    def _about(self, ended: EndedRun, model: ModelRef) -> Attributes:
        run = ended.run
        return {
            **about_operation("invoke_agent", model.provider, model.model_id),
            "gen_ai.agent.name": self._instruments.agent,
            "gen_ai.conversation.id": ended.state.key,
            "sessiond.session.id": ended.state.session_id,
            "sessiond.prompt.id": run.prompt_id,
            "sessiond.prompt.source": run.source,
            "sessiond.run.outcome": OUTCOMES.get(type(ended.end), "interrupted"),
            "sessiond.run.turns": run.turn,
            "sessiond.run.approval_wait_ms": run.waited_ms,
            "sessiond.run.cost_usd": ended.usage.cost_usd,
            **about_usage(ended.usage),
        }

    def _waited(self, key: str, run: Run, approval: Approval, event: e.ApprovalResolved) -> None:
        span = self._instruments.spans.start_span(
            f"wait_for_approval {approval.tool_name}",
            self._below(run),
            attributes={
                "gen_ai.conversation.id": key,
                "gen_ai.tool.name": approval.tool_name,
                "gen_ai.tool.call.id": approval.tool_call_id,
                "sessiond.approval.id": approval.approval_id,
                "sessiond.approval.approved": event.approved,
            },
            links=_links_to(event.request),
            start_time=approval.requested_at * NS_PER_MS,
        )
        span.end(max(event.at, approval.requested_at) * NS_PER_MS)

    def _below(self, run: Run) -> Context:
        """Return where a run's model calls and tool calls are: below its own span."""
        caller = caller_of(run)
        sampled = caller.sampled if caller.span_id else self._begins_sampled(caller.trace_id)
        place = TraceContext(caller.trace_id, span_id_of(run), sampled, caller.state)
        return _place(place, remote=False)

    def _begins_sampled(self, trace_id: str) -> bool:
        """Decide as it will be decided of the run's own span, which comes last."""
        decided = self._sampler.should_sample(None, int(trace_id, 16), self._name).decision
        return decided is Decision.RECORD_AND_SAMPLE


def _error_of(end: e.Event) -> tuple[str, str]:
    """Return the error that a run ended by, and what is said about it; "" where it is none."""
    match end:
        case e.RunFailed():
            return "failed", end.error
        case e.RunInterrupted():
            return "interrupted", end.reason
        case _:
            return "", ""


def _links_to(request: e.Request | None) -> list[Link]:
    """Return a link to the request's own trace; none where it has no span there."""
    caller = None if request is None else read_traceparent(request.trace)
    if caller is None:
        return []
    return [Link(_span_context(caller, remote=True))]


def _place(at: TraceContext, *, remote: bool) -> Context:
    return trace.set_span_in_context(NonRecordingSpan(_span_context(at, remote=remote)), Context())


def _span_context(at: TraceContext, *, remote: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if at.sampled else TraceFlags.DEFAULT)
    state = TraceState.from_header([at.state])
    return SpanContext(int(at.trace_id, 16), int(at.span_id, 16), remote, flags, state)
