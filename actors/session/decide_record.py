"""What follows from commands about a session's record rather than its conversation. Pure."""

from collections.abc import Callable
from typing import Any

from actors.session import commands as c
from actors.session import events as e
from actors.session import record_events as r
from actors.session.events import Events
from actors.session.rejections import KeyTaken
from actors.session.state import SessionState


def _fork_session(command: c.ForkSession, state: SessionState) -> Events:
    """Begin the session with what was said in another one."""
    if state.exists:
        raise KeyTaken(state.key)
    at = command.at
    copied: list[e.Event] = []
    if command.name:
        copied.append(e.SessionRenamed(command.name, at))
    if command.model is not None:
        model = command.model
        copied.append(e.ModelSelected(model.provider, model.model_id, at, command.thinking_level))
    first_seq = state.version + 3 + len(copied)
    copied.extend([e.MessageCompleted(message) for message in command.messages])
    if command.summary:
        copied.append(e.ContextCompacted(command.summary, first_seq + command.summarised, at))
    source = command.source
    forked = r.SessionForked(
        source.key, source.session_id, source.seq, source.hash, at, len(copied)
    )
    return (e.SessionCreated(command.session_id, at), forked, *copied)


def _note_branch(command: c.NoteBranch, _state: SessionState) -> Events:
    return (r.SessionBranched(command.into_key, command.into_session_id, command.seq, command.at),)


DECIDE_RECORD: dict[type[c.Command], Callable[[Any, SessionState], Events]] = {
    c.ForkSession: _fork_session,
    c.NoteBranch: _note_branch,
}
