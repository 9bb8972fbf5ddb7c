"""How each event changes a session's state. Pure."""

from collections.abc import Callable, Iterable
from typing import Any

from msgspec.structs import replace

from actors.session import events as e
from actors.session.evolve_record import EVOLVE_RECORD
from actors.session.evolve_tools import EVOLVE_TOOLS
from actors.session.messages import (
    AssistantMessage,
    Block,
    Text,
    Usage,
    UserMessage,
    digest_of_prompt,
    preview_of,
)
from actors.session.state import (
    Accepted,
    DraftBlock,
    ModelRef,
    QueuedPrompt,
    Run,
    SessionState,
    Steering,
)

ACCEPTED_MAX = 64
"""How many idempotency keys of a session are remembered, the newest."""


def evolve(state: SessionState, event: e.Event) -> SessionState:
    """Return the state after the event; any event fits any state."""
    return _EVOLVE[type(event)](state, event)


def fold(state: SessionState, events: Iterable[e.Event]) -> SessionState:
    """Return the state after all the events."""
    for event in events:
        state = _EVOLVE[type(event)](state, event)
    return state


def _session_created(state: SessionState, event: e.SessionCreated) -> SessionState:
    return SessionState(
        key=state.key,
        version=state.version + 1,
        exists=True,
        session_id=event.session_id,
        first_seq=state.version + 1,
        context_seq=state.version + 1,
        created_at=event.at,
        last_active_at=event.at,
        workspace_id=event.session_id,
        hold=state.hold,
    )


def _session_reset(state: SessionState, event: e.SessionReset) -> SessionState:
    version = state.version + 1
    return SessionState(
        key=state.key,
        version=version,
        exists=True,
        session_id=event.session_id,
        name=state.name,
        first_seq=version,
        context_seq=version,
        created_at=state.created_at,
        last_active_at=event.at,
        model=state.model,
        thinking_level=state.thinking_level,
        accepted=state.accepted,
        workspace_id=state.workspace_id,
        hold=state.hold,
    )


def _session_deleted(state: SessionState, event: e.SessionDeleted) -> SessionState:
    return SessionState(
        key=state.key, version=state.version + 1, last_active_at=event.at, hold=state.hold
    )


def _session_renamed(state: SessionState, event: e.SessionRenamed) -> SessionState:
    return replace(state, version=state.version + 1, last_active_at=event.at, name=event.name)


def _touched(
    state: SessionState,
    event: e.SessionImported
    | e.SessionSettled
    | e.SessionReloaded
    | e.TurnRetried
    | e.ToolProgressed,
) -> SessionState:
    return replace(state, version=state.version + 1, last_active_at=event.at)


def _model_selected(state: SessionState, event: e.ModelSelected) -> SessionState:
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        model=ModelRef(event.provider, event.model_id),
        thinking_level=event.thinking_level,
    )


def _context_compacted(state: SessionState, event: e.ContextCompacted) -> SessionState:
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        context_seq=event.first_kept_seq,
        summary=event.summary,
        compacted_at=event.at,
        usage=state.usage + event.usage,
        run_usage=state.run_usage if state.run is None else state.run_usage + event.usage,
    )


def _prompt_queued(state: SessionState, event: e.PromptQueued) -> SessionState:
    version = state.version + 1
    queued = QueuedPrompt(
        event.prompt_id,
        event.text,
        version,
        event.source,
        event.principal,
        event.images,
        "" if event.request is None else event.request.trace,
        "" if event.request is None else event.request.tracestate,
    )
    return replace(
        state,
        version=version,
        last_active_at=event.at,
        queue=(*state.queue, queued),
        accepted=_remembered(state, event, event.prompt_id),
    )


def _remembered(
    state: SessionState, event: e.PromptQueued | e.SteeringReceived, prompt_id: str
) -> tuple[Accepted, ...]:
    if not event.idempotency_key:
        return state.accepted
    digest = digest_of_prompt(event.text, event.images)
    accepted = Accepted(event.idempotency_key, prompt_id, digest, state.version + 1)
    return (*state.accepted, accepted)[-ACCEPTED_MAX:]


def _steering_received(state: SessionState, event: e.SteeringReceived) -> SessionState:
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        steering=(*state.steering, Steering(event.steering_id, event.text, event.images)),
        accepted=_remembered(state, event, event.steering_id),
    )


def _steering_delivered(state: SessionState, event: e.SteeringDelivered) -> SessionState:
    left = tuple([each for each in state.steering if each.steering_id != event.steering_id])
    return replace(state, version=state.version + 1, last_active_at=event.at, steering=left)


def _prompt_cancelled(state: SessionState, event: e.PromptCancelled) -> SessionState:
    left = tuple([prompt for prompt in state.queue if prompt.prompt_id != event.prompt_id])
    return replace(state, version=state.version + 1, last_active_at=event.at, queue=left)


def _run_started(state: SessionState, event: e.RunStarted) -> SessionState:
    version = state.version + 1
    source, principal, seq, trace, tracestate = "", "", version, "", ""
    left = []
    for prompt in state.queue:
        if prompt.prompt_id == event.prompt_id:
            source, principal, seq = prompt.source, prompt.principal, prompt.seq
            trace, tracestate = prompt.trace, prompt.tracestate
        else:
            left.append(prompt)
    return replace(
        state,
        version=version,
        last_active_at=event.at,
        queue=tuple(left),
        run=Run(
            event.prompt_id,
            source,
            principal,
            event.at,
            version,
            seq,
            trace=trace,
            tracestate=tracestate,
        ),
        run_usage=Usage(),
        turn_usage=Usage(),
    )


def _run_ended(
    state: SessionState,
    event: e.RunCompleted | e.RunFailed | e.RunAborted | e.RunInterrupted,
) -> SessionState:
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        run=None,
        steering=(),
        draft_at=None,
        draft=(),
        tools=(),
        approvals=(),
    )


def _run_continued(state: SessionState, event: e.RunContinued) -> SessionState:
    run = None if state.run is None else replace(state.run, continued=event.attempt)
    return replace(state, version=state.version + 1, last_active_at=event.at, run=run)


def _turn_started(state: SessionState, event: e.TurnStarted) -> SessionState:
    run = None if state.run is None else replace(state.run, turn=event.turn, turn_open=True)
    return replace(state, version=state.version + 1, last_active_at=event.at, run=run)


def _turn_ended(state: SessionState, event: e.TurnEnded) -> SessionState:
    run = None if state.run is None else replace(state.run, turn_open=False)
    return replace(
        state,
        version=state.version + 1,
        last_active_at=event.at,
        run=run,
        usage=state.usage + event.usage,
        run_usage=state.run_usage + event.usage,
        turn_usage=event.usage,
    )


def _message_started(state: SessionState, event: e.MessageStarted) -> SessionState:
    if event.role != "assistant":
        return replace(state, version=state.version + 1, last_active_at=event.at)
    return replace(
        state, version=state.version + 1, last_active_at=event.at, draft_at=event.at, draft=()
    )


def _text_delta(state: SessionState, event: e.TextDelta) -> SessionState:
    return _drafted(state, DraftBlock("text", event.index, event.text))


def _thinking_delta(state: SessionState, event: e.ThinkingDelta) -> SessionState:
    return _drafted(state, DraftBlock("thinking", event.index, event.text))


def _tool_input_delta(state: SessionState, event: e.ToolInputDelta) -> SessionState:
    block = DraftBlock("tool_input", event.index, event.text, event.tool_call_id, event.tool_name)
    return _drafted(state, block)


def _drafted(state: SessionState, block: DraftBlock) -> SessionState:
    draft = state.draft
    if draft and draft[-1].index == block.index:
        last = draft[-1]
        whole = DraftBlock(
            last.kind, last.index, last.text + block.text, last.tool_call_id, last.tool_name
        )
        draft = (*draft[:-1], whole)
    else:
        draft = (*draft, block)
    return replace(state, version=state.version + 1, draft=draft)


def _message_completed(state: SessionState, event: e.MessageCompleted) -> SessionState:
    message = event.message
    answered = isinstance(message, AssistantMessage)
    shown = answered or isinstance(message, UserMessage)
    return replace(
        state,
        version=state.version + 1,
        message_count=state.message_count + 1,
        last_active_at=max(state.last_active_at, message.timestamp),
        preview=_newest_preview(state, message.content) if shown else state.preview,
        draft_at=None if answered else state.draft_at,
        draft=() if answered else state.draft,
    )


def _newest_preview(state: SessionState, content: tuple[Block, ...]) -> str | None:
    for block in content:
        if isinstance(block, Text) and block.text:
            return preview_of(block.text)
    return state.preview


_EVOLVE: dict[type[e.Event], Callable[[SessionState, Any], SessionState]] = {
    e.SessionCreated: _session_created,
    e.SessionImported: _touched,
    e.SessionSettled: _touched,
    e.SessionRenamed: _session_renamed,
    e.SessionReset: _session_reset,
    e.SessionReloaded: _touched,
    e.SessionDeleted: _session_deleted,
    e.ModelSelected: _model_selected,
    e.ContextCompacted: _context_compacted,
    e.PromptQueued: _prompt_queued,
    e.PromptCancelled: _prompt_cancelled,
    e.SteeringReceived: _steering_received,
    e.SteeringDelivered: _steering_delivered,
    e.RunStarted: _run_started,
    e.RunCompleted: _run_ended,
    e.RunFailed: _run_ended,
    e.RunAborted: _run_ended,
    e.RunInterrupted: _run_ended,
    e.RunContinued: _run_continued,
    e.TurnStarted: _turn_started,
    e.TurnEnded: _turn_ended,
    e.TurnRetried: _touched,
    e.MessageStarted: _message_started,
    e.TextDelta: _text_delta,
    e.ThinkingDelta: _thinking_delta,
    e.ToolInputDelta: _tool_input_delta,
    e.MessageCompleted: _message_completed,
    e.ToolProgressed: _touched,
    **EVOLVE_TOOLS,
    **EVOLVE_RECORD,
}
