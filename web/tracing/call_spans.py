"""A run's model calls and tool calls as OpenTelemetry's spans; needs the extra ``otel``."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from msgspec.structs import replace
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.trace import Span, SpanKind, TraceFlags, Tracer
from opentelemetry.trace.status import Status, StatusCode

from actors.models.base import (
    Finished,
    Model,
    ModelError,
    ModelRequest,
    ModelStream,
    Part,
    Response,
)
from actors.runs.link import RunOver
from actors.runs.tracing import ToolSpan, TraceContext
from actors.session.messages import AssistantMessage, ToolCall, Usage
from actors.tools.base import ToolResult
from web.tracing import content

TOKEN_BUCKETS = tuple(4.0**power for power in range(14))
DURATION_BUCKETS_S = tuple(0.01 * 2**power for power in range(14))
RUN_BUCKETS_S = tuple(0.1 * 2**power for power in range(13))
"""All are what the conventions advise."""

PORTS = {"https": 443, "http": 80}

CANCELLED = "cancelled"
OTHER_ERROR = "_OTHER"
"""What the conventions call an error that has no name of its own."""

TOOL_TYPE = "function"

Attributes = dict[str, str | int | float | bool | Sequence[str]]
Labels = Mapping[str, str | int]


class Instruments:
    """What spans and measurements are made with.

    Without ``content`` nothing that people, models or tools said is told, nor what an error
    says, which may quote it. ``agent`` is what the gateway is called there.
    """

    def __init__(self, spans: Tracer, meter: Meter, agent: str, *, content: bool) -> None:
        self.spans = spans
        self.agent = agent
        self.content = content
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKEN_BUCKETS,
        )
        self._durations = _durations_of(meter, "client.operation.duration", "a model call")
        self._waits = _durations_of(
            meter, "client.operation.time_to_first_chunk", "a model call until its first chunk"
        )
        self._tools = _durations_of(meter, "execute_tool.duration", "a tool's execution")
        self._runs = _durations_of(meter, "invoke_agent.duration", "a run", RUN_BUCKETS_S)

    def fail(self, span: Span, kind: str, text: str) -> None:
        """Mark a span as failed."""
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, text if self.content else None))

    def measure_first_chunk(self, about: Labels, seconds: float) -> None:
        """Count how long a model call took to begin its answer."""
        self._waits.record(seconds, about)

    def measure_tool(self, name: str, seconds: float, error: str) -> None:
        """Count a tool's execution; ``error`` is "" where it went well."""
        about = {"gen_ai.tool.name": name, "gen_ai.tool.type": TOOL_TYPE}
        self._tools.record(seconds, {**about, **self._about(error)})

    def measure_run(self, seconds: float, error: str) -> None:
        """Count a run; ``error`` is "" where it went well."""
        self._runs.record(seconds, self._about(error))

    def _about(self, error: str) -> dict[str, str]:
        return {"gen_ai.agent.name": self.agent, **({"error.type": error} if error else {})}

    def measure(self, about: Labels, seconds: float, usage: Usage | None) -> None:
        """Count a model call; without a usage it failed."""
        self._durations.record(seconds, about)
        if usage is not None:
            for kind, tokens in (("input", input_tokens(usage)), ("output", usage.output)):
                self._tokens.record(max(0, tokens), {**about, "gen_ai.token.type": kind})


class RunSpans:
    """Tells of one run's model calls and tool calls. Implements RunTrace."""

    def __init__(self, instruments: Instruments, key: str, below: Context) -> None:
        self._instruments = instruments
        self._key = key
        self._below = below

    def model(self, model: Model) -> Model:
        """See RunTrace.model."""
        return _TracedModel(model, self)

    @contextlib.contextmanager
    def tool(self, call: ToolCall) -> Iterator[ToolSpan]:
        """See RunTrace.tool."""
        attributes: Attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": call.name,
            "gen_ai.tool.call.id": call.id,
            "gen_ai.tool.type": TOOL_TYPE,
        }
        if self._instruments.content:
            arguments = content.tool_arguments(call.arguments)
            attributes["gen_ai.tool.call.arguments"] = arguments
        span = self._start(f"execute_tool {call.name}", SpanKind.INTERNAL, attributes)
        tool, began_s = _ToolSpan(span, self._instruments), time.perf_counter()
        try:
            yield tool
        except BaseException as error:
            tool.fail(_kind_of(error), str(error))
            raise
        finally:
            self._instruments.measure_tool(call.name, time.perf_counter() - began_s, tool.error)
            span.end()

    @contextlib.contextmanager
    def call(self, model: Model, request: ModelRequest) -> Iterator[ModelStream]:
        """Make a model call within a span of its own."""
        about: dict[str, str | int] = {
            **about_operation("chat", model.provider, model.model_id),
            **about_server(model.address),
        }
        attributes: Attributes = {
            **about,
            "gen_ai.request.stream": True,
            "sessiond.model.attempt": request.attempt,
        }
        span = self._start(f"chat {model.model_id}", SpanKind.CLIENT, attributes)
        chat = _Chat(span, self._instruments, about)
        chat.asked(request)
        try:
            with model.stream(_below(request, span)) as stream:
                chat.stream = stream
                yield chat
        except BaseException as error:
            chat.failed(error)
            raise
        else:
            chat.failed(ModelError("The answer was not read to its end."))

    def _start(self, name: str, kind: SpanKind, attributes: Attributes) -> Span:
        attributes["gen_ai.conversation.id"] = self._key
        return self._instruments.spans.start_span(name, self._below, kind, attributes)


class _TracedModel:
    """A model whose calls are spans. Implements Model."""

    def __init__(self, model: Model, spans: RunSpans) -> None:
        self.provider = model.provider
        self.model_id = model.model_id
        self.address = model.address
        self.context_tokens = model.context_tokens
        self.remembers = model.remembers
        self._model = model
        self._spans = spans

    def stream(self, request: ModelRequest) -> contextlib.AbstractContextManager[ModelStream]:
        """See Model.stream."""
        return self._spans.call(self._model, request)


class _ToolSpan:
    """Implements ToolSpan."""

    def __init__(self, span: Span, instruments: Instruments) -> None:
        place = _place_of(span)
        self.traceparent = place.header
        self.tracestate = place.state
        self.error = ""
        self._span = span
        self._instruments = instruments

    def done(self, result: ToolResult) -> None:
        """See ToolSpan.done."""
        shown = ""
        if self._instruments.content:
            shown = content.tool_result(result.content)
            self._span.set_attribute("gen_ai.tool.call.result", shown)
        if result.is_error:
            self.fail("tool_error", shown)

    def fail(self, kind: str, text: str) -> None:
        """Mark the call as failed."""
        self.error = kind
        self._instruments.fail(self._span, kind, text)


class _Chat:
    """A model call as its span sees it. Implements ModelStream."""

    stream: ModelStream

    def __init__(self, span: Span, instruments: Instruments, about: dict[str, str | int]) -> None:
        self._span = span
        self._instruments = instruments
        self._about = about
        self._began_s = time.perf_counter()
        self._closed = False
        self._ended = False
        self._shows = instruments.content and span.is_recording()

    def __iter__(self) -> Iterator[Part]:
        """See ModelStream."""
        for number, part in enumerate(self.stream):
            if number == 0:
                self._began()
            if isinstance(part, Finished):  # recording the answer is not the call's time
                self._answered(part.message, part.response)
                self.end(part.message.usage)
            yield part

    def close(self) -> None:
        """See ModelStream.close."""
        self._closed = True
        self.stream.close()

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._began_s

    def asked(self, request: ModelRequest) -> None:
        """Take what the model is told."""
        if request.max_output_tokens is not None:
            self._span.set_attribute("gen_ai.request.max_tokens", request.max_output_tokens)
        if self._shows:
            told = content.input_messages(request.told)
            self._span.set_attribute("gen_ai.input.messages", told)
            if request.system:
                system = content.system_instructions(request.system)
                self._span.set_attribute("gen_ai.system_instructions", system)

    def failed(self, error: BaseException) -> None:
        """Take what went wrong before the answer was whole, or that nobody waits for it."""
        if self._ended:
            return
        kind = CANCELLED if self._closed else _kind_of(error)
        self._about["error.type"] = kind
        self._instruments.fail(self._span, kind, str(error))
        self.end(None)

    def end(self, usage: Usage | None) -> None:
        """End the span, with what the answer took where there is one."""
        self._ended = True
        self._instruments.measure(self._about, self._seconds, usage)
        self._span.end()

    def _began(self) -> None:
        seconds = self._seconds
        self._span.set_attribute("gen_ai.response.time_to_first_chunk", seconds)
        self._instruments.measure_first_chunk(self._about, seconds)

    def _answered(self, answer: AssistantMessage, response: Response) -> None:
        model_id = response.model_id or answer.model_id or self._about["gen_ai.request.model"]
        self._about["gen_ai.response.model"] = model_id
        reasons = [content.finish_reason(answer.stop_reason)]
        self._span.set_attribute("gen_ai.response.model", model_id)
        self._span.set_attribute("gen_ai.response.finish_reasons", reasons)
        if response.id:
            self._span.set_attribute("gen_ai.response.id", response.id)
        self._span.set_attributes(about_usage(answer.usage))
        if response.reasoning_tokens is not None:
            reasoned = "gen_ai.usage.reasoning.output_tokens"
            self._span.set_attribute(reasoned, response.reasoning_tokens)
        if self._shows:
            self._span.set_attribute("gen_ai.output.messages", content.output_messages(answer))


def about_operation(operation: str, provider: str, model_id: str) -> dict[str, str]:
    """Return what every span and measurement says of an operation with a model."""
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model_id,
    }


def about_server(address: str) -> dict[str, str | int]:
    """Return where a model is called, without what else the URL may hold; {} for one in here."""
    url = urlsplit(address)
    if not url.hostname:
        return {}
    port = url.port or PORTS.get(url.scheme, PORTS["https"])
    return {"server.address": url.hostname, "server.port": port}


def about_usage(usage: Usage) -> Attributes:
    """Return a usage as the conventions have it."""
    return {
        "gen_ai.usage.input_tokens": input_tokens(usage),
        "gen_ai.usage.output_tokens": usage.output,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write,
    }


def input_tokens(usage: Usage) -> int:
    """Return all that a model was told, as the conventions count: what was cached too."""
    return usage.input + usage.cache_read + usage.cache_write


def _durations_of(
    meter: Meter, name: str, what: str, buckets_s: Sequence[float] = DURATION_BUCKETS_S
) -> Histogram:
    return meter.create_histogram(
        f"gen_ai.{name}",
        "s",
        f"How long it takes: {what}.",
        explicit_bucket_boundaries_advisory=buckets_s,
    )


def _kind_of(error: BaseException) -> str:
    """Return what kind of error it is: a provider's status, or an exception's name."""
    if isinstance(error, RunOver):
        return CANCELLED
    if not isinstance(error, ModelError):
        return type(error).__name__
    if error.status is not None:
        return str(error.status)
    return OTHER_ERROR if error.__cause__ is None else type(error.__cause__).__name__


def _below(request: ModelRequest, span: Span) -> ModelRequest:
    """Return the request as one that is made within the span."""
    place = _place_of(span)
    return replace(request, traceparent=place.header, tracestate=place.state)


def _place_of(span: Span) -> TraceContext:
    place = span.get_span_context()
    sampled = bool(place.trace_flags & TraceFlags.SAMPLED)
    ids = f"{place.trace_id:032x}", f"{place.span_id:016x}"
    return TraceContext(*ids, sampled, place.trace_state.to_header())
