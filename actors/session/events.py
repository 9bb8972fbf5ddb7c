"""What can happen to a session: facts in the past tense. Pure.

Each event has a wire name and a schema version; ``codec.py`` turns them into bytes and back.
``at`` is in milliseconds since the epoch, UTC. A run is one prompt's processing and has the
prompt's id.
"""

from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from actors.session.messages import (
    AssistantMessage,
    Block,
    Image,
    ToolResultMessage,
    Usage,
    UserMessage,
)


class Request(Struct, frozen=True, gc=False, omit_defaults=True):
    """The request that an event came with: part of the payload, so that it can be erased.

    ``token`` is the token's public id, ``address`` where the request came from, ``agent`` what
    sent it, by its own words. ``trace`` is the W3C traceparent that came with it, or the trace's
    id alone where the trace began here; ``tracestate`` is what came with the traceparent.
    """

    id: str
    token: str = ""
    address: str = ""
    agent: str = ""
    trace: str = ""
    tracestate: str = ""


class Event(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of all events; ``request`` is set where one led to it directly."""

    wire_name: ClassVar[str]
    schema_version: ClassVar[int] = 1
    request: Request | None = None


class Erased(Event, frozen=True):
    """Stands for an event whose payload is erased: only its type is known. Never written."""

    wire_name: ClassVar[str] = ""
    type: str


class SessionCreated(Event, frozen=True):
    """The key came to mean a session."""

    wire_name: ClassVar[str] = "session.created"
    session_id: str
    at: int


class SessionImported(Event, frozen=True):
    """What follows was recorded elsewhere; ``source`` says by what, in which file."""

    wire_name: ClassVar[str] = "session.imported"
    source: str
    original_id: str
    at: int


class SessionSettled(Event, frozen=True):
    """A run that did not complete is behind the session; it is ready for the next."""

    wire_name: ClassVar[str] = "session.settled"
    at: int


class SessionRenamed(Event, frozen=True):
    """People gave the session a name."""

    wire_name: ClassVar[str] = "session.renamed"
    name: str
    at: int


class SessionReset(Event, frozen=True):
    """The conversation begins anew under another id; what was said stays in the log."""

    wire_name: ClassVar[str] = "session.reset"
    session_id: str
    at: int


class SessionReloaded(Event, frozen=True):
    """Somebody asked for the settings to be read again."""

    wire_name: ClassVar[str] = "session.reloaded"
    at: int


class SessionDeleted(Event, frozen=True):
    """The key means no session any more; it can be used again and then starts empty."""

    wire_name: ClassVar[str] = "session.deleted"
    at: int


class ModelSelected(Event, frozen=True):
    """The session's next model calls go to this model."""

    wire_name: ClassVar[str] = "model.selected"
    provider: str
    model_id: str
    at: int
    thinking_level: str = ""


class ContextCompacted(Event, frozen=True):
    """The model is told ``summary`` in place of the messages before ``first_kept_seq``.

    ``reason`` is window (it was nearly full), overflow (the provider said it was), or asked.
    ``tokens_before`` is about what the model was told until then; ``usage`` what the summary took.
    """

    wire_name: ClassVar[str] = "context.compacted"
    summary: str
    first_kept_seq: int
    at: int
    reason: str = ""
    tokens_before: int = 0
    usage: Usage = Usage()


class PromptQueued(Event, frozen=True):
    """A prompt was accepted and waits for its run; ``source`` names the route it came by.

    ``idempotency_key`` is the client's: the same key again means the same prompt. ``metadata``
    is what a program sent along, any JSON value; the model is not told it. The run's events are
    recorded as asked for by ``principal``.
    """

    wire_name: ClassVar[str] = "prompt.queued"
    prompt_id: str
    text: str
    source: str
    at: int
    message_id: str = ""
    idempotency_key: str = ""
    metadata: Any = None
    principal: str = ""
    images: tuple[Image, ...] = ()


class PromptCancelled(Event, frozen=True):
    """A waiting prompt will not run."""

    wire_name: ClassVar[str] = "prompt.cancelled"
    prompt_id: str
    reason: str
    at: int


class SteeringReceived(Event, frozen=True):
    """Somebody has more to say to the run in progress."""

    wire_name: ClassVar[str] = "steering.received"
    steering_id: str
    text: str
    at: int
    idempotency_key: str = ""
    images: tuple[Image, ...] = ()


class SteeringDelivered(Event, frozen=True):
    """The next message is what was received: the model's next call is told it."""

    wire_name: ClassVar[str] = "steering.delivered"
    steering_id: str
    at: int


class RunStarted(Event, frozen=True):
    """The prompt left the queue and is being processed."""

    wire_name: ClassVar[str] = "run.started"
    prompt_id: str
    at: int


class RunCompleted(Event, frozen=True):
    """The model stopped by itself."""

    wire_name: ClassVar[str] = "run.completed"
    prompt_id: str
    at: int


class RunFailed(Event, frozen=True):
    """The run ended by an error."""

    wire_name: ClassVar[str] = "run.failed"
    prompt_id: str
    error: str
    at: int


class RunAborted(Event, frozen=True):
    """Somebody asked for the run to end."""

    wire_name: ClassVar[str] = "run.aborted"
    prompt_id: str
    at: int


class RunInterrupted(Event, frozen=True):
    """The process that ran it died or had to stop."""

    wire_name: ClassVar[str] = "run.interrupted"
    prompt_id: str
    reason: str
    at: int


class RunContinued(Event, frozen=True):
    """The process that ran it died; another one goes on, for the ``attempt``-th time, with a turn.

    What had arrived of an answer is a message whose ``stop_reason`` is ``retried``.
    """

    wire_name: ClassVar[str] = "run.continued"
    prompt_id: str
    attempt: int
    reason: str
    at: int


class TurnStarted(Event, frozen=True):
    """A model call begins; its tools belong to the same turn."""

    wire_name: ClassVar[str] = "turn.started"
    turn: int
    at: int


class TurnRetried(Event, frozen=True):
    """The turn's model call failed; it is made again ``delay_ms`` later, as the next attempt.

    What had arrived of the answer is a message whose ``stop_reason`` is ``retried``.
    """

    wire_name: ClassVar[str] = "turn.retried"
    turn: int
    attempt: int
    error: str
    delay_ms: int
    at: int


class TurnEnded(Event, frozen=True):
    """The model call and its tools are through."""

    wire_name: ClassVar[str] = "turn.ended"
    turn: int
    stop_reason: str
    at: int
    usage: Usage = Usage()


class MessageStarted(Event, frozen=True):
    """A message begins: an assistant's, before its deltas; a tool result's, after its tool."""

    wire_name: ClassVar[str] = "message.started"
    role: str
    at: int
    tool_call_id: str = ""


class TextDelta(Event, frozen=True, gc=False):
    """More text of the content block ``index``."""

    wire_name: ClassVar[str] = "text.delta"
    index: int
    text: str


class ThinkingDelta(Event, frozen=True, gc=False):
    """More reasoning of the content block ``index``."""

    wire_name: ClassVar[str] = "thinking.delta"
    index: int
    text: str


class ToolInputDelta(Event, frozen=True, gc=False):
    """More of a tool call's arguments, as JSON text."""

    wire_name: ClassVar[str] = "tool_input.delta"
    index: int
    tool_call_id: str
    tool_name: str
    text: str


class MessageCompleted(Event, frozen=True):
    """A whole message; a tool's result that was recorded here is ``tool.completed`` instead."""

    wire_name: ClassVar[str] = "message.completed"
    message: UserMessage | AssistantMessage | ToolResultMessage


class ToolStarted(Event, frozen=True):
    """A tool is about to run: recorded before its side effect."""

    wire_name: ClassVar[str] = "tool.started"
    tool_call_id: str
    tool_name: str
    arguments: Any
    at: int


class ToolProgressed(Event, frozen=True):
    """A tool that runs has more to show; its result says it all."""

    wire_name: ClassVar[str] = "tool.progressed"
    tool_call_id: str
    tool_name: str
    text: str
    at: int


class ApprovalRequested(Event, frozen=True):
    """A tool call waits until somebody approves or denies it; after ``expires_at`` it is denied.

    ``reason`` says why it is asked.
    """

    wire_name: ClassVar[str] = "approval.requested"
    approval_id: str
    tool_call_id: str
    tool_name: str
    arguments: Any
    reason: str
    at: int
    expires_at: int


class ApprovalResolved(Event, frozen=True):
    """Somebody decided, or the time was over, or the run was."""

    wire_name: ClassVar[str] = "approval.resolved"
    approval_id: str
    tool_call_id: str
    approved: bool
    reason: str
    at: int


class ToolCompleted(Event, frozen=True):
    """A tool call has its result, which is a message of the conversation.

    ``outcome`` is ok, error, aborted, denied (by a person or a rule), skipped (steering came
    first), or outcome_unknown: the process died while the tool ran.
    """

    wire_name: ClassVar[str] = "tool.completed"
    tool_call_id: str
    tool_name: str
    outcome: str
    content: tuple[Block, ...]
    at: int
    details: Any = None

    @property
    def is_error(self) -> bool:
        """Tell whether the model must be told that the tool did not succeed."""
        return self.outcome != "ok"


EVENT_TYPES: tuple[type[Event], ...] = tuple(
    [each for each in Event.__subclasses__() if each is not Erased]
)

RUN_ENDS = (RunCompleted, RunFailed, RunAborted, RunInterrupted)
"""The events of which each run has exactly one, once it is over."""

Events = tuple[Event, ...]


def attributed(events: Events, request: Request | None) -> Events:
    """Return the events with the request that led to them."""
    if request is None:
        return events
    return tuple([replace(event, request=request) for event in events])
