"""What holds for the whole gateway: settings changed while it runs, event-sourced like a session.

Stream ``gateway``, event ``config.patched``. The actor appends first, then installs, then tells.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import msgspec
import pykka

from actors.session.codec import Codec
from actors.session.events import Event
from persistence import chain
from persistence.errors import CorruptLogError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.records import Append, Claim, Head, NewEvent, Summary

STREAM = "gateway"

Overrides = Mapping[str, Any]
"""Setting's name -> the value that replaces the configured one."""


class ConfigPatched(Event, frozen=True):
    """Settings were changed; a value of None goes back to the configured one."""

    wire_name: ClassVar[str] = "config.patched"
    changes: dict[str, Any]
    at: int


class Loaded(msgspec.Struct, frozen=True):
    """Nothing but a wait: answered once the overrides are loaded."""


class PatchConfig(msgspec.Struct, frozen=True):
    """Change settings. The values have been checked."""

    changes: dict[str, Any]
    at: int
    principal: str | None = None


CODEC = Codec((ConfigPatched,))


def evolve(overrides: Overrides, event: ConfigPatched) -> Overrides:
    """Return the overrides after the event."""
    merged = {**overrides, **event.changes}
    return {name: value for name, value in merged.items() if value is not None}


class GatewayActor(pykka.ThreadingActor):
    """Serialises changes of the gateway's settings.

    ``on_change`` gets the overrides once when they are loaded, and after each change that is
    durable. A PatchConfig is answered when it is, or raises PersistenceError.
    """

    use_daemon_thread = True

    def __init__(
        self,
        log: EventLog,
        writer: GroupCommit,
        owner: str,
        on_change: Callable[[Overrides], None],
    ) -> None:
        super().__init__()
        self._log = log
        self._writer = writer
        self._owner = owner
        self._on_change = on_change
        self._head: Head | None = None
        self._overrides: Overrides = {}

    def on_start(self) -> None:
        """Load what was changed before."""
        self._head = self._writer.submit(Claim(STREAM, self._owner)).result()
        stored = list(self._log.read(self._head))
        chain.verify(STREAM, stored)
        for each in stored:
            if each.payload is None:
                raise CorruptLogError(STREAM, each.seq, "the payload is erased")
            event = CODEC.decode(each.type, each.schema_version, each.payload)
            assert isinstance(event, ConfigPatched)
            self._overrides = evolve(self._overrides, event)
        self._on_change(self._overrides)

    def on_receive(self, message: PatchConfig | Loaded) -> None:
        """Append, install, tell."""
        if isinstance(message, Loaded):
            return
        event = ConfigPatched(message.changes, message.at)
        new = NewEvent(
            event.wire_name, event.schema_version, CODEC.encode(event), message.principal
        )
        unlisted = Summary(listed=False, active=False, body=b"")
        assert self._head is not None
        self._head = self._writer.submit(Append(self._head, (new,), unlisted)).result()
        self._overrides = evolve(self._overrides, event)
        self._on_change(self._overrides)
