"""What clients are shown of a session at a glance. Pure.

The field names are those of the HTTP contract; times are in milliseconds since the epoch, UTC.
"""

from collections.abc import Callable
from typing import Any

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from actors.session.messages import Usage
from actors.session.state import ModelRef, SessionState


class ShownUsage(Struct, frozen=True, gc=False, rename="camel"):
    """Tokens and USD; the cost is 0 where prices are not known."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    cost_usd: float


class ShownUsages(Struct, frozen=True, gc=False):
    """What the session has used so far, its newest run, and that run's newest turn."""

    session: ShownUsage
    run: ShownUsage
    turn: ShownUsage


class ShownApproval(Struct, frozen=True, rename="camel"):
    """A tool call that waits for an approval; it is denied after ``expires_at``."""

    id: str
    tool_call_id: str
    tool_name: str
    args: Any
    reason: str
    requested_at: int
    expires_at: int


class SessionSummary(Struct, frozen=True, gc=False, rename="camel"):
    """One session in a list, in ``session_state`` and ``hello`` events, and on its own."""

    session_key: str
    session_id: str
    message_count: int
    queue_depth: int
    processing: bool
    last_active_at: int
    created_at: int
    updated_at: int
    last_message_preview: str | UnsetType = UNSET
    model_provider: str | UnsetType = UNSET
    model_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    thinking_level: str | UnsetType = UNSET
    usage: ShownUsages | UnsetType = UNSET
    approvals: list[ShownApproval] | UnsetType = UNSET
    legal_hold: str | UnsetType = UNSET


def summary_of(state: SessionState) -> SessionSummary:
    """Return the summary of a state; the model is unset where the session chose none."""
    model = state.model
    return SessionSummary(
        session_key=state.key,
        session_id=state.session_id,
        message_count=state.message_count,
        queue_depth=len(state.queue),
        processing=state.run is not None,
        last_active_at=state.last_active_at,
        created_at=state.created_at,
        updated_at=state.last_active_at,
        last_message_preview=UNSET if state.preview is None else state.preview,
        model_provider=UNSET if model is None else model.provider,
        model_id=UNSET if model is None else model.model_id,
        name=state.name or UNSET,
        thinking_level=state.thinking_level or UNSET,
        usage=_shown_usages(state),
        approvals=shown_approvals(state) or UNSET,
        legal_hold=state.hold or UNSET,
    )


def shown_approvals(state: SessionState) -> list[ShownApproval]:
    """Return the tool calls that wait for an approval, the oldest first."""
    return [
        ShownApproval(
            each.approval_id,
            each.tool_call_id,
            each.tool_name,
            each.arguments,
            each.reason,
            each.requested_at,
            each.expires_at,
        )
        for each in state.pending
    ]


def _shown_usages(state: SessionState) -> ShownUsages | UnsetType:
    if state.usage == Usage():
        return UNSET
    return ShownUsages(
        shown_usage(state.usage), shown_usage(state.run_usage), shown_usage(state.turn_usage)
    )


def shown_usage(usage: Usage) -> ShownUsage:
    """Return what was used, as it is shown."""
    return ShownUsage(
        usage.input, usage.output, usage.cache_read, usage.cache_write, usage.cost_usd
    )


def with_model(
    summary: SessionSummary, resolve: Callable[[ModelRef | None], ModelRef]
) -> SessionSummary:
    """Name the model that the session's next run would use."""
    chosen = None
    if summary.model_provider is not UNSET and summary.model_id is not UNSET:
        chosen = ModelRef(summary.model_provider, summary.model_id)
    model = resolve(chosen)
    return replace(summary, model_provider=model.provider, model_id=model.model_id)
