"""The gateway's own actor: like a session's it appends first, then installs, then tells."""

from collections.abc import Callable

import msgspec
import pykka

from actors.gateway_state import CODEC, STREAM, GatewayState, decide, evolve
from actors.session.commands import Command
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import Append, Claim, Head, NewEvent, Summary

UNLISTED = Summary(listed=False, active=False, body=b"")


class Loaded(msgspec.Struct, frozen=True):
    """Nothing but a wait: answered once the state is loaded."""


class GatewayActor(pykka.ThreadingActor):
    """Serialises changes of the gateway's settings and tokens.

    ``on_change`` gets the state once when it is loaded, and after each change that is durable.
    A command is answered then, with whether it changed anything, or raises Rejection or
    PersistenceError. After an append that failed the log is read anew.
    """

    use_daemon_thread = True

    def __init__(
        self,
        log: EventLog,
        writer: GroupCommit,
        owner: str,
        on_change: Callable[[GatewayState], None],
    ) -> None:
        super().__init__()
        self._log = log
        self._writer = writer
        self._owner = owner
        self._on_change = on_change
        self._head: Head | None = None
        self._state = GatewayState()

    def on_receive(self, message: Command | Loaded) -> bool:
        """Append, install, tell."""
        head = self._head or self._load()
        if isinstance(message, Loaded):
            return True
        events = decide(message, self._state)
        if not events:
            return False
        new = tuple(
            [
                NewEvent(
                    event.wire_name, event.schema_version, CODEC.encode(event), message.principal
                )
                for event in events
            ]
        )
        self._head = None  # unknown until the append has succeeded
        self._head = self._writer.submit(Append(head, new, UNLISTED)).result()
        for event in events:
            self._state = evolve(self._state, event)
        self._on_change(self._state)
        return True

    def _load(self) -> Head:
        """Take in what was changed before. Raises PersistenceError."""
        head = self._writer.submit(Claim(STREAM, self._owner)).result()
        stored = list(self._log.read(head))
        seq, _hash = chain.verify(STREAM, stored)
        if seq != head.version:
            raise CorruptLogError(STREAM, seq + 1, "the stream is cut off")
        state = GatewayState()
        for each in stored:
            if each.payload is None:
                raise CorruptLogError(STREAM, each.seq, "the payload is erased")
            state = evolve(state, CODEC.decode(each.type, each.schema_version, each.payload))
        self._state = state
        self._head = head
        self._on_change(state)
        return head
