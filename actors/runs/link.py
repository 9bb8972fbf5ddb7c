"""A run's way to its session: reports, answers, and the news that the run is over."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from msgspec import Struct

from actors.session import commands as c
from actors.session.events import Event, Events
from actors.session.messages import Message, ToolResultMessage

Numbered = tuple[int, Message]
"""A message with its event's seq."""


class Reported(Struct, frozen=True):
    """What a report led to, durable; no events where it was void. ``seq`` is the first one's."""

    events: Events = ()
    seq: int = 0

    def numbered(self) -> list[tuple[int, Event]]:
        """Return each event with its seq."""
        return list(enumerate(self.events, self.seq))


NumberedResult = tuple[int, ToolResultMessage]

VOID = Reported()


class Session(Protocol):
    """The session's actor, as its run sees it; a session that is gone takes no reports."""

    def report(self, command: c.RunCommand, done: Callable[[Reported], None]) -> None:
        """Report; ``done`` gets what it led to."""


class RunOver(Exception):
    """The session has ended this run, or has it wait; there is nothing more to do here."""


class RunLink:
    """Ties a run's worker, its model calls and its tools to the session's actor."""

    def __init__(self, session: Session, prompt_id: str, now_ms: Callable[[], int]) -> None:
        self.prompt_id = prompt_id
        self.now_ms = now_ms
        self._session = session
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], object]] = []

    @property
    def over(self) -> bool:
        """Tell whether the run was ended."""
        return self._over.is_set()

    def cancel(self) -> None:
        """Have whatever works on the run stop; does not wait for it."""
        with self._lock:
            self._over.set()
            calls, self._calls = self._calls, []
        for call in calls:
            call()

    @contextlib.contextmanager
    def on_cancel(self, call: Callable[[], object]) -> Iterator[None]:
        """Make the call when the run is ended meanwhile; at once if it has been."""
        with self._lock:
            over = self.over
            if not over:
                self._calls.append(call)
        if over:
            call()
        try:
            yield
        finally:
            with self._lock, contextlib.suppress(ValueError):
                self._calls.remove(call)

    def check(self) -> None:
        """Raise RunOver where the run was ended."""
        if self.over:
            raise RunOver

    def sleep(self, delay_s: float) -> None:
        """Wait so long. Raises RunOver as soon as the run is ended."""
        if self._over.wait(delay_s):
            raise RunOver

    def tell(self, command: c.RunCommand, done: Callable[[], None] = lambda: None) -> None:
        """Report, and go on; ``done`` is called once it is durable."""
        self._session.report(command, lambda _reported: done())

    def ask(self, command: c.RunCommand) -> Reported:
        """Report, and wait until it is durable. Raises RunOver when it came too late."""
        durable = threading.Event()
        answers: list[Reported] = []

        def done(reported: Reported) -> None:
            answers.append(reported)
            durable.set()

        with self.on_cancel(durable.set):
            if not self.over:
                self._session.report(command, done)
                durable.wait()
        if not answers or not answers[0].events:
            raise RunOver
        return answers[0]
