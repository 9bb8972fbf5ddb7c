"""What follows from the reports of a run's worker, and how a run is closed. Pure."""

from collections.abc import Callable
from typing import Any

from actors.session import commands as c
from actors.session import events as e
from actors.session.events import Events
from actors.session.evolve import fold
from actors.session.messages import (
    AssistantMessage,
    Block,
    Text,
    Thinking,
    ToolCall,
    UserMessage,
    prompt_content,
)
from actors.session.state import Approval, DraftBlock, SessionState

OUTCOME_UNKNOWN = "The process ended while this tool ran: whether it took effect is unknown."
TOOL_ABORTED = "The tool was stopped: the run was aborted."
TOOL_SKIPPED = "Skipped due to queued user message."
TOOL_DENIED = "The call was not approved"
RUN_ENDED = "the run ended"
CONTINUES_MAX = 3
"""How often a run goes on in another process: its prompt may be what kills them."""


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


def _retry_turn(command: c.RetryTurn, state: SessionState) -> Events:
    assert state.run is not None
    broken = _broken_message(
        fold(state, command.deltas), "retried", command.at, error=command.error
    )
    retried = e.TurnRetried(
        state.run.turn, command.attempt, command.error, command.delay_ms, command.at
    )
    return (*command.deltas, *broken, retried)


def _request_approvals(command: c.RequestApprovals, state: SessionState) -> Events:
    events: list[e.Event] = []
    for request in command.requests:
        if state.steering:
            events.extend(_skipped(request.tool_call_id, request.tool_name, command.at))
            continue
        events.append(
            e.ApprovalRequested(
                request.approval_id,
                request.tool_call_id,
                request.tool_name,
                request.arguments,
                request.reason,
                command.at,
                command.expires_at,
            )
        )
    return tuple(events)


def _skipped(tool_call_id: str, tool_name: str, at: int) -> Events:
    return _tool_completed(
        e.ToolCompleted(tool_call_id, tool_name, "skipped", (Text(TOOL_SKIPPED),), at)
    )


def _start_tool(command: c.StartTool, state: SessionState) -> Events:
    """Start the tool, unless somebody's steering comes first or its approval was refused."""
    if state.steering:
        return _skipped(command.tool_call_id, command.tool_name, command.at)
    for approval in state.approvals:
        if approval.tool_call_id == command.tool_call_id and not approval.approved:
            reason = (Text(f"{TOOL_DENIED}: {approval.reason or 'somebody denied it'}."),)
            return _tool_completed(
                e.ToolCompleted(
                    command.tool_call_id, command.tool_name, "denied", reason, command.at
                )
            )
    return (e.ToolStarted(command.tool_call_id, command.tool_name, command.arguments, command.at),)


def _progress_tool(command: c.ProgressTool, state: SessionState) -> Events:
    if all(tool.tool_call_id != command.tool_call_id for tool in state.tools):
        return ()
    return (e.ToolProgressed(command.tool_call_id, command.tool_name, command.text, command.at),)


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
        content = prompt_content(steering.text, steering.images)
        delivered.append(e.MessageCompleted(UserMessage(content, at)))
    return (
        e.TurnEnded(state.run.turn, message.stop_reason, at, message.usage),
        e.TurnStarted(state.run.turn + 1, at),
        *delivered,
    )


def _compact_run_context(command: c.CompactRunContext, _state: SessionState) -> Events:
    return (compacted(command.compaction, command.at),)


def compacted(compaction: c.Compaction, at: int) -> e.ContextCompacted:
    """Return a compaction as the event that it is."""
    return e.ContextCompacted(
        compaction.summary,
        compaction.first_kept_seq,
        at,
        compaction.reason,
        compaction.tokens_before,
        compaction.usage,
    )


def _fail_run(command: c.FailRun, state: SessionState) -> Events:
    assert state.run is not None
    drafted = fold(state, command.deltas)
    return (
        *command.deltas,
        *close_turn(
            drafted, "error", "outcome_unknown", OUTCOME_UNKNOWN, command.at, error=command.error
        ),
        e.RunFailed(state.run.prompt_id, command.error, command.at),
        e.SessionSettled(command.at),
    )


def interrupt_run(command: c.InterruptRun, state: SessionState) -> Events:
    """Close what the process that has ended, or has to, was working on."""
    if state.run is None:
        return ()
    return (
        *close_turn(state, "interrupted", "outcome_unknown", OUTCOME_UNKNOWN, command.at),
        e.RunInterrupted(state.run.prompt_id, command.reason, command.at),
        e.SessionSettled(command.at),
    )


def continue_run(command: c.ContinueRun, state: SessionState) -> Events:
    """Close what the process that has ended was about, and begin another turn of its run."""
    run = state.run
    if run is None or run.continued >= CONTINUES_MAX:
        return interrupt_run(command, state)
    broken = _broken_message(state, "retried", command.at, error=command.reason)
    closed = close_turn(
        fold(state, broken), "interrupted", "outcome_unknown", OUTCOME_UNKNOWN, command.at
    )
    attempt = run.continued + 1
    continued = e.RunContinued(run.prompt_id, attempt, command.reason, command.at)
    return (*broken, *closed, continued, e.TurnStarted(run.turn + 1, command.at))


def aborted(state: SessionState, at: int) -> Events:
    """Abort what runs."""
    if state.run is None:
        return ()
    return (
        *close_turn(state, "aborted", "aborted", TOOL_ABORTED, at),
        e.RunAborted(state.run.prompt_id, at),
        e.SessionSettled(at),
    )


def close_turn(
    state: SessionState,
    stop_reason: str,
    tool_outcome: str,
    tool_text: str,
    at: int,
    *,
    error: str = "",
) -> Events:
    """Close what is open: the streaming message with what it has, approvals, tools, the turn."""
    closed = [
        *_broken_message(state, stop_reason, at, error=error),
        *denied(state, RUN_ENDED, at),
    ]
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


def _broken_message(state: SessionState, stop_reason: str, at: int, *, error: str = "") -> Events:
    """Complete the message that streams with what has arrived of it."""
    if state.draft_at is None:
        return ()
    content = content_of(state.draft)
    return (e.MessageCompleted(AssistantMessage(content, at, "", "", stop_reason, error=error)),)


def content_of(draft: tuple[DraftBlock, ...]) -> tuple[Block, ...]:
    """Return the content of a message that broke off: half a tool call is no call."""
    content: list[Block] = []
    for block in draft:
        if block.kind == "text":
            content.append(Text(block.text))
        elif block.kind == "thinking":
            content.append(Thinking(block.text))
    return tuple(content)


def denied(state: SessionState, reason: str, at: int, *, expired_at: int | None = None) -> Events:
    """Deny what waits; with ``expired_at`` only what has waited until then."""
    return tuple(
        [
            resolved(approval, reason, at, approved=False)
            for approval in state.pending
            if expired_at is None or approval.expires_at <= expired_at
        ]
    )


def resolved(approval: Approval, reason: str, at: int, *, approved: bool) -> e.ApprovalResolved:
    """Return the answer to a request for approval."""
    return e.ApprovalResolved(approval.approval_id, approval.tool_call_id, approved, reason, at)


DECIDE_RUN: dict[type[c.Command], Callable[[Any, SessionState], Events]] = {
    c.StartMessage: _start_message,
    c.RecordDeltas: _record_deltas,
    c.CompleteMessage: _complete_message,
    c.RetryTurn: _retry_turn,
    c.RequestApprovals: _request_approvals,
    c.StartTool: _start_tool,
    c.ProgressTool: _progress_tool,
    c.CompleteTool: _complete_tool,
    c.NextTurn: _next_turn,
    c.CompactRunContext: _compact_run_context,
    c.FailRun: _fail_run,
}
