"""The real session actor on Pykka's own loop, with a mailbox and futures of the scheduler's."""

import sys
from collections import deque
from typing import Any

import pykka
from pykka._envelope import Envelope

from actors.session_actor import SessionActor
from tests.simulator.scheduler import current_task, wait


class Mailbox:
    """Implements Pykka's ActorInbox."""

    def __init__(self) -> None:
        self._envelopes: deque[Envelope[Any]] = deque()

    def ready(self) -> bool:
        return bool(self._envelopes)

    def put(self, envelope: Envelope[Any], /) -> None:
        self._envelopes.append(envelope)

    def get(self) -> Envelope[Any]:
        wait(self)
        return self._envelopes.popleft()

    def empty(self) -> bool:
        return not self._envelopes


class Reply(pykka.Future[Any]):
    """What an ask waits for; ``expire`` ends the wait as a timeout would."""

    def __init__(self) -> None:
        super().__init__()
        self._outcome: tuple[Any, BaseException | None] | None = None
        self.expired = False

    def ready(self) -> bool:
        return self._outcome is not None or self.expired

    def get(self, *, timeout: float | None = None) -> Any:
        while self._outcome is None:
            wait(self)
            if self._outcome is None and self.expired:
                raise pykka.Timeout(f"{timeout} seconds")
        value, error = self._outcome
        if error is not None:
            raise error
        return value

    def set(self, value: Any = None) -> None:
        self._outcome = (value, None)

    def set_exception(self, exc_info: Any = None) -> None:
        self._outcome = (None, (exc_info or sys.exc_info())[1])


class SimActor(SessionActor):
    """The session actor as a task of the process that starts it."""

    @staticmethod
    def _create_actor_inbox() -> Mailbox:
        return Mailbox()

    @staticmethod
    def _create_future() -> Reply:
        return Reply()

    def _start_actor_loop(self) -> None:
        task = current_task()
        name = f"{task.host} actor {self._key}"
        task.scheduler.spawn(name, self._actor_loop, task.host).urgent = True
