"""What follows from commands to hold a session, to release it, and to erase it. Pure."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from actors.session import commands as c
from actors.session import events as e
from actors.session import record_events as r
from actors.session.events import Events
from actors.session.rejections import OnHold, SessionBusy, SessionMoved
from actors.session.state import SessionState

Range = tuple[int, int]


def whole_erasure(command: c.EraseSession, state: SessionState, ended: Events) -> Events:
    """Return what follows from erasing a session, which ``ended`` brings to its end."""
    if state.hold:
        raise OnHold(state.hold)
    if not ended and not state.last_active_at:  # nothing has happened since it was erased
        return ()
    erased = r.StreamErased(
        command.receipt_id,
        command.reason,
        ((1, state.version + len(ended)),),
        command.at,
        SessionState(state.key),
        command.earlier,
    )
    anew: Events = ()
    if command.session_id:
        anew = (e.SessionCreated(command.session_id, command.at),)
    return (*ended, erased, *anew)


def _erase_part(command: c.ErasePart, state: SessionState) -> Events:
    if state.hold:
        raise OnHold(state.hold)
    if not state.idle:
        raise SessionBusy(state.key)
    if state.version != command.version:
        raise SessionMoved(state.key)
    earlier = [each for past in command.earlier for each in (*past.ranges, (past.seq, past.seq))]
    erased = r.StreamErased(
        command.receipt_id,
        command.reason,
        merged((*command.ranges, *earlier)),
        command.at,
        _left(state, command),
        command.earlier,
    )
    return (erased,)


def _left(state: SessionState, command: c.ErasePart) -> SessionState:
    """Return the state without what it has of the events; a model is then told what is left."""
    left = command.left
    accepted = [each for each in state.accepted if not within(command.ranges, each.seq)]
    return replace(
        state,
        preview=left.preview,
        message_count=max(0, state.message_count - left.messages),
        name=state.name if left.named else "",
        accepted=tuple(accepted),
        summary=state.summary if left.summarised else "",
        context_seq=state.context_seq if left.summarised else state.first_seq,
        compacted_at=state.compacted_at if left.summarised else 0,
    )


def merged(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """Return the ranges in order, none of them touching another."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def within(ranges: tuple[Range, ...], seq: int) -> bool:
    """Tell whether one of the ranges has the seq."""
    return any(first <= seq <= last for first, last in ranges)


def _hold_session(command: c.HoldSession, state: SessionState) -> Events:
    return () if state.hold == command.reason else (r.SessionHeld(command.reason, command.at),)


def _release_session(command: c.ReleaseSession, state: SessionState) -> Events:
    return (r.SessionReleased(command.at),) if state.hold else ()


DECIDE_ERASURE: dict[type[c.Command], Callable[[Any, SessionState], Events]] = {
    c.HoldSession: _hold_session,
    c.ReleaseSession: _release_session,
    c.ErasePart: _erase_part,
}
