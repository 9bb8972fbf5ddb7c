"""The gateway's own actor: like a session's it appends first, then installs, then tells."""

import contextlib
import logging
from collections.abc import Callable

import msgspec
import pykka

from actors.gateway_state import CODEC, STREAM, EraseDeltas, GatewayState, decide, evolve
from actors.session.commands import Command
from actors.session.events import attributed
from persistence import chain
from persistence.errors import (
    ConflictError,
    CorruptLogError,
    PersistenceError,
    StoreUnavailableError,
)
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import SHARED, Append, Claim, Head, NewEvent, Summary

UNLISTED = Summary(listed=False, active=False, body=b"")
ATTEMPTS_MAX = 10
"""How often a command is decided again because another process was ahead."""

logger = logging.getLogger(__name__)


class Loaded(msgspec.Struct, frozen=True):
    """Nothing but a wait: answered once the state is loaded."""


class Refresh(msgspec.Struct, frozen=True):
    """Take in what other processes have changed."""


def read_state(log: EventLog, head: Head) -> GatewayState:
    """Return what the stream ``gateway`` says, verified. Raises CorruptLogError."""
    stored = list(log.read(head))
    seq, _hash = chain.verify(STREAM, stored)
    if seq != head.version:
        raise CorruptLogError(STREAM, seq + 1, "the stream is cut off")
    state = GatewayState()
    for each in stored:
        if each.payload is None:
            raise CorruptLogError(STREAM, each.seq, "the payload is erased")
        state = evolve(state, CODEC.decode(each.type, each.schema_version, each.payload))
    return state


class GatewayActor(pykka.ThreadingActor):
    """Serialises changes of the gateway's settings and tokens.

    ``on_change`` gets the state once when it is loaded, and after each change that is durable.
    A command is answered then, with whether it changed anything, or raises Rejection or
    PersistenceError. After an append that failed the log is read anew; one that another process
    was ahead of is decided again.
    """

    use_daemon_thread = True

    def __init__(
        self,
        log: EventLog,
        writer: GroupCommit,
        on_change: Callable[[GatewayState], None],
    ) -> None:
        super().__init__()
        self._log = log
        self._writer = writer
        self._on_change = on_change
        self._head: Head | None = None
        self._state = GatewayState()

    def on_receive(self, message: Command | Loaded | Refresh) -> bool:
        """Append, install, tell."""
        if isinstance(message, Loaded):
            self._head = self._head or self._load()
            return True
        if isinstance(message, Refresh):
            return self._refresh()
        for _attempt in range(ATTEMPTS_MAX):
            with contextlib.suppress(ConflictError):
                return self._carry_out(message)
        raise StoreUnavailableError("Others change the settings all the time; try again.")

    def _carry_out(self, command: Command) -> bool:
        head = self._head or self._load()
        events = attributed(decide(command, self._state), command.request)
        if not events:
            return False
        new = tuple(
            [
                NewEvent(
                    event.wire_name, event.schema_version, CODEC.encode(event), command.principal
                )
                for event in events
            ]
        )
        self._head = None  # unknown until the append has succeeded
        erasures = command.erasures if isinstance(command, EraseDeltas) else ()
        append = Append(head, new, UNLISTED, erasures=erasures)
        self._head = self._writer.submit(append).result()
        for event in events:
            self._state = evolve(self._state, event)
        self._on_change(self._state)
        return True

    def _refresh(self) -> bool:
        """Load anew where the log has gone on; nobody waits who could be told of an error."""
        try:
            head = self._log.head(STREAM)
            if head is None or (self._head is not None and self._head.version == head.version):
                return False
            self._load()
        except PersistenceError:
            logger.exception("The settings are as old as they were.")
            return False
        return True

    def _load(self) -> Head:
        """Take in what was changed before. Raises PersistenceError."""
        head = self._writer.submit(Claim(STREAM, SHARED)).result()
        state = read_state(self._log, head)
        self._state = state
        self._head = head
        self._on_change(state)
        return head
