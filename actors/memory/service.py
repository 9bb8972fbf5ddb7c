"""Memory for everyone in this process: by identity, in front of one actor for each."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import pykka
from msgspec import Struct

from actors.memory.erasing import ErasedMemories
from actors.memory.identity import Identity, identity_of
from actors.memory.memory_actor import Gathered, Inbox, MemoryActor, Rebuild
from actors.memory.recall import Recalled, recalled
from actors.memory.rules import Episode, EraseMemories, Forget, Recall, Remember
from persistence.errors import StoreUnavailableError
from persistence.event_log import EventLog
from persistence.group_commit import GroupCommit
from persistence.memories import Hit, Memories, MemoryCounts
from persistence.records import Head, MemoryRow

ASK_TIMEOUT_S = 60.0
SETTLE_TIMEOUT_S = 10.0
NOTHING = MemoryCounts(0, 0, 0, None, 0, 0, None, 0)


class MemorySettings(Protocol):
    """What memory reads of the settings."""

    memory_enabled: bool
    memory_identity: str
    memory_core_tokens_max: int
    memory_recall_results_max: int
    memory_writer_enabled: bool
    memory_writer_tokens_max: int


class _Loaded(Struct, frozen=True):
    actor: pykka.ActorRef[MemoryActor]
    inbox: Inbox


class MemoryService:
    """Reads and writes memories. ``settings`` gives them as they are now.

    Methods block on the database, and raise PersistenceError when it can't be reached.
    """

    def __init__(
        self,
        log: EventLog,
        memories: Memories,
        writer: GroupCommit,
        settings: Callable[[], MemorySettings],
        now_ms: Callable[[], int],
    ) -> None:
        self._log = log
        self._memories = memories
        self._writer = writer
        self._settings = settings
        self._now_ms = now_ms
        self._loaded: dict[str, _Loaded] = {}
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._begun: Counter[str] = Counter()  # runs that are over, by memory
        self._kept: Counter[str] = Counter()  # those of them whose words are kept
        self._writing: Counter[str] = Counter()  # those whose model may still add, by session

    @property
    def enabled(self) -> bool:
        """Tell whether there is memory at all."""
        return self._settings().memory_enabled

    def identity(self, session_key: str) -> Identity:
        """Return whose memory a session has."""
        return identity_of(session_key, self._settings().memory_identity)

    def counts(self, identity: Identity) -> MemoryCounts:
        """Return how much there is."""
        head = self._head(identity)
        return NOTHING if head is None else self._memories.counts(head.row)

    def core(self, identity: Identity) -> list[MemoryRow]:
        """Return the active core memories, newest update first."""
        head = self._head(identity)
        return [] if head is None else self._memories.core(head.row)

    def search(self, identity: Identity, query: str, limit: int, *, secrets: bool) -> list[Hit]:
        """Return what answers best; without ``secrets`` those are left out."""
        head = self._head(identity)
        if head is None:
            return []
        return self._memories.search(
            head.row, query, limit=limit, now_ms=self._now_ms(), secrets=secrets
        )

    def remember(self, identity: Identity, command: Remember) -> MemoryRow:
        """Remember something, durably, and return it."""
        memory_id = self._ask(identity, command)
        head = self._head(identity)
        assert head is not None
        assert isinstance(memory_id, int)
        row = self._memories.by_id(head.row, memory_id)
        assert row is not None
        return row

    def forget(self, identity: Identity, command: Forget) -> bool:
        """Forget a memory, durably; tell whether there was one."""
        if self._head(identity) is None:
            return False
        return bool(self._ask(identity, command))

    def erase(self, identity: Identity, command: EraseMemories) -> ErasedMemories:
        """Erase what came from a session, durably, from the log and from what is searched."""
        if self._head(identity) is None:
            return ErasedMemories()
        erased = self._ask(identity, command)
        assert isinstance(erased, ErasedMemories)
        return erased

    def rebuild(self, identity: Identity) -> MemoryCounts:
        """Make the projection anew, from the log alone, and return what it holds."""
        if self._head(identity) is not None:
            self._ask(identity, Rebuild())
        return self.counts(identity)

    def note(self, identity: Identity, *commands: Episode | Recall) -> None:
        """Have something recorded, soon, together with what others have to note."""
        loaded = self._load(identity)
        loaded.inbox.put(commands)
        loaded.actor.tell(Gathered())

    def settle_notes(self, identity: Identity) -> None:
        """Wait until what was noted before is recorded."""
        self._ask(identity, Gathered())

    def recall(self, identity: Identity, text: str) -> Recalled:
        """Return what a model is told beside a prompt."""
        settings = self._settings()
        hits = self.search(identity, text, settings.memory_recall_results_max, secrets=True)
        return recalled(self.core(identity), hits, core_tokens_max=settings.memory_core_tokens_max)

    def begin(self, session_key: str) -> None:
        """Say that a session's run is over, and will be remembered: ``settle`` waits for it."""
        with self._lock:
            self._writing[session_key] += 1
            self._begun[self.identity(session_key).key] += 1

    def kept(self, identity: Identity, runs: int) -> None:
        """Say that what was said in so many runs is kept, or lost."""
        with self._lock:
            self._kept[identity.key] += runs
            self._changed.notify_all()

    def end(self, session_key: str) -> None:
        """Say that a run's model has nothing more to add."""
        with self._lock:
            self._writing[session_key] -= 1
            if not self._writing[session_key]:
                del self._writing[session_key]
            self._changed.notify_all()

    def settle(self, session_key: str) -> None:
        """Wait for what was said in runs that are over, and for what the session's model adds.

        For SETTLE_TIMEOUT_S at most.
        """
        identity = self.identity(session_key).key
        with self._changed:
            begun = self._begun[identity]
            self._changed.wait_for(
                lambda: self._kept[identity] >= begun and not self._writing[session_key],
                SETTLE_TIMEOUT_S,
            )

    def close(self, timeout_s: float) -> None:
        """Wait for whatever is being remembered."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writing, timeout_s)

    def _head(self, identity: Identity) -> Head | None:
        return self._log.head(identity.stream_id)

    def _load(self, identity: Identity) -> _Loaded:
        loaded = self._loaded.get(identity.key)
        if loaded is None or not loaded.actor.is_alive():
            with self._lock:
                loaded = self._loaded.get(identity.key)
                if loaded is None or not loaded.actor.is_alive():
                    inbox = Inbox()
                    actor = MemoryActor.start(
                        identity, self._log, self._memories, self._writer, inbox
                    )
                    loaded = self._loaded[identity.key] = _Loaded(actor, inbox)
        return loaded

    def _ask(
        self, identity: Identity, message: Remember | Forget | EraseMemories | Rebuild | Gathered
    ) -> object:
        try:
            return self._load(identity).actor.ask(message, block=True, timeout=ASK_TIMEOUT_S)
        except (pykka.ActorDeadError, pykka.Timeout) as error:
            raise StoreUnavailableError(f"The memory {identity.key} does not answer.") from error
