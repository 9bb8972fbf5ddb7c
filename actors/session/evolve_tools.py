"""How tool calls and the approvals they wait for change a session's state. Pure."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from actors.session import events as e
from actors.session.state import Approval, OpenTool, SessionState


def _tool_started(state: SessionState, event: e.ToolStarted) -> SessionState:
    tools = (*state.tools, OpenTool(event.tool_call_id, event.tool_name))
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        tools=tools,
        approvals=_approvals_of_others(state, event),
    )


def _tool_completed(state: SessionState, event: e.ToolCompleted) -> SessionState:
    left = tuple([tool for tool in state.tools if tool.tool_call_id != event.tool_call_id])
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        message_count=state.message_count + 1,
        tools=left,
        approvals=_approvals_of_others(state, event),
    )


def _approvals_of_others(
    state: SessionState, event: e.ToolStarted | e.ToolCompleted
) -> tuple[Approval, ...]:
    """Return the approvals without that of a call which needs none any more."""
    if not state.approvals:
        return ()
    return tuple([each for each in state.approvals if each.tool_call_id != event.tool_call_id])


def _approval_requested(state: SessionState, event: e.ApprovalRequested) -> SessionState:
    asked = Approval(
        event.approval_id,
        event.tool_call_id,
        event.tool_name,
        event.arguments,
        event.at,
        event.expires_at,
        reason=event.reason,
    )
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        approvals=(*state.approvals, asked),
    )


def _approval_resolved(state: SessionState, event: e.ApprovalResolved) -> SessionState:
    approvals = tuple(
        [
            replace(each, approved=event.approved, reason=event.reason)
            if each.approval_id == event.approval_id
            else each
            for each in state.approvals
        ]
    )
    after = replace(state, version=state.version + 1, last_active_at=event.at, approvals=approvals)
    if after.run is None or after.pending or not state.pending:
        return after
    began = min([each.requested_at for each in state.approvals])
    waited = after.run.waited_ms + max(0, event.at - began)
    return replace(after, run=replace(after.run, waited_ms=waited))


EVOLVE_TOOLS: dict[type[e.Event], Callable[[SessionState, Any], SessionState]] = {
    e.ToolStarted: _tool_started,
    e.ToolCompleted: _tool_completed,
    e.ApprovalRequested: _approval_requested,
    e.ApprovalResolved: _approval_resolved,
}
