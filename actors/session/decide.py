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
from actors.session.decide_erasure import DECIDE_ERASURE, whole_erasure
from actors.session.decide_record import DECIDE_RECORD
from actors.session.decide_run import (
    DECIDE_RUN,
    TOOL_SKIPPED,
    aborted,
    compacted,
    continue_run,
    denied,
    interrupt_run,
    resolved,
)
from actors.session.events import Events
from actors.session.evolve import fold
from actors.session.messages import UserMessage, digest_of_prompt, prompt_content
from actors.session.rejections import (
    ApprovalAnswered,
    ApprovalNotFound,
    ContextChanged,
    KeyReused,
    QueueFull,
    SessionExists,
)
from actors.session.state import Accepted, ModelRef, SessionState

NOBODY_ANSWERED = "nobody answered in time"


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
        if accepted.digest != digest_of_prompt(command.text, command.images):
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
        command.images,
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
    received = e.SteeringReceived(
        command.prompt_id, command.text, command.at, command.idempotency_key, command.images
    )
    return (received, *denied(state, TOOL_SKIPPED, command.at))


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


def _erase_session(command: c.EraseSession, state: SessionState) -> Events:
    ended: Events = ()
    if state.exists:
        stopped = _stopped(state, f"Session erased: {state.key}", command.at)
        ended = (*stopped, e.SessionDeleted(command.at))
    return whole_erasure(command, state, ended)


def _stopped(state: SessionState, reason: str, at: int) -> Events:
    """Cancel what waits and abort what runs."""
    return (*_cancelled(state, reason, at), *aborted(state, at))


def _cancelled(state: SessionState, reason: str, at: int) -> Events:
    return tuple([e.PromptCancelled(prompt.prompt_id, reason, at) for prompt in state.queue])


def _import_session(command: c.ImportSession, state: SessionState) -> Events:
    if state.message_count or not state.idle:
        raise SessionExists(state.key)
    created = _create_session(c.CreateSession(command.at, command.session_id), state)
    imported = e.SessionImported(command.source, command.original_id, command.at)
    before = state.version + len(created) + 1
    return (*created, imported, *[_rebased(event, before) for event in command.recorded])


def _begin_from(command: c.BeginFrom, state: SessionState) -> Events:
    recorded = tuple([e.MessageCompleted(message) for message in command.messages])
    imported = c.ImportSession(command.at, command.session_id, command.source, "", recorded)
    return _import_session(imported, state)


def _rebased(event: c.Recorded, before: int) -> c.Recorded:
    if isinstance(event, e.ContextCompacted):
        return replace(event, first_kept_seq=event.first_kept_seq + before)
    return event


def _abort_run(command: c.AbortRun, state: SessionState) -> Events:
    cancelled = _cancelled(state, "aborted", command.at) if command.queue else ()
    return (*cancelled, *aborted(state, command.at))


def _resolve_approval(command: c.ResolveApproval, state: SessionState) -> Events:
    found = next(
        (each for each in state.approvals if each.approval_id == command.approval_id), None
    )
    if found is None:
        raise ApprovalNotFound(command.approval_id)
    if found.approved is None:
        return (resolved(found, command.reason, command.at, approved=command.approved),)
    if found.approved != command.approved:
        raise ApprovalAnswered(found)
    return ()


def _expire_approvals(command: c.ExpireApprovals, state: SessionState) -> Events:
    return denied(state, NOBODY_ANSWERED, command.at, expired_at=command.at)


def _compact_context(command: c.CompactContext, state: SessionState) -> Events:
    if not state.exists or state.context_seq != command.context_seq:
        raise ContextChanged(state.key)
    return (compacted(command.compaction, command.at),)


def _and_next_run(events: Events, state: SessionState, at: int) -> Events:
    after = fold(state, events)
    if after.run is not None or not after.queue:
        return events
    prompt = after.queue[0]
    return (
        *events,
        e.RunStarted(prompt.prompt_id, at),
        e.TurnStarted(1, at),
        e.MessageCompleted(UserMessage(prompt_content(prompt.text, prompt.images), at)),
    )


_DECIDE: dict[type[c.Command], Callable[[Any, SessionState], Events]] = {
    c.CreateSession: _create_session,
    c.QueuePrompt: _queue_prompt,
    c.Steer: _steer,
    c.RenameSession: _rename_session,
    c.ResetSession: _reset_session,
    c.ReloadSession: _reload_session,
    c.DeleteSession: _delete_session,
    c.EraseSession: _erase_session,
    c.SelectModel: _select_model,
    c.ImportSession: _import_session,
    c.BeginFrom: _begin_from,
    c.AbortRun: _abort_run,
    c.InterruptRun: interrupt_run,
    c.ContinueRun: continue_run,
    c.ResolveApproval: _resolve_approval,
    c.ExpireApprovals: _expire_approvals,
    c.CompactContext: _compact_context,
    **DECIDE_RUN,
    **DECIDE_RECORD,
    **DECIDE_ERASURE,
}
