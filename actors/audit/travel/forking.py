"""Sessions made of what was said in another one up to a place, and runs that are made again."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from actors.audit.travel.places import event_at
from actors.registry import SessionRegistry
from actors.replay import decode, state_at, stream_of, unhurried
from actors.runs.conversation import message_of
from actors.session import commands as c
from actors.session.decide_run import content_of
from actors.session.events import PromptQueued
from actors.session.messages import AssistantMessage, Message
from actors.session.record_events import SessionBranched, SessionForked
from actors.session.rejections import KeyTaken
from actors.session.state import ModelRef, SessionState
from persistence.event_log import EventLog
from persistence.records import Head

RERUN = "rerun:"
"""Begins the idempotency key of a prompt that is asked again: once in each session."""


class Forked(Struct, frozen=True):
    """A session and where it comes from; ``made`` unless it was there already."""

    session_id: str
    source: c.ForkSource
    made: bool


class Copied(Struct, frozen=True):
    """The messages of a session, of which the first ``summarised`` have a summary."""

    messages: tuple[Message, ...]
    summarised: int


def fork(
    registry: SessionRegistry,
    head: Head,
    state: SessionState,
    into: str,
    model: ModelRef | None,
    session_id: str,
    asked: Mapping[str, Any],
) -> Forked:
    """Make the session ``into`` of a session as it was in ``state``, durably.

    The same fork again finds the one that is there, and records what a crash may have left out
    in its source. ``asked`` says who asked, as commands take it. Raises KeyTaken or what
    SessionRegistry.ask raises.
    """
    log = registry.log
    source = c.ForkSource(
        state.key, state.session_id, state.version, event_at(log, head, state.version).hash.hex()
    )
    forked = _found(log, head, source, into)
    if forked is None:
        try:
            registry.ask(into, _command(registry, head, state, source, model, session_id, asked))
        except KeyTaken:  # perhaps by the same request, a moment ago
            forked = _found(log, head, source, into)
            if forked is None:
                raise
    if forked is None:
        forked = Forked(session_id, source, made=True)
    elif _is_noted(log, head, forked):
        return forked
    branch = c.NoteBranch(registry.now_ms(), into, forked.session_id, forked.source.seq, **asked)
    registry.ask(state.key, branch)
    return forked


def _command(
    registry: SessionRegistry,
    head: Head,
    state: SessionState,
    source: c.ForkSource,
    model: ModelRef | None,
    session_id: str,
    asked: Mapping[str, Any],
) -> c.ForkSession:
    copied = copied_from(registry.log, head, state)
    return c.ForkSession(
        registry.now_ms(),
        session_id,
        source,
        copied.messages,
        state.name,
        model or state.model,
        state.thinking_level,
        state.summary,
        copied.summarised,
        **asked,
    )


def copied_from(log: EventLog, head: Head, state: SessionState) -> Copied:
    """Return what a fork takes over: all messages that are not erased, and what streams now."""
    messages: list[Message] = []
    summarised = 0
    read = log.read(head, after=state.first_seq, before=state.version + 1, paged=True)
    for stored in unhurried(read):
        message = message_of(decode(head.stream_id, stored))
        if message is not None:
            messages.append(message)
            summarised += stored.seq < state.context_seq
    if state.draft_at is not None and (content := content_of(state.draft)):
        messages.append(AssistantMessage(content, state.draft_at, stop_reason="interrupted"))
    return Copied(tuple(messages), summarised)


def origin_of(log: EventLog, head: Head, state: SessionState) -> SessionForked | None:
    """Return where a session comes from; None unless it began as a fork."""
    if not state.exists or state.version <= state.first_seq:
        return None
    event = decode(head.stream_id, event_at(log, head, state.first_seq + 1))
    return event if isinstance(event, SessionForked) else None


def _found(log: EventLog, source_head: Head, source: c.ForkSource, into: str) -> Forked | None:
    """Return the fork that is there already, None where there is no session; raise KeyTaken."""
    head = log.head(stream_of(into))
    if head is None:
        return None
    state = state_at(log, head)
    if not state.exists:
        return None
    origin = origin_of(log, head, state)
    if origin is None or not _is_same(log, source_head, origin, source):
        raise KeyTaken(into)
    came_from = c.ForkSource(
        origin.source_key, origin.source_session_id, origin.source_seq, origin.source_hash
    )
    return Forked(state.session_id, came_from, made=False)


def _is_same(log: EventLog, head: Head, origin: SessionForked, source: c.ForkSource) -> bool:
    """Tell whether a fork is the one that is asked for: no more than forks were noted since."""
    if (origin.source_key, origin.source_session_id) != (source.key, source.session_id):
        return False
    if origin.source_seq > source.seq:
        return False
    since = log.read(head, after=origin.source_seq, before=source.seq + 1)
    return all(each.type == SessionBranched.wire_name for each in since)


def _is_noted(log: EventLog, head: Head, forked: Forked) -> bool:
    """Tell whether the source's log says that it was forked."""
    newest = log.head(head.stream_id) or head
    for stored in unhurried(log.read(newest, after=forked.source.seq)):
        if stored.type == SessionBranched.wire_name:
            event = decode(head.stream_id, stored)
            if isinstance(event, SessionBranched) and event.into_session_id == forked.session_id:
                return True
    return False


def ask_again(
    registry: SessionRegistry,
    into: str,
    prompt: PromptQueued,
    prompt_id: str,
    queue_max: int,
    asked: Mapping[str, Any],
) -> str:
    """Queue the prompt of another session's run, once; return its id there.

    Raises what SessionRegistry.prompt raises.
    """
    command = c.QueuePrompt(
        registry.now_ms(),
        prompt_id,
        prompt_id,
        prompt.text,
        prompt.source,
        queue_max,
        idempotency_key=RERUN + prompt.prompt_id,
        metadata=prompt.metadata,
        images=prompt.images,
        **asked,
    )
    found, reader = registry.prompt(into, command)
    reader.close()
    return found
