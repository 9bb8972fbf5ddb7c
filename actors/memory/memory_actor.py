"""One memory's actor: its rows change in the transaction of their events."""

import contextlib
import logging
import threading
from collections.abc import Callable, Sequence

import pykka
from msgspec import Struct

from actors.memory.erasing import ErasedMemories, erase, event_of
from actors.memory.events import CODEC, MemoryRecalled, MemoryRemembered
from actors.memory.identity import Identity
from actors.memory.rules import (
    Episode,
    EraseMemories,
    Forget,
    Recall,
    Remember,
    episode,
    forget,
    projected,
    remember,
    wanted_key,
)
from actors.session.commands import Command
from actors.session.events import Event, attributed
from persistence import chain
from persistence.errors import (
    ConflictError,
    CorruptLogError,
    PersistenceError,
    StoreUnavailableError,
)
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.memories import Memories
from persistence.records import (
    SHARED,
    Append,
    Claim,
    Head,
    NewEvent,
    Reproject,
    Summary,
)

logger = logging.getLogger(__name__)

UNLISTED = Summary(listed=False, active=False, body=b"")
ATTEMPTS_MAX = 20
"""How often something is decided again because another process was ahead."""


class Rebuild(Struct, frozen=True):
    """Make the rows anew, from the log alone."""


class Gathered(Struct, frozen=True):
    """There are commands to take; answered once those that came before are durable, or lost."""


class Inbox:
    """Commands that need no answer, such as episodes: they gather while an append is in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: list[Command] = []

    def put(self, commands: Sequence[Command]) -> None:
        """Add commands; the actor has to be told that there are some."""
        with self._lock:
            self._commands.extend(commands)

    def take(self) -> list[Command]:
        """Return all that has gathered."""
        with self._lock:
            commands, self._commands = self._commands, []
            return commands


class MemoryActor(pykka.ThreadingActor):
    """Serialises everything that happens to one memory in this process.

    Every process may write it: what another one was ahead of is decided again.

    ``Remember`` is answered with the id of the memory, ``Forget`` with whether there was one,
    ``EraseMemories`` with what was erased, ``Rebuild`` with nothing: each once it is durable, or
    it raises PersistenceError.
    """

    use_daemon_thread = True

    def __init__(
        self,
        identity: Identity,
        log: EventLog,
        memories: Memories,
        writer: GroupCommit,
        inbox: Inbox,
    ) -> None:
        super().__init__()
        self._stream_id = identity.stream_id
        self._log = log
        self._memories = memories
        self._writer = writer
        self._inbox = inbox
        self._head: Head | None = None
        self._last_memory_id = 0
        self._last_episode_id = 0

    def on_receive(self, message: Remember | Forget | EraseMemories | Rebuild | Gathered) -> object:
        """Handle one message; each kind says what it does."""
        if isinstance(message, Gathered):
            self._take_gathered()
            return None
        return self._again(lambda head: self._carry_out(head, message))

    def _carry_out(
        self, head: Head, message: Remember | Forget | EraseMemories | Rebuild
    ) -> object:
        if isinstance(message, Remember):
            return self._remember(head, message)
        if isinstance(message, EraseMemories):
            return self._erase(head, message)
        if isinstance(message, Forget):
            return self._forget(head, message)
        self._rebuild(head)
        return None

    def _again(self, write: Callable[[Head], object]) -> object:
        """Write from where the stream ends, anew where another process was ahead."""
        for _attempt in range(ATTEMPTS_MAX):
            with contextlib.suppress(ConflictError):
                return write(self._head or self._claim())
        raise StoreUnavailableError("Others write this memory all the time; try again.")

    def _take_gathered(self) -> None:
        commands = self._inbox.take()
        if not commands:
            return
        try:
            self._again(lambda head: self._take(head, commands))
        except PersistenceError:  # nobody waits who could be told
            logger.exception("%s notes are not in %s.", len(commands), self._stream_id)

    def _claim(self) -> Head:
        """Look where the stream ends: at first, and after an append that failed."""
        self._head = self._writer.submit(Claim(self._stream_id, SHARED)).result()
        counts = self._memories.counts(self._head.row)
        self._last_memory_id = counts.last_memory_id
        self._last_episode_id = counts.last_episode_id
        return self._head

    def _remember(self, head: Head, command: Remember) -> int:
        active = self._memories.by_key(head.row, wanted_key(command))
        events = remember(command, active, self._last_memory_id + 1)
        self._append(head, _asked_by(command, events))
        remembered = events[-1]
        assert isinstance(remembered, MemoryRemembered)
        self._last_memory_id = max(self._last_memory_id, remembered.memory_id)
        return remembered.memory_id

    def _forget(self, head: Head, command: Forget) -> bool:
        if command.memory_id is not None:
            meant = self._memories.by_id(head.row, command.memory_id)
        else:
            meant = self._memories.by_key(head.row, wanted_key(Remember(0, "", key=command.key)))
        events = forget(command, meant)
        self._append(head, _asked_by(command, events))
        return bool(events)

    def _take(self, head: Head, commands: Sequence[Command]) -> None:
        asked: list[tuple[str, Event]] = []
        for command in commands:
            if isinstance(command, Episode):
                self._last_episode_id += 1
                asked.append((command.principal, episode(command, self._last_episode_id)))
            elif isinstance(command, Recall):
                recalled = MemoryRecalled(
                    command.memory_ids,
                    command.episode_ids,
                    command.session_key,
                    command.prompt_id,
                    command.at,
                )
                asked.append((command.principal, recalled))
        self._append(head, asked)

    def _erase(self, head: Head, command: EraseMemories) -> ErasedMemories:
        append, erased = erase(self._log, head, command)
        if append is not None:
            self._head = None
            self._head = self._writer.submit(append).result()
        return erased

    def _rebuild(self, head: Head) -> None:
        stored = list(self._log.read(head))
        seq, _hash = chain.verify(self._stream_id, stored)
        if seq != head.version:
            raise CorruptLogError(self._stream_id, seq + 1, "the stream is cut off")
        events = [event_of(each) for each in stored]
        self._head = None
        self._head = self._writer.submit(Reproject(head, tuple(projected(events)))).result()

    def _append(self, head: Head, asked: Sequence[tuple[str, Event]]) -> None:
        if not asked:
            return
        new = tuple(
            [
                NewEvent(event.wire_name, event.schema_version, CODEC.encode(event), principal)
                for principal, event in asked
            ]
        )
        events = [event for _principal, event in asked]
        rows = projected(events, lambda memory_id: self._memories.by_id(head.row, memory_id))
        self._head = None  # unknown until the append has succeeded
        append = Append(head, new, UNLISTED, rows=tuple(rows))
        self._head = self._writer.submit(append).result()


def _asked_by(command: Command, events: Sequence[Event]) -> list[tuple[str, Event]]:
    return [(command.principal, event) for event in attributed(tuple(events), command.request)]
