"""What follows from a command: the events, or a rejection. Pure.

Invariants kept here: every ``run.started`` gets exactly one end; a run that does not complete is
followed by ``session.settled``; a message that streams and a tool that runs are closed before
their run ends; the next prompt's run starts in the same append as the last one's end.
"""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from actors.session import commands as c
from actors.session import events as e
from actors.session.evolve import fold
from actors.session.messages import (
    AssistantMessage,
    Block,
    Text,
    Thinking,
    ToolCall,
    UserMessage,
    digest_of_text,
)
from actors.session.state import Accepted, DraftBlock, ModelRef, SessionState

Events = tuple[e.Event, ...]

OUTCOME_UNKNOWN = "The process ended while this tool ran: whether it took effect is unknown."
TOOL_ABORTED = "The tool was stopped: the run was aborted."
TOOL_SKIPPED = "Skipped due to queued user message."


class Rejection(Exception):
    """Base of the reasons to refuse a command; nothing happened."""


class QueueFull(Rejection):
    """As many prompts wait as the session's queue holds."""

    def __init__(self, pending: int) -> None:
        super().__init__(f"Queue full ({pending} pending).")
        self.pending = pending


class KeyReused(Rejection):
    """An idempotency key came again with another text."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The idempotency key {key!r} was used for another prompt.")


class SessionExists(Rejection):
    """The key already holds a conversation."""

    def __init__(self, key: str) -> None:
        super().__init__(f"Session {key} already has messages: choose another key.")


def decide(command: c.Command, state: SessionState, *, hold: bool = False) -> Events:
    """Return the events that the command leads to; none when there is nothing to do.

    Where a prompt waits and none runs any more its run starts as well, unless ``hold`` says
    that this process begins nothing new. Raises Rejection.
    """
    if isinstance(command, c.RunCommand) and (
        state.run is None or state.run.prompt_id != command.prompt_id
    ):
        return ()  # a worker that has not yet noticed that its run is over
    events = _DECIDE[type(command)](command, state)
    return events if hold else _and_next_run(events, state, command.at)


def _create_session(command: c.CreateSession, state: SessionState) -> Events:
    return () if state.exists else (e.SessionCreated(command.session_id, command.at),)


def _queue_prompt(command: c.QueuePrompt, state: SessionState) -> Events:
    accepted = accepted_before(state, command.idempotency_key)
    if accepted is not None:
        if accepted.digest != digest_of_text(command.text):
            raise KeyReused(command.idempotency_key)
        return ()
    if not state.idle and len(state.queue) >= command.queue_max:
        raise QueueFull(len(state.queue))
    created = _create_session(c.CreateSession(command.at, command.session_id), state)
    queued = e.PromptQueued(
        command.prompt_id,
        command.text,
        command.source,
        command.at,
        command.message_id,
        command.idempotency_key,
        command.metadata,
        command.principal,
    )
    return (*created, queued)


def accepted_before(state: SessionState, idempotency_key: str) -> Accepted | None:
    """Return the prompt that came with this key before; None without a key."""
    if not idempotency_key:
        return None
    return next((each for each in state.accepted if each.key == idempotency_key), None)


def _steer(command: c.Steer, state: SessionState) -> Events:
    if state.run is None or accepted_before(state, command.idempotency_key) is not None:
        return _queue_prompt(command, state)
    return (
        e.SteeringReceived(command.prompt_id, command.text, command.at, command.idempotency_key),
    )


def _rename_session(command: c.RenameSession, state: SessionState) -> Events:
    return (e.SessionRenamed(command.name, command.at),) if state.exists else ()


def _reload_session(command: c.ReloadSession, state: SessionState) -> Events:
    return (e.SessionReloaded(command.at),) if state.exists else ()


def _select_model(command: c.SelectModel, state: SessionState) -> Events:
    if not state.exists:
        return ()
    model = ModelRef(command.provider, command.model_id)
    if command.keep and state.model is not None:
        model = state.model
    level = command.thinking_level
    if level is None:
        level = state.thinking_level
    return (e.ModelSelected(model.provider, model.model_id, command.at, level),)


def _reset_session(command: c.ResetSession, state: SessionState) -> Events:
    if not state.exists:
        return ()
    stopped = _stopped(state, "Session reset", command.at)
    return (*stopped, e.SessionReset(command.session_id, command.at))


def _delete_session(command: c.DeleteSession, state: SessionState) -> Events:
    if not state.exists:
        return ()
    stopped = _stopped(state, f"Session deleted: {state.key}", command.at)
    return (*stopped, e.SessionDeleted(command.at))


def _stopped(state: SessionState, reason: str, at: int) -> Events:
    """Cancel what waits and abort what runs."""
    return (*_cancelled(state, reason, at), *_aborted(state, at))


def _cancelled(state: SessionState, reason: str, at: int) -> Events:
    return tuple([e.PromptCancelled(prompt.prompt_id, reason, at) for prompt in state.queue])


def _aborted(state: SessionState, at: int) -> Events:
    if state.run is None:
        return ()
    return (
        *_close_turn(state, "aborted", "aborted", TOOL_ABORTED, at),
        e.RunAborted(state.run.prompt_id, at),
        e.SessionSettled(at),
    )


def _import_session(command: c.ImportSession, state: SessionState) -> Events:
    if state.message_count or not state.idle:
        raise SessionExists(state.key)
    created = _create_session(c.CreateSession(command.at, command.session_id), state)
    imported = e.SessionImported(command.source, command.original_id, command.at)
    before = state.version + len(created) + 1
    return (*created, imported, *[_rebased(event, before) for event in command.recorded])


def _rebased(event: c.Recorded, before: int) -> c.Recorded:
    if isinstance(event, e.ContextCompacted):
        return replace(event, first_kept_seq=event.first_kept_seq + before)
    return event


def _abort_run(command: c.AbortRun, state: SessionState) -> Events:
    cancelled = _cancelled(state, "aborted", command.at) if command.queue else ()
    return (*cancelled, *_aborted(state, command.at))


def _interrupt_run(command: c.InterruptRun, state: SessionState) -> Events:
    if state.run is None:
        return ()
    return (
        *_close_turn(state, "interrupted", "unknown", OUTCOME_UNKNOWN, command.at),
        e.RunInterrupted(state.run.prompt_id, command.reason, command.at),
        e.SessionSettled(command.at),
    )


def _start_message(command: c.StartMessage, _state: SessionState) -> Events:
    return (e.MessageStarted("assistant", command.at), *command.deltas)


def _record_deltas(command: c.RecordDeltas, _state: SessionState) -> Events:
    return command.deltas


def _complete_message(command: c.CompleteMessage, state: SessionState) -> Events:
    assert state.run is not None
    message = command.message
    started: Events = ()
    if state.draft_at is None:
        started = (e.MessageStarted("assistant", command.at),)
    completed = (*started, *command.deltas, e.MessageCompleted(message))
    if any(isinstance(block, ToolCall) for block in message.content):
        return completed
    if state.steering:
        return (*completed, *_turn_after(state, message, command.at))
    return (
        *completed,
        e.TurnEnded(state.run.turn, message.stop_reason, command.at, message.usage),
        e.RunCompleted(state.run.prompt_id, command.at),
    )


def _start_tool(command: c.StartTool, state: SessionState) -> Events:
    if state.steering:
        skipped = (Text(TOOL_SKIPPED),)
        return _tool_completed(
            e.ToolCompleted(command.tool_call_id, command.tool_name, "skipped", skipped, command.at)
        )
    return (e.ToolStarted(command.tool_call_id, command.tool_name, command.arguments, command.at),)


def _complete_tool(command: c.CompleteTool, _state: SessionState) -> Events:
    return _tool_completed(
        e.ToolCompleted(
            command.tool_call_id,
            command.tool_name,
            command.outcome,
            command.content,
            command.at,
            command.details,
        )
    )


def _tool_completed(completed: e.ToolCompleted) -> Events:
    announced = e.MessageStarted("toolResult", completed.at, completed.tool_call_id)
    return (completed, announced)


def _next_turn(command: c.NextTurn, state: SessionState) -> Events:
    return _turn_after(state, command.message, command.at)


def _turn_after(state: SessionState, message: AssistantMessage, at: int) -> Events:
    """End the turn and begin the next, which is told what was said to the run meanwhile."""
    assert state.run is not None
    delivered: list[e.Event] = []
    for steering in state.steering:
        delivered.append(e.SteeringDelivered(steering.steering_id, at))
        delivered.append(e.MessageCompleted(UserMessage((Text(steering.text),), at)))
    return (
        e.TurnEnded(state.run.turn, message.stop_reason, at, message.usage),
        e.TurnStarted(state.run.turn + 1, at),
        *delivered,
    )


def _fail_run(command: c.FailRun, state: SessionState) -> Events:
    assert state.run is not None
    drafted = fold(state, command.deltas)
    return (
        *command.deltas,
        *_close_turn(drafted, "error", "unknown", OUTCOME_UNKNOWN, command.at, error=command.error),
        e.RunFailed(state.run.prompt_id, command.error, command.at),
        e.SessionSettled(command.at),
    )


def _close_turn(
    state: SessionState,
    stop_reason: str,
    tool_outcome: str,
    tool_text: str,
    at: int,
    *,
    error: str = "",
) -> Events:
    """Close what is open: the streaming message with what it has, tools, the turn."""
    closed: list[e.Event] = []
    if state.draft_at is not None:
        closed.append(
            e.MessageCompleted(
                AssistantMessage(
                    content=content_of(state.draft),
                    timestamp=at,
                    stop_reason=stop_reason,
                    error=error,
                )
            )
        )
    for tool in state.tools:
        closed.extend(
            _tool_completed(
                e.ToolCompleted(
                    tool.tool_call_id, tool.tool_name, tool_outcome, (Text(tool_text),), at
                )
            )
        )
    if state.run is not None and state.run.turn_open:
        closed.append(e.TurnEnded(state.run.turn, stop_reason, at))
    return tuple(closed)


def content_of(draft: tuple[DraftBlock, ...]) -> tuple[Block, ...]:
    """Return the content of a message that broke off: half a tool call is no call."""
    content: list[Block] = []
    for block in draft:
        if block.kind == "text":
            content.append(Text(block.text))
        elif block.kind == "thinking":
            content.append(Thinking(block.text))
    return tuple(content)


def _and_next_run(events: Events, state: SessionState, at: int) -> Events:
    after = fold(state, events)
    if after.run is not None or not after.queue:
        return events
    prompt = after.queue[0]
    return (
        *events,
        e.RunStarted(prompt.prompt_id, at),
        e.TurnStarted(1, at),
        e.MessageCompleted(UserMessage((Text(prompt.text),), at)),
    )


_DECIDE: dict[type[c.Command], Callable[[Any, SessionState], Events]] = {
    c.CreateSession: _create_session,
    c.QueuePrompt: _queue_prompt,
    c.Steer: _steer,
    c.RenameSession: _rename_session,
    c.ResetSession: _reset_session,
    c.ReloadSession: _reload_session,
    c.DeleteSession: _delete_session,
    c.SelectModel: _select_model,
    c.ImportSession: _import_session,
    c.AbortRun: _abort_run,
    c.InterruptRun: _interrupt_run,
    c.StartMessage: _start_message,
    c.RecordDeltas: _record_deltas,
    c.CompleteMessage: _complete_message,
    c.StartTool: _start_tool,
    c.CompleteTool: _complete_tool,
    c.NextTurn: _next_turn,
    c.FailRun: _fail_run,
}
