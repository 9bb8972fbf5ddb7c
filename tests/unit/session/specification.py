"""Given events, when a command, then events: how the core's tests read."""

from collections.abc import Callable

import pytest

from actors.session.commands import Command
from actors.session.decide import decide
from actors.session.events import Event
from actors.session.evolve import fold
from actors.session.rejections import Rejection
from actors.session.state import SessionState

KEY = "k"


class Given:
    def __init__(self, *events: Event) -> None:
        self.state = fold(SessionState(KEY), events)
        self._decide: Callable[[], tuple[Event, ...]] | None = None

    def when(self, command: Command, *, hold: bool = False) -> "Given":
        self._decide = lambda: decide(command, self.state, hold=hold)
        return self

    @property
    def events(self) -> tuple[Event, ...]:
        assert self._decide is not None
        return self._decide()

    def then(self, *expected: Event) -> None:
        assert self.events == expected

    def then_rejected(self, kind: type[Rejection], text: str) -> None:
        assert self._decide is not None
        with pytest.raises(kind, match=text):
            self._decide()

    def and_after(self) -> SessionState:
        assert self._decide is not None
        return fold(self.state, self._decide())
