"""Sessions that other processes own: whom to ask, and what came of it."""

import threading
import time
from typing import Protocol

from actors import asking
from actors.asking import Moved, Outcome
from actors.replay import stream_of
from actors.session import commands as c
from persistence.errors import StoreUnavailableError
from persistence.event_log import EventLog
from persistence.inbox import Inbox

ASK_TIMEOUT_S = 60.0
LOOK_S = 0.5
"""Time after which whoever waits for an answer looks for itself; notices can be lost."""


class OwnerGone(Exception):
    """Who was asked has died, or no longer owns the session; the question is still open."""

    def __init__(self, question: int, owner: str) -> None:
        super().__init__(f"{owner} has not answered")
        self.question = question
        self.owner = owner


class Others(Protocol):
    """The other processes over the same log, as a registry sees them."""

    @property
    def sure(self) -> bool:
        """Tell whether this process surely has its lease: then its own states are the newest."""

    def owner(self, key: str) -> str | None:
        """Return the other process that owns the session and is alive."""

    def ask(self, owner: str, key: str, command: c.Command) -> int:
        """Have a session's owner carry out a command; see SessionRegistry.ask.

        Raises OwnerGone when that can't be known yet.
        """

    def settle(self, question: int) -> int | None:
        """Return what came of a question whose owner has lost the session; None: nothing.

        Nothing will then come of it any more.
        """


class _Waiting:
    """Somebody who waits for an answer."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.outcome: Outcome | None = None


class Questions:
    """Asks by the inbox, and waits for answers. Part of Others."""

    def __init__(self, log: EventLog, inbox: Inbox, name: str) -> None:
        self._log = log
        self._inbox = inbox
        self._name = name
        self._waiting: dict[int, _Waiting] = {}

    def owner(self, key: str) -> str | None:
        """See Others.owner."""
        owner = self._log.owner(stream_of(key))
        return None if owner == self._name else owner

    def ask(self, owner: str, key: str, command: c.Command) -> int:
        """See Others.ask."""
        question = self._inbox.put(owner, stream_of(key), asking.encode_command(command))
        waiting = self._waiting[question] = _Waiting()
        deadline = time.monotonic() + ASK_TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                if not waiting.answered.wait(LOOK_S):
                    waiting.outcome = self._outcome(question)
                if isinstance(waiting.outcome, Moved):
                    raise OwnerGone(question, owner)
                if waiting.outcome is not None:
                    return asking.seq_of(waiting.outcome)
                if not self._inbox.is_alive(owner):
                    raise OwnerGone(question, owner)
        finally:
            del self._waiting[question]
        raise StoreUnavailableError(f"Session {key} does not answer.")

    def settle(self, question: int) -> int | None:
        """See Others.settle."""
        outcome = self._outcome(question)
        if outcome is None and not self._inbox.withdraw(question):
            outcome = self._outcome(question)  # it was answered in this moment
        if outcome is None or isinstance(outcome, Moved):
            return None
        return asking.seq_of(outcome)

    def look(self) -> None:
        """Look for the answers to all that is waited for, at once."""
        waiting = self._waiting.copy()
        if waiting:
            for question, body in self._inbox.answers(list(waiting)).items():
                waiting[question].outcome = asking.decode_outcome(body)
                waiting[question].answered.set()

    def _outcome(self, question: int) -> Outcome | None:
        body = self._inbox.answers([question]).get(question)
        return None if body is None else asking.decode_outcome(body)
