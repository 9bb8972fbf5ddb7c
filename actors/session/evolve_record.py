"""How what happens to a session's record changes its state. Pure."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from actors.session import record_events as r
from actors.session.events import Erased, Event
from actors.session.state import SessionState


def _noted(state: SessionState, event: r.SessionForked | r.SessionBranched) -> SessionState:
    return replace(state, version=state.version + 1, last_active_at=event.at)


def _held(state: SessionState, event: r.SessionHeld) -> SessionState:
    return replace(state, version=state.version + 1, hold=event.reason)


def _released(state: SessionState, _event: r.SessionReleased) -> SessionState:
    return replace(state, version=state.version + 1, hold="")


def _stream_erased(state: SessionState, event: r.StreamErased) -> SessionState:
    left = state if event.state is None else event.state
    return replace(left, version=state.version + 1)


def _erased(state: SessionState, _event: Erased) -> SessionState:
    return replace(state, version=state.version + 1)


EVOLVE_RECORD: dict[type[Event], Callable[[SessionState, Any], SessionState]] = {
    r.SessionForked: _noted,
    r.SessionBranched: _noted,
    r.SessionHeld: _held,
    r.SessionReleased: _released,
    r.StreamErased: _stream_erased,
    Erased: _erased,
}
